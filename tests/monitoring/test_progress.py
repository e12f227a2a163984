"""Progress as a person reads it."""

import re
from datetime import UTC, datetime
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from btmd.domain.units import format_bytes, format_count, format_duration
from btmd.monitoring import AttemptSpan, JobProgress, TickPoint, estimate_remaining, progress
from btmd.monitoring.pace import finish_text
from btmd.monitoring.texts import STATUS

S = 1_000_000
NOW = int(datetime(2026, 11, 22, 14, 0, tzinfo=UTC).timestamp()) * S
JOB = JobProgress(
    "abcdefghij",
    "org/model-name",
    "training",
    step=40,
    total_steps=100,
    epoch=0,
    total_epochs=2,
    attempts=(AttemptSpan(NOW - 90 * S),),
    last_tick_us=NOW,
    current_loss=2.0,
    best_loss=1.9,
)


def ticks(first: int, last: int, seconds_a_step: float, loss: float = 2.0) -> list[TickPoint]:
    return [TickPoint(step, (step - first + 1) * seconds_a_step, loss) for step in range(first, last + 1)]


CONTRACT = {
    "queued": "Getting ready...",
    "validating": "Checking everything...",
    "preparing": "Setting up training...",
    "training": "Training in progress",
    "paused": "Training paused",
    "recovering": "Recovering...",
    "needs_attention": "Waiting for your answer",
    "evaluating": "Evaluating results...",
    "completed": "Training completed!",
    "failed": "Training encountered an issue",
    "cancelled": "Training was cancelled",
}


def test_status_texts_are_the_contracts_letter_for_letter() -> None:
    assert CONTRACT == STATUS


@pytest.mark.parametrize("state", sorted(CONTRACT))
@pytest.mark.parametrize("asked", ["", "pause", "stop", "cancel"])
def test_every_state_has_a_sentence(state: str, asked: str) -> None:
    shown = progress(replace(JOB, state=state, asked=asked), ticks(1, 40, 1.0), now_us=NOW)
    assert shown.status == CONTRACT[state]
    assert shown.state == state
    assert shown.status_message.endswith(".")
    assert "{" not in shown.status_message


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (3900, "1h 5m"),
        (200, "3m 20s"),
        (12, "12s"),
        (0, "0s"),
        (59.9, "59s"),
        (60, "1m 0s"),
        (3600, "1h 0m"),
        (90_000, "25h 0m"),
        (-5, "0s"),
    ],
)
def test_durations_are_written_as_the_contract_says(seconds: float, expected: str) -> None:
    assert format_duration(seconds) == expected


def test_the_contracts_fields() -> None:
    shown = progress(replace(JOB, memory_bytes=3 * 1024**3, learning_rate=1e-4), ticks(1, 40, 1.0), now_us=NOW)
    assert (shown.model_name, shown.progress_percentage, shown.current_epoch) == ("model-name", 40.0, 0)
    assert (shown.elapsed_time, shown.estimated_remaining) == ("1m 30s", "1m 0s")
    assert (shown.current_loss, shown.best_loss, shown.memory_usage_gb) == (2.0, 1.9, 3.0)


def test_the_rest_is_unknown_until_this_attempt_has_made_steps() -> None:
    assert progress(JOB, [], now_us=NOW).estimated_remaining == "Calculating..."
    assert progress(JOB, ticks(40, 40, 1.0), now_us=NOW).estimated_remaining == "Calculating..."
    assert (
        progress(replace(JOB, state="preparing"), ticks(1, 40, 1.0), now_us=NOW).estimated_remaining == "Calculating..."
    )


def test_after_a_resume_only_this_attempts_speed_counts() -> None:
    resumed = replace(JOB, step=902, total_steps=1000, resumed_from_step=900)
    known = estimate_remaining(resumed, ticks(901, 902, 10.0), NOW)
    assert known is not None
    assert known.middle_s == pytest.approx(980)


def test_steps_of_earlier_attempts_are_passed_over() -> None:
    resumed = replace(JOB, step=902, total_steps=1000, resumed_from_step=900)
    known = estimate_remaining(resumed, [*ticks(1, 900, 0.01), *ticks(901, 902, 10.0)], NOW)
    assert known is not None
    assert known.middle_s == pytest.approx(980)


def test_the_recent_pace_counts_more_than_the_old_one() -> None:
    slow_start = [*ticks(1, 20, 10.0), *(TickPoint(step, 200 + (step - 20) * 1.0, 2.0) for step in range(21, 41))]
    known = estimate_remaining(JOB, slow_start, NOW)
    assert known is not None
    assert known.middle_s == pytest.approx(60)


def test_measurements_still_to_come_are_counted() -> None:
    job = replace(JOB, eval_every=20, evaluation_s=5.0)
    known = estimate_remaining(job, ticks(1, 40, 1.0), NOW)
    assert known is not None
    assert known.middle_s == pytest.approx(60 + 3 * 5)


def test_a_trainer_that_hangs_does_not_come_nearer_to_its_end() -> None:
    hanging = replace(JOB, last_tick_us=NOW - 3600 * S)
    known = estimate_remaining(hanging, ticks(1, 40, 1.0), NOW)
    assert known is not None
    assert known.middle_s >= 58


