"""The settings file as a door: a content that stood still is taken or rejected as a whole, and recorded either way."""

from collections.abc import Mapping

from msgspec import Struct

from btmd.domain.event import Event, event


@event("SettingsFileSaved")
class SettingsFileSaved(Event, frozen=True):
    """Somebody saved the file with this content (SHA-256, hex); the changes it makes follow.

    ``took_back`` names settings that got the value they had before a newer change by another way: an intended revert,
    or the save of a copy that was open too long.
    """

    sha256: str
    took_back: tuple[str, ...] = ()


@event("SettingsFileRejected")
class SettingsFileRejected(Event, frozen=True):
    """The content cannot be used and changed nothing. ``line`` counts from 1, None where no line is to blame."""

    sha256: str
    line: int | None
    reason: str


class TakeFile(Struct, frozen=True):
    """Take the changes that a saved file makes; None takes the default again."""

    changes: Mapping[str, object]
    sha256: str
    took_back: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        if self.took_back:
            return f"saved in the settings file; took back a newer value of {', '.join(self.took_back)}"
        return "saved in the settings file"


class RejectFile(Struct, frozen=True):
    sha256: str
    line: int | None
    reason: str
