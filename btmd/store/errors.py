"""What an append can be refused for, beyond the errors of the whole program."""

from btmd.errors import Conflict, Damaged, StoreFailed, Tampered


class VersionConflict(Conflict):
    """Somebody else appended to ``stream`` first: it is at ``actual``, not at ``expected``."""

    code, title = "version_conflict", "It was changed in the meantime"

    def __init__(self, stream: str, *, expected: int, actual: int) -> None:
        super().__init__(
            f"{stream} is at version {actual}, not {expected}: it was changed in the meantime.",
            hint="Look at its present state and ask again.",
        )
        self.stream = stream
        self.expected = expected
        self.actual = actual


class DuplicateEvent(Conflict):
    """The log holds an event with this id already."""

    code, title = "duplicate_event", "The event is recorded already"

    def __init__(self, event_id: str) -> None:
        super().__init__(f"The event {event_id} is recorded already.")
        self.event_id = event_id


class EventUndecodable(Damaged):
    """An event of a known type and version does not have that type's fields."""

    code, title = "event_undecodable", "An event cannot be read"


class SegmentDamaged(Damaged):
    """Condensed ticks, of which ``first_seq`` is the first, cannot be read."""

    code, title = "segment_damaged", "Condensed ticks cannot be read"

    def __init__(self, first_seq: int, detail: str, *, hint: str = "Restore the database from a backup.") -> None:
        super().__init__(detail, hint=hint)
        self.first_seq = first_seq


class SegmentTampered(Tampered):
    """Condensed ticks, of which ``first_seq`` is the first, are sound but not those that were put there."""

    code, title = "segment_tampered", "Condensed ticks were exchanged"

    def __init__(self, first_seq: int, detail: str) -> None:
        super().__init__(detail, hint="Restore the database from a backup.")
        self.first_seq = first_seq


class SchemaChanged(Damaged):
    """The tables or triggers of the log are not the ones this program made."""

    code, title = "schema_changed", "The database's tables were changed"


class StoreBusy(StoreFailed):
    """Another program holds the database locked for writing."""

    code, title = "store_busy", "The database is locked by another program"
