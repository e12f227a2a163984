"""A run that has only so much time ends with a whole model, a moment before the time does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from btmd.frames import Finished, FrameWriter, HeldOutEvaluated, Notice, StageEntered, Tick
from btmd.trainer import time_budget as budgets
from btmd.trainer.state import Costs
from btmd.trainer.time_budget import time_budget
from tests.trainer.here import only, train_here
from tests.trainer.job import frames_of, log_of, losses_of, make_job, run_to_end


class Clock:
    """Time that passes by the step: each reading is half a step later than the one before."""

    def __init__(self, step_s: Callable[[float], float], *, now_s: float) -> None:
        self._step_s = step_s
        self.now_s = now_s

    def monotonic(self) -> float:
        self.now_s += self._step_s(self.now_s) / 2
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Clock]:
    def make(step_s: Callable[[float], float], *, now_s: float = 5.0) -> Clock:
        made = Clock(step_s, now_s=now_s)
        monkeypatch.setattr("btmd.trainer.loop.time", made)
        monkeypatch.setattr(budgets, "seconds_since_start", lambda: made.now_s)
        monkeypatch.setattr(budgets, "closing_seconds", lambda run: 4.0)
        # What an earlier attempt really took is not of this clock.
        monkeypatch.setattr(budgets, "_span_s", lambda spool: 0.0)
        return made

    return make


PACES: dict[str, Callable[[float], float]] = {
    "even": lambda now_s: 1.0,
    "twice as slow from the middle on": lambda now_s: 1.0 if now_s < 50 else 2.0,
    "twice as fast from the middle on": lambda now_s: 1.0 if now_s < 50 else 0.5,
    "slow at first": lambda now_s: 4.0 if now_s < 18 else 0.7,
}


@pytest.mark.parametrize("pace", sorted(PACES))
def test_the_steps_are_made_to_fit_and_the_learning_rate_falls_over_them(
    pace: str, tmp_path: Path, clock: Callable[..., Clock]
) -> None:
    time = clock(PACES[pace])
    folder = make_job(tmp_path, time_limit_s=100.0, num_epochs=400, save_every=0, eval_every=300)
    train_here(folder)
    frames = frames_of(folder)
    (finished,) = only(Finished, frames)
    assert finished.ended_by == "time"
    assert 90 <= time.now_s + 4.0 <= 105
    ticks = only(Tick, frames)
    assert ticks[-1].step == finished.steps < 2000
    assert ticks[-1].total_steps <= 1.1 * finished.steps
    assert ticks[-1].learning_rate < 0.15 * max(tick.learning_rate for tick in ticks)
    (notice,) = only(Notice, frames, lambda one: one.code == "time_steps")
    assert "of 2,000 steps" in notice.text
    # Measured as often as was planned, over the steps that there are.
    assert 4 <= len([one for one in only(HeldOutEvaluated, frames) if one.when == "during"]) <= 9
    assert (folder.result / "training.json").is_file()


def test_a_limit_that_is_not_reached_changes_nothing(tmp_path: Path, clock: Callable[..., Clock]) -> None:
    plain = make_job(tmp_path, "plain", eval_every=3)
    train_here(plain)
    clock(lambda now_s: 1.0)
    folder = make_job(tmp_path, eval_every=3, time_limit_s=3600.0)
    train_here(folder)
    assert losses_of(folder) == losses_of(plain)
    (finished,) = only(Finished, frames_of(folder))
    assert finished.ended_by == "finished"
    assert not [one for one in only(Notice, frames_of(folder)) if one.code == "time_steps"]
    assert len(only(HeldOutEvaluated, frames_of(folder))) == len(only(HeldOutEvaluated, frames_of(plain)))


def test_an_attempt_goes_on_with_the_steps_that_were_decided(tmp_path: Path, clock: Callable[..., Clock]) -> None:
    time = clock(lambda now_s: 1.0)
    folder = make_job(tmp_path, time_limit_s=100.0, num_epochs=400, save_every=5)
    train_here(folder, 1, control="pause", step=40)
    decided = only(Tick, frames_of(folder, 1))[-1].total_steps
    assert 60 <= decided <= 110
    time.now_s = 45.0  # as if no time had passed between the attempts
    train_here(folder, 2)
    first = only(Tick, frames_of(folder, 2))[0]
    assert (first.step, first.total_steps) == (41, decided)
    (finished,) = only(Finished, frames_of(folder, 2))
    assert finished.ended_by == "time"
    assert 90 <= time.now_s + 4.0 <= 105


def test_no_time_at_all_still_gives_a_whole_result(tmp_path: Path) -> None:
    folder = make_job(tmp_path, time_limit_s=1e-6)
    assert run_to_end(folder) == 0, log_of(folder)
    (finished,) = only(Finished, frames_of(folder))
    assert (finished.ended_by, finished.steps) == ("time", 1)
    assert folder.result.is_dir()


def test_earlier_attempts_count_from_their_first_report_to_their_last(tmp_path: Path) -> None:
    spools = tmp_path / "spool"
    for attempt, span_s in ((1, 40), (2, 2.5), (3, 900)):
        writer = FrameWriter(spools / f"attempt-{attempt:04d}.spool")
        for at_s in (1000.0, 1000.0 + span_s / 2, 1000.0 + span_s):
            writer.append(StageEntered(round(at_s * 1e6), "training"))
        writer.close()
    own = spools / "attempt-0003.spool"
    budget: Any = time_budget(60.0, spools, own)
    assert budget.spent_s() >= 42.5
    assert budget.spent_s() - budgets.seconds_since_start() == pytest.approx(42.5, abs=1.0)
    assert time_budget(0, spools, own) is None


@pytest.mark.parametrize(("now_s", "pace"), [(2.0, 1.0), (5.0, 2.5), (1.0, 0.7), (90.0, 4.0), (0.0, 1.0)])
def test_what_comes_at_the_end_is_foretold_at_the_pace_of_now(now_s: float, pace: float) -> None:
    assert Costs(measuring_s=now_s, first_measuring_s=2.0).pace == pace
    assert Costs(measuring_s=now_s).pace == 1.0
