"""A training that has only so much time: how many steps fit, and when the rest of the time belongs to the result.

All of it counts, of all attempts: loading, the trial, measuring, saving, answering; only the time between two attempts
does not. What the end takes is known from what the beginning took, and stays in reserve.
"""

import math
from pathlib import Path

from btmd.frames import read_frames
from btmd.trainer.outlook import closing_seconds, saving_seconds
from btmd.trainer.process import seconds_since_start
from btmd.trainer.run import Run
from btmd.trainer.state import Timed

FIRST_STEPS = 3
"""Steps after which their time is known where there was no trial."""
LOOKED_AT = (0.25, 0.5, 0.75, 0.9)
"""Shares of the steps after which it is seen whether their number was right."""
EVALUATION_SHARE = 0.1
"""Of the time: what measurements on the way may take."""


class TimeBudget:
    """``limit_s`` for one job; ``spent_before_s`` of it went in earlier attempts."""

    def __init__(self, limit_s: float, spent_before_s: float) -> None:
        self.limit_s = limit_s
        self._spent_before_s = spent_before_s
        self._since: tuple[int, float] | None = None
        """Step and time spent from which on steps are timed."""

    def spent_s(self) -> float:
        return self._spent_before_s + seconds_since_start()

    def left_s(self, run: Run) -> float:
        """Time for further steps: what is left without what the end takes."""
        return self.limit_s - self.spent_s() - closing_seconds(run)

    def is_over(self, run: Run) -> bool:
        """Whether another step would end nearer behind the limit than this one before it."""
        step_s = self._step_s(run)
        return self.left_s(run) < (0.5 * step_s if step_s is not None else 0.0)

    def allows(self, run: Run, seconds: float) -> bool:
        """Whether something may be done that takes so long."""
        return self.left_s(run) >= seconds

    def decide(self, run: Run, step_s: float) -> None:
        """Say, before the first step, how many there will be if each takes ``step_s``; told where they are fewer."""
        left_s = self.left_s(run) - self._evaluations(run) * self._evaluation_s(run)
        self._settle(run, math.floor(left_s / max(step_s, 1e-9)))
        if run.total_steps < run.planned_steps:
            run.reporter.notice(
                "time_steps",
                f"In the time there is about {run.total_steps:,} of {run.planned_steps:,} steps can be taken. The "
                "learning rate falls over these.",
            )

    def look_again(self, run: Run) -> None:
        """Correct the number of steps by what they have taken, a few times in the course of the training."""
        progress = run.state.progress
        if self._since is None:
            self._since = (progress.step, self.spent_s())
        marks = {math.ceil(share * run.total_steps) for share in LOOKED_AT}
        undecided = progress.timed is None and progress.step - self._since[0] >= FIRST_STEPS
        if not (undecided or progress.step in marks) or (step_s := self._step_s(run)) is None:
            return
        if undecided:
            self.decide(run, step_s)
        else:
            # Measurements on the way are in the time of the steps by now.
            self._settle(run, math.floor(self.left_s(run) / max(step_s, 1e-9)))
        self._since = (progress.step, self.spent_s())

    def _step_s(self, run: Run) -> float | None:
        """Of the steps since the last look, with all that was done between them; None before there were enough."""
        if self._since is None or run.state.progress.step - self._since[0] < FIRST_STEPS:
            return None
        return (self.spent_s() - self._since[1]) / (run.state.progress.step - self._since[0])

    def _settle(self, run: Run, more: int) -> None:
        """``more`` steps are to come; at least one is taken, and never more than were planned."""
        step = run.state.progress.step
        steps = max(1, step, min(run.planned_steps, step + more))
        evaluations = self._evaluations(run)
        every = run.plan.eval_every
        if steps < run.planned_steps or evaluations == 0:
            every = -(-steps // (evaluations + 1)) if evaluations else 0
        run.take_time(Timed(steps, every))

    def _evaluation_s(self, run: Run) -> float:
        """A measurement with the checkpoint that follows when it is the best."""
        return run.state.progress.costs.measuring_s + saving_seconds(run)

    def _evaluations(self, run: Run) -> int:
        """As many measurements on the way as were planned, unless they take too much of the time."""
        if not run.planned_eval_every or not run.has_held_out:
            return 0
        wanted = (run.planned_steps - 1) // run.planned_eval_every
        affordable = EVALUATION_SHARE * self.limit_s / max(1e-9, self._evaluation_s(run))
        return min(wanted, int(affordable))


def time_budget(limit_s: float, spools: Path, own_spool: Path) -> TimeBudget | None:
    """The budget of an attempt that reports into ``own_spool``; None without a limit."""
    if limit_s <= 0:
        return None
    return TimeBudget(limit_s, sum(_span_s(path) for path in spools.glob("*.spool") if path != own_spool))


def _span_s(spool: Path) -> float:
    """From an attempt's first report to its last."""
    first = last = None
    for found in read_frames(spool):
        last = found.frame.at_us
        first = last if first is None else first
    return max(0, last - first) / 1e6 if first is not None and last is not None else 0.0
