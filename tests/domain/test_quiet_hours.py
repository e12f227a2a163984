"""Quiet hours as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btmd.domain.quiet_hours import DAY_MINUTES, WEEK_MINUTES, minutes_of_quiet, minutes_to_quiet, parse_quiet_hours
from btmd.domain.settings_schema import setting
from btmd.errors import InvalidValue

MON, FRI, SAT, SUN = 0, 4, 5, 6


def left(text: str, weekday: int, clock: str) -> int:
    return minutes_of_quiet(parse_quiet_hours(text), weekday, _minute(clock))


def until(text: str, weekday: int, clock: str) -> int:
    return minutes_to_quiet(parse_quiet_hours(text), weekday, _minute(clock))


def _minute(clock: str) -> int:
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


def test_a_night_begins_on_its_day_and_ends_on_the_next() -> None:
    text = "22:00-07:00 Mon-Fri"
    assert left(text, MON, "21:59") == 0
    assert left(text, MON, "22:00") == 9 * 60
    assert left(text, FRI, "23:30") == 7 * 60 + 30
    assert left(text, SAT, "06:59") == 1
    assert left(text, SAT, "07:00") == 0
    assert left(text, SAT, "22:30") == 0
    assert left(text, MON, "03:00") == 0, "the night before was a Sunday's"
    assert until(text, SAT, "22:00") == 2 * DAY_MINUTES
    assert until(text, MON, "21:00") == 60


def test_spans_that_follow_one_another_are_one() -> None:
    assert left("09:00-12:00; 12:00-13:30; 20:00-21:00", SUN, "09:00") == 270
    assert left("00:00-24:00 sat, sun", SAT, "00:00") == 2 * DAY_MINUTES
    assert left("00:00-24:00", MON, "10:00") == WEEK_MINUTES


def test_without_days_it_is_every_day_and_ranges_of_days_go_round() -> None:
    assert left("13:00-14:00", SUN, "13:15") == 45
    assert left("13:00-14:00 Sat-Mon", MON, "13:15") == 45
    assert left("13:00-14:00 Sat-Mon", FRI, "13:15") == 0


def test_nothing_is_no_quiet_hours() -> None:
    assert parse_quiet_hours("  ") == ()
    assert left("", MON, "12:00") == 0
    assert until("", MON, "12:00") == WEEK_MINUTES


@pytest.mark.parametrize(
    "wrong", ["night", "22:00", "22-07", "25:00-07:00", "22:61-07:00", "22:00-07:00 Mond-Fry", "7:0-8:00"]
)
def test_what_says_nothing_is_refused_with_an_example(wrong: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        setting("queue.quiet_hours").parse(wrong)
    assert "22:00-07:00 Mon-Fri" in refused.value.hint


@given(
    st.lists(
        st.tuples(st.integers(0, DAY_MINUTES - 1), st.integers(0, DAY_MINUTES - 1), st.integers(0, 6)), max_size=4
    ),
    st.integers(0, 6),
    st.integers(0, DAY_MINUTES - 1),
)
def test_it_is_quiet_for_just_as_long_as_it_says(spans: list[tuple[int, int, int]], weekday: int, minute: int) -> None:
    days = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    told = [f"{a // 60:02d}:{a % 60:02d}-{b // 60:02d}:{b % 60:02d} {days[day]}" for a, b, day in spans]
    parsed = parse_quiet_hours("; ".join(told))
    length = minutes_of_quiet(parsed, weekday, minute)
    for passed in {0, length // 2, length - 1} if length else ():
        at = (weekday * DAY_MINUTES + minute + passed) % WEEK_MINUTES
        assert minutes_of_quiet(parsed, *divmod(at, DAY_MINUTES)) > 0
    if length < WEEK_MINUTES:
        at = (weekday * DAY_MINUTES + minute + length) % WEEK_MINUTES
        assert minutes_of_quiet(parsed, *divmod(at, DAY_MINUTES)) == 0
