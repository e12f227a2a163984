"""Forecasts by formula, and ranges from what earlier ones were worth."""

import math
import random
from time import process_time
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from btmd.domain.forecast import DISK, FORMULA, MEMORY, TIME, Forecast, Range, said_and_took, score
from btmd.frames import Spread
from btmd.planning import make_plan
from btmd.planning.calibration import factors
from btmd.planning.forecast import forecast_plan, trial_seconds, within_limit, work_of
from btmd.planning.time_estimate import MachineRates, sustained_rates, total_seconds
from btmd.trainer import outlook
from tests.planning.given import ROWS, SEVEN_BILLION, SMALL, cpu_machine, gpu, gpu_machine, request

RATES = MachineRates(400e9, 8e9, measured=True)


def forecast(preset: str = "quick_test", **wishes: object) -> Forecast:
    asked = request(preset, **wishes)  # type: ignore[arg-type]
    return forecast_plan(make_plan(asked), asked.model, asked.tokens, asked.hardware, rates=RATES)


def test_every_quantity_is_a_range_round_its_middle() -> None:
    said = forecast()
    for one in (said.memory_bytes, said.disk_bytes, said.step_s, said.total_s):
        assert 0 < one.low < one.middle < one.high
    assert said.process_bytes < said.memory_bytes.low
    assert said.gpu_memory_bytes is None


def test_time_goes_with_the_work() -> None:
    short = forecast(max_steps=20)
    long = forecast(max_steps=40)
    assert long.total_s.middle - short.total_s.middle == pytest.approx(20 * short.step_s.middle, rel=0.2)
    asked = request(max_steps=20)
    slow = forecast_plan(make_plan(asked), SMALL, ROWS, cpu_machine(), rates=MachineRates(100e9, 2e9, measured=True))
    assert slow.step_s.middle == pytest.approx(4 * short.step_s.middle)
    twice = forecast(max_steps=20, gradient_checkpointing=True)
    assert 1.1 < twice.step_s.middle / short.step_s.middle < 1.5


def test_a_training_long_enough_for_a_trial_is_forecast_with_it() -> None:
    asked = request(max_steps=400)
    plan = make_plan(asked)
    work = work_of(plan, SMALL, ROWS)
    with_trial, without = total_seconds(work, RATES), total_seconds(replace(work, longest_row=0), RATES)
    # A visit to every length and six seconds of timing, but not as much as the training itself.
    assert 6 < with_trial - without < 0.2 * without
    brief = replace(work, total_steps=1, saves=0, evaluations=0, generated_tokens=0)
    assert total_seconds(brief, RATES) == total_seconds(replace(brief, longest_row=0), RATES)


def test_a_training_keeps_up_less_than_the_best_that_was_measured() -> None:
    kept_up = sustained_rates(RATES.flops, RATES.copied_bytes_s, device="cpu")
    assert kept_up.measured
    assert kept_up.layer_s > 0
    assert kept_up.flops < RATES.flops
    assert kept_up.copied_bytes_s < RATES.copied_bytes_s


def test_few_steps_meet_shorter_rows_than_many() -> None:
    few = forecast(max_steps=2).memory_bytes.middle
    many = forecast(max_steps=200).memory_bytes.middle
    assert few < many
    # No more than what the plan was found to fit with.
    asked = request(max_steps=200)
    assert many <= 1.03 * make_plan(asked).memory.peak_bytes


def test_a_machine_that_was_never_measured_gets_a_wider_range() -> None:
    asked = request()
    guessed = forecast_plan(make_plan(asked), SMALL, ROWS, cpu_machine())
    known = forecast()
    assert guessed.total_s.high / guessed.total_s.low > 2 * known.total_s.high / known.total_s.low


def test_on_a_gpu_its_memory_is_forecast_beside_the_main_memory() -> None:
    said = forecast(model=SEVEN_BILLION, hardware=gpu_machine(gpu(24)))
    assert said.gpu_memory_bytes is not None
    assert 14e9 < said.gpu_memory_bytes.middle < 24 * 1024**3
    assert said.memory_bytes.middle > SEVEN_BILLION.size_bytes


def test_the_formula_answers_at_once() -> None:
    began = process_time()
    forecast(model=SEVEN_BILLION, hardware=gpu_machine(gpu(24)))
    assert process_time() - began < 0.1


def test_a_short_training_gets_no_trial_and_a_long_one_a_twentieth() -> None:
    said = forecast()
    assert trial_seconds(replace(said, total_s=Range(5, 10, 15))) == 0
    assert trial_seconds(replace(said, total_s=Range(50, 100, 150))) == 30
    assert trial_seconds(replace(said, total_s=Range(5000, 10_000, 15_000))) == 500


def test_without_any_outcome_the_prior_decides() -> None:
    fresh = factors({}, MEMORY, "trial")
    assert fresh.middle == pytest.approx(1.0, abs=0.01)
    assert 1.04 < fresh.high < 1.12
    assert fresh.low * fresh.high == pytest.approx(1.0, abs=0.01)


