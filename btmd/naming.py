"""From what a person types to the thing meant: a full id, a unique prefix of one, a name, or ``last``."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from sqlmodel.ext.asyncio.session import AsyncSession

from btmd.errors import BackupNotFound, Conflict, DatasetNotFound, InvalidValue, JobNotFound, ModelNotFound, NotFound
from btmd.hub_cache import is_hub_id
from btmd.projections.backup import BackupRow
from btmd.projections.dataset import DatasetRow, datasets, removed_datasets
from btmd.projections.job import JobRow, job, jobs_named, newest_job
from btmd.projections.model import ModelRow, models

LONGEST_NAME = 200
LONGEST_ID = 80

Row = TypeVar("Row")


class Ambiguous(Conflict):
    code, title = "ambiguous", "More than one thing is called so"


def slug(name: str) -> str:
    """The id made from a name: lower-case letters, digits, ``.``, ``_`` and ``-``. Raises InvalidValue."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    made = re.sub(r"[^a-z0-9._]+", "-", plain).strip("-._")[:LONGEST_ID]
    if not made or len(name) > LONGEST_NAME:
        raise InvalidValue(
            "This name cannot be used.", hint=f"Use letters and digits, at most {LONGEST_NAME} characters."
        )
    return made


async def find_model(session: AsyncSession, text: str) -> ModelRow:
    """Raises ModelNotFound, Ambiguous."""
    found = await models(session)
    missing = ModelNotFound("", hint="")
    try:
        return _one(found, text, lambda row: (row.model_id, row.name), missing, "model", "btmctl models list")
    except ModelNotFound as error:
        if is_hub_id(text):
            error.hint = f"`btmctl models pull {text}` fetches it, `btmctl models add PATH` takes one from the disk."
        raise


async def find_dataset(session: AsyncSession, text: str, *, removed: bool = False) -> DatasetRow:
    """With ``removed`` also one that was removed and not erased. Raises DatasetNotFound, Ambiguous."""
    found = await datasets(session)
    if removed:
        found = [*found, *await removed_datasets(session)]
    missing = DatasetNotFound("", hint="")
    return _one(found, text, lambda row: (row.dataset_id, row.name), missing, "dataset", "btmctl datasets list")


async def find_job(session: AsyncSession, text: str) -> JobRow:
    """Raises JobNotFound, Ambiguous."""
    if text == "last":
        newest = await newest_job(session)
        if newest is None:
            raise JobNotFound("There is no job yet.", hint="`btmctl train MODEL DATASET` starts one.")
        return newest
    exact = await job(session, text)
    if exact is not None:
        return exact
    found = await jobs_named(session, text) if text else ()
    # Of several jobs with the same name the newest is meant; a prefix has to be unique.
    named = [row for row in found if row.name == text][:1]
    return _one(
        named or found, text, lambda row: (row.job_id, row.name), JobNotFound("", hint=""), "job", "btmctl jobs list"
    )


def find_backup(rows: Sequence[BackupRow], text: str, own_folder: str) -> BackupRow:
    """By id, description or ``last``; ``rows`` are newest first, and one in ``own_folder`` is meant before its copy.

    Raises BackupNotFound, Ambiguous.
    """
    if text == "last":
        if not rows:
            raise BackupNotFound("There is no backup yet.", hint="`btmctl backup create` makes one.")
        return rows[0]
    different: dict[str, BackupRow] = {}
    for row in sorted(rows, key=lambda row: row.folder != own_folder):
        different.setdefault(row.name, row)
    found = [row for row in rows if different[row.name] is row]
    # A whole name of 64 digits begins with the id.
    text = text[:16] if text in different else text
    missing = BackupNotFound("", hint="")
    return _one(found, text, lambda row: (row.backup_id, row.description), missing, "backup", "btmctl backup list")


def _one(
    rows: Sequence[Row],
    text: str,
    names_of: Callable[[Row], tuple[str, str]],
    missing: NotFound,
    noun: str,
    listing: str,
) -> Row:
    for exact in (0, 1):
        for row in rows:
            if names_of(row)[exact] == text:
                return row
    found = [row for row in rows if text and names_of(row)[0].startswith(text.lower())]
    if len(found) == 1:
        return found[0]
    shown = text if len(text) <= 60 else text[:57] + "..."
    if found:
        several = ", ".join(_first(names_of(row)[0] for row in found))
        raise Ambiguous(f"{shown!r} may mean {several}.", hint="Give more of the id.")
    raise type(missing)(f"There is no {noun} called {shown!r}.", hint=f"`{listing}` shows those there are.")


def _first(ids: Iterable[str], most: int = 5) -> list[str]:
    listed = sorted(ids)
    return listed[:most] + (["..."] if len(listed) > most else [])
