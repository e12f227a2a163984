"""A file in the presets folder as a door: what stood still in it is taken or rejected as a whole, and recorded."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from btmd.domain.event import Event, event
from btmd.domain.preset import Preset


@event("PresetFileSaved")
class PresetFileSaved(Event, frozen=True):
    """Somebody saved the file with this content (SHA-256, hex), or removed it (an empty one); what it makes follows.

    ``took_back`` names values that got back what they had before a newer change by another way: an intended revert, or
    the save of a copy that was open too long.
    """

    key: str
    sha256: str
    took_back: tuple[str, ...] = ()


@event("PresetFileRejected")
class PresetFileRejected(Event, frozen=True):
    """The content cannot be used and changed nothing. ``line`` counts from 1, None where no line is to blame.

    ``key`` is the file's name without its ending, even one that no preset can have.
    """

    key: str
    sha256: str
    line: int | None
    reason: str


class TakePresetFile(Struct, frozen=True):
    """Take what a saved file makes of a preset: ``changes`` to the one there is, ``whole`` where there is none.

    ``whole`` is None where the file was removed.
    """

    key: str
    whole: Preset | None
    changes: Mapping[str, Any]
    sha256: str
    took_back: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        if self.whole is None:
            return "its file was removed"
        if self.took_back:
            return f"saved in its file; took back a newer value of {', '.join(self.took_back)}"
        return "saved in its file"


class RejectPresetFile(Struct, frozen=True):
    key: str
    sha256: str
    line: int | None
    reason: str
