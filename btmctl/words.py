"""Numbers, times and sizes as people read them."""

import math
from typing import Any


def size(size_bytes: object) -> str:
    """Bytes as ``98 MB`` (powers of ten)."""
    if not isinstance(size_bytes, (int, float)):
        return ""
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if amount >= 100 or unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def count(number: object) -> str:
    """A large number as ``134.5 M``."""
    if not isinstance(number, (int, float)):
        return ""
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.1f} {unit}"
    return str(number)


def exactly(number: object) -> str:
    """A number of rows or lines as ``1,141``, all of its digits: a person looks for the one that is missing."""
    return f"{number:,}" if isinstance(number, int) else ""


def user(uid: int | None) -> str:
    """The name of a user of this machine, or the number of one that has none."""
    if uid is None:
        return ""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def moment(text: object) -> str:
    """An RFC 3339 time as local time to the minute."""
    from datetime import datetime

    if not isinstance(text, str) or not text:
        return ""
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return text


def since_us(text: str | None, command: str) -> int | None:
    """What follows ``--since`` as microseconds since the epoch. Raises UsageError."""
    if text is None:
        return None
    from time import time_ns

    from btmctl.errors import UsageError
    from btmd.errors import InvalidValue
    from btmd.moments import parse_moment

    try:
        return parse_moment(text, now_us=time_ns() // 1000)
    except InvalidValue as error:
        raise UsageError(error.detail, error.hint, f"{command} --since 2026-11-22") from None


def moment_us(microseconds: int) -> str:
    """Microseconds since the epoch as local time to the minute."""
    from datetime import datetime

    return datetime.fromtimestamp(microseconds / 1e6).astimezone().strftime("%Y-%m-%d %H:%M")


def rfc3339(microseconds: int) -> str:
    """Microseconds since the epoch as the daemon writes a time."""
    from datetime import UTC, datetime, timedelta

    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def at(text: str) -> str:
    """A time as it was typed here, or the number of an event, for the daemon. Raises UsageError."""
    from datetime import UTC, datetime, timedelta
    from time import time_ns

    from btmctl.errors import UsageError
    from btmd.errors import InvalidValue
    from btmd.moments import parse_moment

    if text.strip().lower() == "now" or text.strip().isdigit():
        return text.strip()
    try:
        moment_us = parse_moment(text, now_us=time_ns() // 1000)
    except InvalidValue as error:
        raise UsageError(error.detail, "", error.hint) from None
    # What a person types without a zone is meant in theirs, and the daemon may live in another.
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment_us)).isoformat()


def event_number(text: str) -> int:
    """The number of an event, or 0 for what was before all of them. Raises UsageError."""
    from btmctl.errors import UsageError

    if not text.strip().isascii() or not text.strip().isdigit():
        raise UsageError(
            f"{text!r} is no event's number.",
            "They count from 1; 0 is before all of them.",
            "btmctl config history shows those of the settings, btmctl events all.",
        )
    if len(text.strip()) > 18:
        raise UsageError(
            f"There is no event {text.strip()[:18]}...",
            "No log is that long.",
            "btmctl config history shows those of the settings, btmctl events all.",
        )
    return int(text)


def change_number(text: str) -> int:
    """The number of a change, which is that of an event. Raises UsageError."""
    from btmctl.errors import UsageError

    number = event_number(text)
    if not number:
        raise UsageError("No change has the number 0.", "They count from 1.", "btmctl config history shows them.")
    return number


SHORTEST_TIME_S = 20
LONGEST_CONFIRMATION_S = 7 * 86_400


def duration_s(text: str) -> float:
    """``10m``, ``90s``, ``2h``, ``1d`` in seconds. Raises UsageError."""
    from btmctl.errors import UsageError

    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    number, unit = text.strip()[:-1], text.strip()[-1:]
    if unit not in units or not number.isascii() or not number.isdigit():
        raise UsageError(f"{text!r} is no time span.", "It is a number and s, m, h or d.", "--confirm 10m")
    # Too long a text is no number that Python would read.
    whole_s = int(number) * units[unit] if len(number) <= 18 else LONGEST_CONFIRMATION_S + 1
    if not whole_s:
        raise UsageError(f"{text!r} is no time at all.", "At least one second has to pass.", "--confirm 10m")
    if whole_s > LONGEST_CONFIRMATION_S:
        raise UsageError(f"{text[:20]!r} is too long.", "A change waits for at most 7 days.", "--confirm 7d")
    return float(whole_s)


def time_limit_s(text: str) -> float:
    """``90s``, ``3m``, ``2h``, ``1h30m`` in seconds. Raises UsageError."""
    import re

    from btmctl.errors import UsageError

    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    parts = re.findall(r"([0-9]{1,9})([smhd])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        raise UsageError(f"{text[:20]!r} is no time span.", "It is numbers with s, m, h or d.", "--time 1h30m")
    seconds = sum(int(number) * units[unit] for number, unit in parts)
    if seconds < SHORTEST_TIME_S:
        why = f"Loading and measuring alone take about that long; the least is {SHORTEST_TIME_S} seconds."
        raise UsageError(f"{text[:20]!r} is too short to train anything.", why, "--time 3m")
    return float(seconds)


def span(seconds: float) -> str:
    """Seconds as ``1h 5m`` or ``3m 20s``."""
    whole = max(0, int(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, rest_s = divmod(rest, 60)
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {rest_s}s" if minutes else f"{rest_s}s"


def figure(number: object, digits: int = 4) -> str:
    """A loss or a rate with so many significant digits."""
    return f"{number:.{digits}g}" if isinstance(number, (int, float)) else ""


def value(thing: Any) -> str:
    """A setting's value as it would be typed."""
    if isinstance(thing, bool):
        return "yes" if thing else "no"
    if isinstance(thing, (list, tuple)):
        return ", ".join(map(str, thing))
    return "" if thing is None else str(thing)


def given(text: str) -> Any:
    """What was typed after ``=``: a number or yes/no where it is one, else the text."""
    lowered = text.strip().lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    for kind in (int, float):
        try:
            return kind(lowered)
        except ValueError:
            continue
    return text


def pairs(assignments: list[str], option: str, example: str = "--set num_epochs=2") -> dict[str, Any]:
    """``["a=1", "b=x"]`` as a dictionary. Raises UsageError, which shows ``example``."""
    from btmctl.errors import UsageError

    found: dict[str, Any] = {}
    for one in assignments:
        key, equals, text = one.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"{option} needs the form key=value.", f"{one!r} has no key or no =.", example)
        value = given(text)
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(
                f"{key.strip()} cannot be {text.strip()}.", "It takes a finite number.", f"{option} KEY=0.5"
            )
        found[key.strip()] = value
    return found


def place(facts: dict[str, Any], line: int) -> str:
    """Where a row stands, in words: its line, page or paragraph, and of a folder the file."""
    part = next((part for part in reversed(facts.get("files", ())) if part["first_line"] <= line), None)
    if part is None:
        return f"{facts.get('unit', 'line')} {line}"
    return f"{part['name']}, {part['unit']} {line - part['first_line'] + 1}"


def places(facts: dict[str, Any], lines: list[int], count: int, *, most: int = 8) -> str:
    """Where ``count`` rows stand, of which ``lines`` are known: ``lines 2, 4, 7, ...``, or of a folder by file."""
    shown = lines[:most]
    more = ", ..." if count > len(shown) else ""
    if facts.get("files"):
        return "; ".join(place(facts, line) for line in shown) + more
    unit = facts.get("unit", "line")
    return f"{unit if count == 1 else unit + 's'} {', '.join(map(str, shown))}{more}"
