"""Moments as people type them."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btmd.errors import InvalidValue
from btmd.moments import parse_moment

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 22, 15, 30, 10, 250_000, BERLIN)


def us(moment: datetime) -> int:
    return (moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def read(text: str) -> int:
    return parse_moment(text, now_us=us(NOW), zone=BERLIN)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("now", NOW),
        (" Now ", NOW),
        ("2 hours ago", NOW - timedelta(hours=2)),
        ("an hour ago", NOW - timedelta(hours=1)),
        ("1 minute ago", NOW - timedelta(minutes=1)),
        ("10  seconds   ago", NOW - timedelta(seconds=10)),
        ("3 weeks ago", NOW - timedelta(weeks=3)),
        ("yesterday 18:00", datetime(2026, 11, 21, 18, 0, tzinfo=BERLIN)),
        ("yesterday at 18:00:05", datetime(2026, 11, 21, 18, 0, 5, tzinfo=BERLIN)),
        ("yesterday", NOW - timedelta(days=1)),
        ("today", datetime(2026, 11, 22, tzinfo=BERLIN)),
        ("today 9:05", datetime(2026, 11, 22, 9, 5, tzinfo=BERLIN)),
        ("14:00", datetime(2026, 11, 22, 14, 0, tzinfo=BERLIN)),
        ("2026-11-22 14:00", datetime(2026, 11, 22, 14, 0, tzinfo=BERLIN)),
        ("2026-07-01 14:00", datetime(2026, 7, 1, 12, 0, tzinfo=UTC)),
        ("2026-11-22", datetime(2026, 11, 22, tzinfo=BERLIN)),
        ("2026-11-22T14:00:00Z", datetime(2026, 11, 22, 14, 0, tzinfo=UTC)),
        ("2026-11-22t14:00:00.5z", datetime(2026, 11, 22, 14, 0, 0, 500_000, UTC)),
        ("2026-11-22T14:00:00.123456+02:00", datetime(2026, 11, 22, 12, 0, 0, 123_456, UTC)),
        ("2026-11-22 14:00 -0500", datetime(2026, 11, 22, 19, 0, tzinfo=UTC)),
    ],
)
def test_each_form(text: str, meant: datetime) -> None:
    assert read(text) == us(meant)


@pytest.mark.parametrize(
    "text",
    [
        *("", "soon", "ago", "2 hours", "two hours ago", "25:00", "2026-13-01", "2026-02-30 10:00", "0001-01-01", "12"),
        *("999999999 weeks ago", "9999-12-31T23:59:59-14:00", "2026-11-22T14:00:00Zz", "yesterday tomorrow", "\0"),
    ],
)
def test_what_is_no_time_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        read(text)
    assert "2 hours ago" in caught.value.hint


@given(st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_what_the_api_writes_is_read_as_the_same_moment(moment: datetime) -> None:
    assert read(moment.isoformat()) == us(moment)


@given(st.text(max_size=40))
def test_any_text_is_a_moment_or_refused(text: str) -> None:
    try:
        assert isinstance(read(text), int)
    except InvalidValue:
        return
