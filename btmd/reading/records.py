"""One record of a dataset as its file has it."""

from typing import Any, Final

from msgspec import Struct

MAX_RECORD_BYTES: Final = 64 * 1024 * 1024


class Record(Struct, frozen=True):
    """One record. Exactly one of ``fields`` and ``broken`` (a reason) is set. ``line`` is where it begins."""

    line: int
    fields: dict[str, Any] | None = None
    broken: str | None = None


def record_of(line: int, value: Any) -> Record:
    """A decoded value as a record."""
    if not isinstance(value, dict):
        return Record(line, broken="not an object with named fields")
    return Record(line, fields=value)
