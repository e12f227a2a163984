"""A job's forecasts among its events: made with it, replaced by the trial's, scored when it is done."""

from typing import Any

from btmd.domain import job
from btmd.domain.forecast import Forecast, ForecastMade, ForecastRevised, ForecastScored, Range
from btmd.domain.job_events import AttemptLost, AttemptStarted, JobCompleted, JobSubmitted
from tests.domain.given import Given

SUBMITTED = JobSubmitted("j", "", 0, "m", "d", "v", "quick_test", {}, {}, {})
STARTED = AttemptStarted("j", 1, "boot", "first")
BY_FORMULA = Forecast("formula", Range(80, 100, 150), 20, Range(1, 2, 3), Range(1, 2, 3), Range(60, 100, 140))
BY_TRIAL = Forecast("trial", Range(100, 110, 120), 20, Range(1, 2, 3), Range(1, 2, 3), Range(90, 100, 110))
REVISED = ForecastRevised("j", 1, 3, BY_TRIAL, {"seconds": 2.0})
OUTCOME = {"ended_by": "finished", "peak_memory_bytes": 115, "attempt_s": 130.0, "folder_bytes": 2}


def _scores(*history: Any, **changes: Any) -> dict[tuple[str, str], bool]:
    """Whether the outcome was inside, by quantity and basis."""
    attempt = sum(isinstance(one, AttemptStarted) for one in history)
    state = Given(history).state(job.RecordEnd)
    completed, *scored = job.decide(job.RecordEnd("j", attempt, "finished", {**OUTCOME, **changes}), state)
    assert isinstance(completed, JobCompleted)
    if not scored:
        return {}
    assert isinstance(scored[0], ForecastScored)
    assert scored[0].device == "cpu"
    return {(one.quantity, one.basis): one.inside for one in scored[0].scores}


def test_a_forecast_is_recorded_with_the_job() -> None:
    Given([]).when(job.SubmitJob(SUBMITTED, BY_FORMULA)).then(SUBMITTED, ForecastMade("j", BY_FORMULA))
    Given([]).when(job.SubmitJob(SUBMITTED)).then(SUBMITTED)


def test_a_completed_job_scores_what_was_foretold_before_and_after_the_trial() -> None:
    found = _scores(SUBMITTED, ForecastMade("j", BY_FORMULA), STARTED, REVISED)
    assert found == {
        ("memory", "formula"): True,
        ("disk", "formula"): True,
        ("time", "formula"): True,
        ("memory", "trial"): True,
        ("disk", "trial"): True,
        ("time", "trial"): False,
    }


def test_a_job_that_was_interrupted_or_ended_early_says_nothing_of_its_time() -> None:
    lost = AttemptLost("j", 1, "crash", "x")
    made = ForecastMade("j", BY_FORMULA)
    again = _scores(SUBMITTED, made, STARTED, lost, AttemptStarted("j", 2, "boot", "crash"))
    early = _scores(SUBMITTED, made, STARTED, ended_by="early_stopping")
    assert {quantity for quantity, _ in again} == {quantity for quantity, _ in early} == {"memory", "disk"}


def test_a_job_from_before_there_were_forecasts_is_not_scored() -> None:
    assert _scores(SUBMITTED, STARTED) == {}