@given(
    st.integers(2, 300),
    st.integers(0, 1000),
    st.lists(st.floats(0, 100), min_size=2, max_size=300),
    st.integers(0, 10**9),
)
@settings(max_examples=150)
def test_the_range_holds_the_middle_whatever_the_ticks(step: int, more: int, paces: list[float], late_us: int) -> None:
    elapsed, seen = 0.0, []
    for number, pace in enumerate(paces[-step:], 1):
        elapsed += pace
        seen.append(TickPoint(number, elapsed, 1.0))
    job = replace(JOB, step=len(seen), total_steps=len(seen) + more, last_tick_us=NOW - late_us)
    known = estimate_remaining(job, seen, NOW)
    assert known is None or 0 <= known.low_s <= known.middle_s <= known.high_s
    shown = progress(job, seen, now_us=NOW, utc_offset_s=-5 * 3600)
    assert 0 <= shown.progress_percentage < 100
    assert re.fullmatch(r"Calculating\.\.\.|(\d+h )?\d+[ms]( \d+s)?", shown.estimated_remaining)


def test_a_job_is_at_a_hundred_only_when_it_is_completed() -> None:
    last = replace(JOB, step=100, epoch=2)
    assert progress(last, [], now_us=NOW).progress_percentage == 99.9
    assert progress(last, [], now_us=NOW).current_epoch == 1
    early = replace(JOB, state="completed", ended_by="early_stopping", attempts=(AttemptSpan(0, 60 * S),))
    shown = progress(early, [], now_us=NOW)
    assert (shown.progress_percentage, shown.elapsed_time, shown.estimated_remaining) == (100.0, "1m 0s", "0s")
    assert "no longer got better" in shown.status_message


def test_pauses_do_not_count_as_elapsed() -> None:
    job = replace(JOB, attempts=(AttemptSpan(NOW - 7200 * S, NOW - 7100 * S), AttemptSpan(NOW - 20 * S)))
    assert progress(job, [], now_us=NOW).elapsed_time == "2m 0s"


def test_a_training_is_told_without_jargon() -> None:
    falling = [TickPoint(step, step * 30.0, 3.0 - step / 40) for step in range(1, 41)]
    message = progress(JOB, falling, now_us=NOW, utc_offset_s=3600).status_message
    assert message == (
        "Pass 1 of 2 over your data, step 40 of 100. The model makes fewer mistakes than at the start "
        "(loss 2.86, now 2.11). It should be finished at about 15:30."
    )
    rising = [TickPoint(step, step * 1.0, 2.0 + step / 40) for step in range(1, 41)]
    assert "more mistakes" in progress(JOB, rising, now_us=NOW).status_message
    assert "hardly changes" in progress(JOB, ticks(1, 40, 1.0), now_us=NOW).status_message


def test_a_trend_of_recent_ticks_is_not_called_one_since_the_start() -> None:
    recent = [TickPoint(step, step * 1.0, 3.0 - step / 400) for step in range(501, 741)]
    message = progress(replace(JOB, step=740, total_steps=1000), recent, now_us=NOW).status_message
    assert "a while ago" in message
    assert "start" not in message


@pytest.mark.parametrize(
    ("remaining_s", "offset_s", "expected"),
    [
        (60, 0, "in less than two minutes"),
        (20 * 60, 0, "at about 14:20"),
        (3 * 3600 + 100, 0, "at about 17:00"),
        (9 * 3600, 7200, "tomorrow at about 1:00"),
        (3 * 86_400, 0, "on Wednesday at about 14:00"),
        (30 * 86_400, 0, "on 22 December, at about 14:00"),
        (1e15, 0, "on 31 December, at about 23:59"),
    ],
)
def test_the_finishing_time_is_said_as_people_say_it(remaining_s: float, offset_s: int, expected: str) -> None:
    assert finish_text(remaining_s, NOW, offset_s) == expected


def test_waiting_says_for_what() -> None:
    waiting = replace(JOB, state="queued", step=0)
    assert "as soon as" in progress(waiting, [], now_us=NOW).status_message
    assert "2 other jobs" in progress(replace(waiting, jobs_before=2), [], now_us=NOW).status_message


def test_optional_fields_may_be_unknown() -> None:
    bare = JobProgress("j", "m", "queued")
    shown = progress(bare, [], now_us=NOW)
    assert (shown.current_loss, shown.memory_usage_gb, shown.progress_percentage) == (None, None, 0.0)
    assert type(None) in get_args(type(shown).__annotations__["current_loss"])


def test_quantities_are_readable() -> None:
    assert [format_bytes(size) for size in (2048, 350 * 1024**2, 1.44 * 1024**3, 12.4 * 1024**3)] == [
        "2 kB",
        "350 MB",
        "1.4 GB",
        "12 GB",
    ]
    assert [format_count(1, "row"), format_count(1200, "row"), format_count(2, "row is", "rows are")] == [
        "1 row",
        "1,200 rows",
        "2 rows are",
    ]