def test_ranges_narrow_and_move_as_outcomes_come_in() -> None:
    few = factors({(TIME, "trial"): [0.05] * 3}, TIME, "trial")
    many = factors({(TIME, "trial"): [0.05] * 100}, TIME, "trial")
    fresh = factors({}, TIME, "trial")
    assert fresh.high / fresh.low >= few.high / few.low > many.high / many.low
    assert many.middle == pytest.approx(math.exp(0.05))


def test_the_range_of_memory_is_never_narrower_than_two_runs_of_one_plan_differ() -> None:
    always_the_same = factors({(MEMORY, "trial"): [0.0] * 100}, MEMORY, "trial")
    assert (always_the_same.low, always_the_same.high) == pytest.approx((math.exp(-0.02), math.exp(0.02)))


def test_a_lasting_error_is_taken_off_whole_however_often_it_was_calibrated() -> None:
    """Outcomes are compared with what was computed, not with what earlier outcomes had made of it."""
    seen: list[float] = []
    for _ in range(60):
        range_ = factors({(TIME, "trial"): seen}, TIME, "trial").applied(100.0)
        said = Forecast("trial", Range(1, 2, 3), 0, Range(1, 2, 3), Range(1, 1, 1), range_)
        (one,) = (each for each in score([said], {"attempt_s": 150.0}, whole=True) if each.quantity == TIME)
        seen.insert(0, one.log_ratio)
    assert range_.middle == pytest.approx(150.0, rel=0.01)


def test_beside_each_range_stays_what_was_computed_whatever_came_before() -> None:
    asked = request(time_limit_s=10**6)
    record = {(quantity, FORMULA): [0.7] * 60 for quantity in (MEMORY, DISK, TIME)}
    without, after = (
        forecast_plan(make_plan(asked), asked.model, asked.tokens, asked.hardware, rates=RATES, history=known)
        for known in ({}, record)
    )
    for name in ("memory_bytes", "disk_bytes", "step_s", "total_s"):
        first, second = getattr(without, name), getattr(after, name)
        assert second.middle > 1.2 * first.middle
        assert second.uncalibrated == first.uncalibrated == pytest.approx(first.middle, rel=0.05)


@pytest.mark.parametrize("limited", [within_limit, outlook._within_limit])
def test_a_limit_of_time_bounds_the_range_and_not_what_was_computed(limited: Any) -> None:
    said = (Range if limited is within_limit else Spread)(50, 100, 200, 90)
    assert limited(said, 0) == limited(said, 200) == said
    assert msgspec.structs.astuple(limited(said, 80)) == pytest.approx((50, 80, 88, 90))
    assert msgspec.structs.astuple(limited(said, 20)) == pytest.approx((18, 20, 22, 90))


def test_nine_in_ten_outcomes_to_come_fall_into_the_range() -> None:
    draws = random.Random(5)
    held = total = 0
    for _ in range(40):
        bias, spread = draws.uniform(-0.3, 0.3), draws.uniform(0.02, 0.4)
        seen: list[float] = []
        for number in range(60):
            to_come = draws.gauss(bias, spread)
            if number >= 20:
                given = factors({(TIME, "formula"): seen}, TIME, "formula")
                held += given.low <= math.exp(to_come) <= given.high
                total += 1
            seen.insert(0, to_come)
    assert 0.9 < held / total < 0.99


def test_a_score_compares_memory_above_the_idle_process_and_says_it_in_words() -> None:
    said = Forecast("trial", Range(900, 1000, 1100), 200, Range(1, 2, 3), Range(1, 1, 1), Range(840, 960, 1080))
    outcome = {"peak_memory_bytes": 1040, "attempt_s": 965.0, "folder_bytes": 2}
    scores = score([said], outcome, whole=True)
    memory = next(one for one in scores if one.quantity == MEMORY)
    assert memory.log_ratio == pytest.approx(math.log(840 / 800))
    assert said_and_took(scores).startswith("Forecast: said 14m 0s to 18m 0s, took 16m 5s; said")
    assert "outside" not in said_and_took(scores)
    guessed = score([replace(said, basis="formula", rates_known=False)], outcome, whole=True)
    assert {(one.quantity, one.basis) for one in guessed} >= {(TIME, "guess"), (MEMORY, "formula")}
    late = score([said], {**outcome, "attempt_s": 2000.0}, whole=True)
    assert "took 33m 20s (outside the range)" in said_and_took(late)


def test_a_job_that_was_interrupted_is_not_scored_for_its_time() -> None:
    said = Forecast("trial", Range(900, 1000, 1100), 200, Range(1, 2, 3), Range(1, 1, 1), Range(840, 960, 1080))
    scores = score([said], {"peak_memory_bytes": 1040, "attempt_s": 100.0}, whole=False)
    assert [one.quantity for one in scores] == [MEMORY]
