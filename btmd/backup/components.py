"""What a backup can be made of: the log's streams by what they are about."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from btmd.backup.manifests import BackupKind, Omission
from btmd.errors import InvalidValue
from btmd.store.reader import pages
from btmd.store.recorded import Recorded


class Component(msgspec.Struct, frozen=True):
    """``streams`` are names; one that ends in ``-`` stands for all that begin so. ``missed``: without it, what then."""

    name: str
    streams: tuple[str, ...]
    missed: str


COMPONENTS = {
    component.name: component
    for component in (
        Component("settings", ("settings",), "A restore leaves the settings as they are."),
        Component("presets", ("preset-",), "A restore leaves the presets as they are."),
        Component("models", ("model-",), "A restore leaves the registered models as they are."),
        Component("datasets", ("dataset-",), "A restore leaves datasets and consents as they are."),
        Component("access", ("access", "access-"), "A restore leaves the roles as they are."),
        Component(
            "jobs",
            ("job-", "ticks-", "watch-"),
            "The history of the jobs, their losses and results, does not come back.",
        ),
    )
}
CONFIG = ("settings", "presets", "models", "datasets", "access")


def chosen(kind: BackupKind, only: Sequence[str]) -> tuple[str, ...]:
    """The components of a backup, in the order of the table; for a full one all. Raises InvalidValue."""
    if kind == "selective":
        unknown = sorted(set(only) - COMPONENTS.keys())
        if unknown or not only:
            raise InvalidValue(
                f"There is no part called '{unknown[0][:60]}'."
                if unknown
                else "A selective backup needs to know of what.",
                hint=f"Choose from: {', '.join(COMPONENTS)}.",
            )
        return tuple(name for name in COMPONENTS if name in only)
    if only:
        raise InvalidValue("Only a selective backup is made of chosen parts.", hint="Use --kind selective.")
    return CONFIG if kind == "config" else tuple(COMPONENTS)


def left_out(components: Iterable[str]) -> list[Omission]:
    """What a backup of these components does not hold of the log."""
    held = set(components)
    return [Omission(f"history of {name}", 0, 0, one.missed) for name, one in COMPONENTS.items() if name not in held]


def rows_of(
    connection: sqlite3.Connection, kind: BackupKind, components: Sequence[str], *, after: int, upto: int
) -> Iterator[list[Recorded]]:
    """The rows of a backup after ``after``, page by page: all of them for a full one, else those of its streams."""
    if kind == "full":
        yield from pages(connection, after, upto=upto)
        return
    names = {name for component in components for name in COMPONENTS[component].streams}
    starts = tuple(name for name in names if name.endswith("-"))
    for page in pages(connection, after, upto=upto):
        wanted = [row for row in page if row.stream in names or row.stream.startswith(starts)]
        if wanted:
            yield wanted
