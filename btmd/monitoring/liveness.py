"""Does the trainer still move: stalled, and hung."""

from typing import ClassVar

from msgspec import Struct, field

from btmd.domain.event import Event
from btmd.domain.warning import CRITICAL, WARNING, Evidence, Finding, MachineSampled
from btmd.monitoring.robust import median
from btmd.monitoring.watched_run import Seen, WatchedRun

STALL_LEAST_S = 120.0
STALL_GAPS = 6
"""Usual times between two reports. Rows differ in length by a factor of four, and a machine that works for others too
by another half."""
STALL_LONGEST_GAPS = 2.5
"""Of the longest so far: a checkpoint on a slow disk may take a minute, and always will."""
FIRST_STEP_S = 600.0
"""Compiling and the first allocations; it took four minutes at most on two cores."""
FIRST_STEP_FORECASTS = 10
SAVING_S = 300.0
"""A first checkpoint, whose size nobody knows, on a disk that writes 20 MB/s."""
PREPARING_S, EVALUATING_S = 1800.0, 1800.0
EVALUATIONS = 5
EVALUATING_SHARE = 0.25
"""Of all that was foretold: a large model on a slow machine measures for an hour."""
HUNG_FACTOR, HUNG_LEAST_S = 4, 1200.0
"""A process that computes and tells nothing for so long will not come back."""
STOPPED_SAMPLES = 3
IDLE_SAMPLES = 4
IDLE_CORES = 0.01
"""Of one core: a process that only waits for a lock takes less than a thousandth."""
IDLE_LEAST_S, WAITING_LEAST_S = 180.0, 600.0
"""With nothing to do for a GPU or a disk; and while one may be at work that cannot be asked."""
BUSY_PERCENT = 5.0


def patience_s(run: WatchedRun) -> float:
    """How long the trainer may be silent where it is now."""
    if run.state in ("validating", "preparing"):
        return PREPARING_S
    if run.state == "evaluating":
        foretold = EVALUATING_SHARE * run.forecast.total_s.high if run.forecast is not None else 0.0
        return max(EVALUATING_S, EVALUATIONS * run.evaluation_s, foretold)
    if run.ticks == 0:
        foretold = run.forecast.step_s.high if run.forecast is not None else 0.0
        return max(FIRST_STEP_S, FIRST_STEP_FORECASTS * foretold)
    usual = median(run.gaps) if run.gaps else 0.0
    longest = max(run.gaps, default=0.0)
    least = STALL_LEAST_S
    if _saves_now(run) and not run.checkpoints:
        least = max(least, SAVING_S)
    if run.forecast is not None and len(run.gaps) < 5:
        least = max(least, FIRST_STEP_FORECASTS * run.forecast.step_s.high)
    return max(least, STALL_GAPS * usual, STALL_LONGEST_GAPS * longest)


def _saves_now(run: WatchedRun) -> bool:
    every = [int(run.plan.get(name, 0)) for name in ("save_every", "eval_every")]
    return run.step >= run.total_steps or any(one > 0 and run.step % one == 0 for one in every)


class Stalled(Struct):
    """Nothing was heard for much longer than usual."""

    kind: ClassVar[str] = "stalled"
    figures: Evidence = field(default_factory=dict)

    def take(self, run: WatchedRun, happened: Event) -> None:
        """Only the time tells it."""

    def judge(self, run: WatchedRun) -> Finding | None:
        silent_s, patience = run.now_s - run.sign_s, patience_s(run)
        usual = median(run.gaps) if run.gaps else None
        self.figures = {"silent_s": round(silent_s, 1), "limit_s": round(patience, 1), "step": run.step}
        if usual is not None:
            self.figures["usual_s"] = round(usual, 2)
        return Finding(self.kind, WARNING, self.figures) if silent_s > patience else None


class Hung(Struct):
    """It will not go on by itself: it was stopped, computes nothing, or computes without end."""

    kind: ClassVar[str] = "hung"
    figures: Evidence = field(default_factory=dict)

    def take(self, run: WatchedRun, happened: Event) -> None:
        """The samples are the run's."""

    def judge(self, run: WatchedRun) -> Finding | None:
        silent_s, patience = run.now_s - run.sign_s, patience_s(run)
        self.figures = {"silent_s": round(silent_s, 1), "step": run.step}
        cause = self._stopped(run) or self._idle(run, silent_s, patience)
        if not cause and silent_s > max(HUNG_LEAST_S, HUNG_FACTOR * patience):
            cause = "endless"
        if not cause or run.asked == "cancel":
            return None
        return Finding(self.kind, CRITICAL, {"cause": cause, **self.figures}, stops=True)

    def _stopped(self, run: WatchedRun) -> str:
        newest = _since_sign(run)[-STOPPED_SAMPLES:]
        return "stopped" if len(newest) == STOPPED_SAMPLES and all(one.sample.state == "T" for one in newest) else ""

    def _idle(self, run: WatchedRun, silent_s: float, patience: float) -> str:
        newest = _since_sign(run)[-IDLE_SAMPLES:]
        if len(newest) < IDLE_SAMPLES:
            return ""
        first, last = newest[0], newest[-1]
        cores = (last.sample.cpu_s - first.sample.cpu_s) / max(1e-9, last.at_s - first.at_s)
        self.figures |= {"cores": round(cores, 4), "process_state": last.sample.state}
        if any(one.sample.state == "R" for one in newest):
            # It would compute if the others let it.
            return ""
        waits = any(one.sample.state == "D" or _gpu_works(run, one.sample) for one in newest)
        least = max(WAITING_LEAST_S if waits else IDLE_LEAST_S, patience)
        return "idle" if cores < IDLE_CORES and silent_s > least else ""


def _since_sign(run: WatchedRun) -> list[Seen]:
    return [seen for seen in run.samples if seen.at_s > run.sign_s]


def _gpu_works(run: WatchedRun, sample: MachineSampled) -> bool:
    """Whether the GPU may be at work; one that does not tell may always be."""
    if not run.on_gpu:
        return False
    return not sample.gpus or any(gpu.utilization is None or gpu.utilization >= BUSY_PERCENT for gpu in sample.gpus)
