"""The history of one own preset: every definition it had, who gave it, and the one to take back."""

from collections.abc import Sequence

from msgspec import Struct

from btmd.domain.event import Actor
from btmd.domain.preset import Preset
from btmd.domain.preset_definition import (
    PresetChanged,
    PresetCreated,
    PresetDeleted,
    before_and_after,
    stream_name,
    values_of,
)
from btmd.errors import NotFound, UnknownPreset
from btmd.history import ChangeNotFound
from btmd.store.event_log import Store


class PresetChange(Struct, frozen=True):
    """What one command did to a preset; None stands for no preset. Times in microseconds since the epoch."""

    number: int
    recorded_at_us: int
    wall_at_us: int
    actor: Actor
    why: str
    before: Preset | None
    after: Preset | None

    @property
    def what(self) -> str:
        if self.before is None:
            return "created"
        return "deleted" if self.after is None else "changed"

    @property
    def differences(self) -> list[tuple[str, object, object]]:
        """Name, value before and value after of what a change differs in; nothing where one of them is no preset."""
        if self.before is None or self.after is None:
            return []
        before, after = values_of(self.before), values_of(self.after)
        return [(name, before[name], after[name]) for name in before if before[name] != after[name]]


async def changes_of_preset(store: Store, key: str) -> Sequence[PresetChange]:
    """Newest first; empty for one that never was."""
    found = []
    for row in reversed(await store.read_stream(stream_name(key))):
        happened = row.event
        if isinstance(happened, (PresetCreated, PresetChanged, PresetDeleted)):
            before, after = before_and_after(happened)
            found.append(
                PresetChange(row.seq, row.recorded_at_us, row.wall_at_us, row.actor, happened.why, before, after)
            )
    return found


async def change_of_preset(store: Store, key: str, number: int | None) -> PresetChange:
    """The change with this number, the newest for None. Raises UnknownPreset, ChangeNotFound."""
    found = await changes_of_preset(store, key)
    if not found:
        raise UnknownPreset(
            f"There never was a preset of your own called {key[:60]!r}.",
            hint="`btmctl presets list --all` shows those there are.",
        )
    wanted = next((one for one in found if number is None or one.number == number), None)
    if wanted is None:
        raise _no_change(key, number)
    return wanted


def _no_change(key: str, number: int | None) -> NotFound:
    return ChangeNotFound(
        f"{number} is no change of the preset {key}.", hint=f"`btmctl presets history {key}` lists them."
    )
