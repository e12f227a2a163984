"""Puts values of a column in order that may be numbers or times in any of the usual forms."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final

_DAYS: Final = (
    "%d.%m.%Y",
    "%d.%m.%y",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%m/%d/%y",
    "%Y/%m/%d",
    "%d-%m-%Y",
    "%d %b %Y",
    "%b %d, %Y",
)
_CLOCKS: Final = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", ", %H:%M", ", %H:%M:%S", ", %I:%M %p")
_LONGEST_CHARS: Final = 64

Key = int | float
_Reader = Callable[[Any], Key]


def _number(value: Any) -> Key:
    if isinstance(value, bool):
        raise ValueError
    number = value if isinstance(value, int | float) else float(value) if "." in value else int(value)
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError
    return number if -(2**63) <= number < 2**63 else float(number)


def _microseconds(moment: datetime) -> int:
    # Without a zone the same one is meant everywhere in a file; which one does not change the order.
    known = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    since = known - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _iso(value: Any) -> Key:
    if isinstance(value, datetime):
        return _microseconds(value)
    if isinstance(value, date):
        return _microseconds(datetime(value.year, value.month, value.day))
    return _microseconds(datetime.fromisoformat(value.removesuffix(" UTC")))


def _mail(value: Any) -> Key:
    from email.utils import parsedate_to_datetime

    return _microseconds(parsedate_to_datetime(value))


def _clock(value: Any) -> Key:
    hours, _, rest = value.partition(":")
    minutes, _, seconds = rest.partition(":")
    if not rest or int(hours) > 23 or int(minutes) > 59:
        raise ValueError
    return (int(hours) * 60 + int(minutes)) * 60 + float(seconds or 0)


def _in_form(form: str) -> _Reader:
    return lambda value: _microseconds(datetime.strptime(value, form))


_FORMS: Final[tuple[_Reader, ...]] = (
    _number,
    _iso,
    _mail,
    _clock,
    *(_in_form(day + clock) for clock in _CLOCKS for day in _DAYS),
)


class Order:
    """Learns from the values it sees in which form a column is written; ``key`` then gives what to sort by."""

    def __init__(self) -> None:
        self._forms = _FORMS

    def see(self, value: Any) -> bool:
        """Whether the value fits to those before it."""
        fitting = tuple(form for form in self._forms if _read(form, value) is not None)
        if not fitting:
            return False
        self._forms = fitting
        return True

    def key(self, value: Any) -> Key:
        """What to sort by; the form is the first that fits all values seen."""
        found = _read(self._forms[0], value)
        return 0 if found is None else found


def _read(form: _Reader, value: Any) -> Key | None:
    if isinstance(value, str):
        value = value.strip()
        if not 0 < len(value) <= _LONGEST_CHARS:
            return None
    elif form is not (_iso if isinstance(value, date) else _number):
        return None
    try:
        return form(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def is_orderable(values: Sequence[Any]) -> bool:
    """Whether all of these that are there, and at least one is, are numbers or times of one form."""
    there = [value for value in values if value not in (None, "")]
    order = Order()
    return bool(there) and all(order.see(value) for value in there)
