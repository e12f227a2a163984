"""Hours of the week in which no training may start: ``22:00-07:00 Mon-Fri; 12:00-14:00 Sat,Sun``."""

import re

from msgspec import Struct

from btmd.errors import InvalidValue

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY_MINUTES = 24 * 60
WEEK_MINUTES = 7 * DAY_MINUTES
EXAMPLE = "22:00-07:00 Mon-Fri; 12:00-14:00 Sat,Sun"
_SPAN = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})(?:\s+(\S.*))?")


class QuietSpan(Struct, frozen=True):
    """Begins at ``begin_minute`` of the day on each of ``days`` (0 is Monday) and lasts ``length_minutes``."""

    begin_minute: int
    length_minutes: int
    days: frozenset[int]


def parse_quiet_hours(text: str) -> tuple[QuietSpan, ...]:
    """Spans parted by semicolons; without days every day. A span that ends before it begins ends the next day.

    Raises InvalidValue.
    """
    return tuple(_span(part.strip()) for part in text.split(";") if part.strip())


def minutes_of_quiet(spans: tuple[QuietSpan, ...], weekday: int, minute: int) -> int:
    """How much longer it stays quiet, in minutes, at a minute of the day; 0 where it is not quiet.

    Spans that follow one another are one. A week that is quiet throughout counts as a whole week.
    """
    now = weekday * DAY_MINUTES + minute
    passed = 0
    while passed < WEEK_MINUTES:
        left = max((_left(span, (now + passed) % WEEK_MINUTES) for span in spans), default=0)
        if not left:
            break
        passed += left
    return min(passed, WEEK_MINUTES)


def minutes_to_quiet(spans: tuple[QuietSpan, ...], weekday: int, minute: int) -> int:
    """In how many minutes the next span begins; a week without any."""
    now = weekday * DAY_MINUTES + minute
    begins = ((day * DAY_MINUTES + span.begin_minute - now) % WEEK_MINUTES for span in spans for day in span.days)
    return min(begins, default=WEEK_MINUTES)


def _left(span: QuietSpan, now: int) -> int:
    since = ((now - day * DAY_MINUTES - span.begin_minute) % WEEK_MINUTES for day in span.days)
    return max((span.length_minutes - one for one in since if one < span.length_minutes), default=0)


def _span(text: str) -> QuietSpan:
    match = _SPAN.fullmatch(text)
    if match is None:
        raise _wrong(text)
    begin = _minute(match[1], match[2], text)
    end = _minute(match[3], match[4], text)
    length = (end - begin) % DAY_MINUTES or DAY_MINUTES
    return QuietSpan(begin % DAY_MINUTES, length, _days(match[5] or "Mon-Sun", text))


def _minute(hours: str, minutes: str, text: str) -> int:
    minute = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or minute > DAY_MINUTES:
        raise _wrong(text)
    return minute


def _days(text: str, span: str) -> frozenset[int]:
    found: set[int] = set()
    for part in re.split(r"[,\s]+", text.strip()):
        first, _, last = part.partition("-")
        begin, end = _day(first, span), _day(last or first, span)
        found |= {(begin + day) % 7 for day in range((end - begin) % 7 + 1)}
    return frozenset(found)


def _day(text: str, span: str) -> int:
    name = text[:3].capitalize()
    if len(text) < 3 or name not in DAYS:
        raise _wrong(span)
    return DAYS.index(name)


def _wrong(text: str) -> InvalidValue:
    return InvalidValue(f"{text[:60]!r} are no quiet hours.", hint=f"They are written like this: {EXAMPLE}")
