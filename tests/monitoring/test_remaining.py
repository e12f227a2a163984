"""The time that remains: what was read during trainings, against what they then took."""

import gzip
from pathlib import Path

import pytest
from msgspec.structs import replace

from btmd.domain.event import Event
from btmd.domain.warning import MachineSampled
from btmd.monitoring import AttemptSpan, JobProgress, TickPoint, estimate_remaining, progress
from tests.fixtures.remaining_readings import Reading, calibration, readings
from tests.fixtures.simulated_training import Simulation, Training
from tests.fixtures.training_histories import LAPTOP, QUICK, RESUMED, SLOW_STEPS, SMALL
from tests.fixtures.training_records import read_history

RECORDED = sorted(Path(__file__).parent.glob("recorded/*.jsonl.gz"))
SOUND = (
    SMALL,
    replace(QUICK, steps=8000, eval_every=1000, save_every=1000, tick_every_s=4.0),
    replace(RESUMED, resumed_from=7400),
    replace(LAPTOP, steps=500),
    replace(SLOW_STEPS, steps=150),
)


def _history(training: Training) -> list[tuple[int, Event]]:
    return [(at_us, one) for at_us, one in Simulation(training).events() if not isinstance(one, MachineSampled)]


def _read(training: Training) -> list[Reading]:
    history = _history(training)
    return list(readings(history, every_s=(history[-1][0] - history[0][0]) / 1e6 / 80))


def test_nine_of_ten_readings_hold_what_remained_and_the_range_is_narrow() -> None:
    found = [one for seed in (41, 42) for training in SOUND for one in _read(replace(training, seed=seed))]
    judged = calibration(found)
    assert judged.held >= 0.9
    assert judged.width <= 0.25
    assert judged.narrow >= 0.9


def test_a_resumed_training_is_read_from_its_own_speed_at_once() -> None:
    found = _read(replace(RESUMED, resumed_from=7400, seed=43))
    assert sum(one.holds for one in found) >= 0.9 * len(found)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_what_was_recorded_of_real_trainings_holds(path: Path) -> None:
    found = list(readings(read_history(gzip.decompress(path.read_bytes()))))
    judged = calibration(found)
    assert judged.held >= 0.9
    assert judged.median_is_narrow


S = 1_000_000
JOB = JobProgress(
    "j", "m", "training", step=40, total_steps=100, attempts=(AttemptSpan(0),), last_tick_us=50 * S, save_every=10
)


def _ticks(count: int, step_s: float, between_s: float = 0.0) -> list[TickPoint]:
    return [TickPoint(step, step * step_s, 2.0, int(step * (step_s + between_s) * S)) for step in range(1, count + 1)]


def test_checkpoints_are_counted_as_foretold_and_then_as_they_were() -> None:
    foretold = estimate_remaining(replace(JOB, saving_s=2.0, last_tick_us=None), _ticks(40, 1.0), 50 * S)
    assert foretold is not None
    assert foretold.middle_s == pytest.approx(60 + 5 * 2.0)
    seen = replace(JOB, saving_s=2.0, saved_steps=(10, 20, 30), last_tick_us=None)
    known = estimate_remaining(seen, _ticks(40, 1.0, between_s=0.5), 50 * S)
    assert known is not None
    assert known.middle_s == pytest.approx(60 * 1.5)


@pytest.mark.parametrize("gap_s", [86_400, 28_800, -9 * 86_400], ids=["set forward", "asleep", "set back"])
@pytest.mark.parametrize("saved", [(10, 20, 30), (10,)], ids=["several saved", "one saved"])
def test_a_clock_that_was_set_and_a_night_of_sleep_change_nothing_of_what_remains(
    gap_s: int, saved: tuple[int, ...]
) -> None:
    job = replace(JOB, saving_s=0.5, saved_steps=saved, last_tick_us=None, trained_s=40.0)
    even = _ticks(40, 1.0, between_s=0.05)
    moved = [
        replace(one, at_us=one.at_us + (gap_s * S if one.step > 25 else 0)) for one in even if one.at_us is not None
    ]
    now_us = 50 * S
    before, after = (estimate_remaining(job, ticks, now_us) for ticks in (even, moved))
    assert before is not None
    assert after is not None
    assert after.middle_s == pytest.approx(before.middle_s, rel=0.03)
    assert progress(job, moved, now_us=-5 * S).elapsed_s == 40.0


def test_the_end_is_counted_too_and_goes_by_while_it_measures() -> None:
    job = replace(JOB, step=100, closing_s=30.0, last_tick_us=100 * S, state="evaluating")
    at_once, later = (estimate_remaining(job, _ticks(100, 1.0), (100 + wait_s) * S) for wait_s in (0, 20))
    assert at_once is not None
    assert later is not None
    assert (at_once.middle_s, later.middle_s) == (30.0, 10.0)


def test_a_limit_of_time_ends_it_before_its_steps_do() -> None:
    limited = estimate_remaining(
        replace(JOB, time_limit_s=45.0, trained_s=40.0, closing_s=3.0), _ticks(40, 1.0), 50 * S
    )
    assert limited is not None
    assert limited.middle_s == pytest.approx(5 + 3)


def test_all_figures_of_a_training_are_shown() -> None:
    gb = 1024**3
    job = replace(
        JOB, memory_bytes=3 * gb, gpu_memory_bytes=5 * gb, gpu_utilization=91.0, disk_free_bytes=70 * gb, job_bytes=gb,
        held_out_loss=1.5, held_out_best=1.4, best_loss=1.0,
    )  # fmt: skip
    shown = progress(job, _ticks(40, 1.0), now_us=50 * S)
    assert (shown.memory_usage_gb, shown.process_memory_gb, shown.gpu_memory_gb) == (5.0, 3.0, 5.0)
    assert (shown.disk_free_gb, shown.disk_used_gb, shown.held_out_best) == (70.0, 1.0, 1.4)
    assert shown.remaining_low_s is not None
    assert shown.remaining_s is not None
    assert shown.remaining_high_s is not None
    assert shown.remaining_low_s < shown.remaining_s < shown.remaining_high_s
