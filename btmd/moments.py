"""Moments as people type them: ``now``, ``2 hours ago``, ``yesterday 18:00``, ``2026-11-22 14:00``, RFC 3339.

Both sides read moments here: btmctl with the zone of the person who asks, the daemon with its own.
"""

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from btmd.errors import InvalidValue

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AGO = re.compile(r"(an?|\d{1,9})\s+(second|minute|hour|day|week)s?\s+ago")
_DAY = re.compile(r"(?:(today|yesterday)\s*)?(?:(?:at\s+)?(\d{1,2}):(\d{2})(?::(\d{2}))?)?")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([ t]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?\s*(z|[+-]\d{2}:?\d{2})?)?")
HINT = "Give it as `now`, `2 hours ago`, `yesterday 18:00`, `2026-11-22 14:00` (local time) or RFC 3339."


def parse_moment(text: str, *, now_us: int, zone: tzinfo | None = None) -> int:
    """Microseconds since the epoch. ``zone`` is that of times without one; None: the system's.

    ``yesterday`` alone is this time of day yesterday; a date alone is its first moment. Raises InvalidValue.
    """
    words = " ".join(text.split()).lower()
    now = (_EPOCH + timedelta(microseconds=now_us)).astimezone(zone)
    try:
        found = _ago(words, now) or _day(words, now, zone) or _date(words, zone)
        if found is not None:
            return (found.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        # 25:00, the 30th of February, the year 0: in the right form, but no time.
        pass
    raise InvalidValue(f"{text[:60]!r} is not a time.", hint=HINT)


def _ago(words: str, now: datetime) -> datetime | None:
    if words == "now":
        return now
    match = _AGO.fullmatch(words)
    if match is None:
        return None
    count = 1 if match[1] in ("a", "an") else int(match[1])
    return now - timedelta(**{f"{match[2]}s": count})


def _day(words: str, now: datetime, zone: tzinfo | None) -> datetime | None:
    """A time of today or yesterday."""
    match = _DAY.fullmatch(words)
    if match is None or not words:
        return None
    day = now.date() - timedelta(days=match[1] == "yesterday")
    if match[2] is not None:
        return _local(day, time(int(match[2]), int(match[3]), int(match[4] or 0)), zone)
    return _local(day, now.time() if match[1] == "yesterday" else time(), zone)


def _date(words: str, zone: tzinfo | None) -> datetime | None:
    match = _DATE.fullmatch(words)
    if match is None:
        return None
    found = datetime.fromisoformat(words.upper().replace(" ", "T", 1).replace(" ", ""))
    return found if found.tzinfo is not None else _local(found.date(), found.time(), zone)


def _local(day: date, at: time, zone: tzinfo | None) -> datetime:
    plain = datetime.combine(day, at)
    # Without a zone the system's rules for that very day count, not today's offset.
    return plain.astimezone() if zone is None else plain.replace(tzinfo=zone)
