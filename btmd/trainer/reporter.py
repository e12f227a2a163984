"""What the trainer tells: frames in the spool, at most one tick a second or so, nothing measured twice."""

import time
from collections.abc import Callable
from pathlib import Path

from btmd.frames import (
    AnyFrame,
    CheckpointRejected,
    CheckpointSaved,
    Failed,
    Finished,
    FrameWriter,
    HeldOutEvaluated,
    Notice,
    StageEntered,
    Stopped,
    Tick,
    TrainingShape,
)
from btmd.trainer.failures import Failure
from btmd.trainer.process import resident_bytes


class Reporter:
    """Turns the loop's calls into frames. ``step`` is the last finished step that was told of."""

    def __init__(self, writer: FrameWriter, *, tick_every_s: float) -> None:
        self._writer = writer
        self._tick_every_s = tick_every_s
        self._losses: list[float] = []
        self._steps: list[int] = []
        self._tokens = 0
        self._tokens_time_s = 0.0
        self._elapsed_s = 0.0
        self._last_tick_at_s = float("-inf")
        self._pending: Callable[[], Tick] | None = None
        self.step = 0
        self.gpu_memory: Callable[[], int] | None = None
        """Bytes in use on the GPU, where there is one."""

    @property
    def spool(self) -> Path:
        """The file that is reported into."""
        return self._writer.path

    def stage(self, stage: str, text: str) -> None:
        self.append(StageEntered(_now_us(), stage, text))

    def notice(self, code: str, text: str) -> None:
        self.append(Notice(_now_us(), code, text))

    def shape(self, make: Callable[[int], TrainingShape]) -> None:
        self.append(make(_now_us()))

    def step_done(
        self,
        *,
        step: int,
        total_steps: int,
        epoch: int,
        loss: float,
        tokens: int,
        seconds: float,
        learning_rate: float,
        gradient_norm: float,
    ) -> None:
        """Note a finished step; a tick goes out when the last is old enough, and for the very first step at once."""
        self.step = step
        self._losses.append(loss)
        self._steps.append(step)
        self._tokens += tokens
        self._tokens_time_s += seconds
        self._elapsed_s += seconds

        def tick() -> Tick:
            return Tick(
                _now_us(),
                step=step,
                total_steps=total_steps,
                epoch=epoch,
                losses=tuple(self._losses),
                steps=tuple(self._steps),
                learning_rate=learning_rate,
                tokens_per_s=self._tokens / max(self._tokens_time_s, 1e-9),
                elapsed_s=self._elapsed_s,
                memory_bytes=resident_bytes(),
                gpu_memory_bytes=self.gpu_memory() if self.gpu_memory else None,
                gradient_norm=gradient_norm,
            )

        self._pending = tick
        if time.monotonic() - self._last_tick_at_s >= self._tick_every_s:
            self.flush()

    def step_passed(self, step: int) -> None:
        """Note a step in which there was nothing to learn."""
        self.step = step

    def flush(self, *, sync: bool = False) -> None:
        """Tell of every step not told of yet; with ``sync`` all frames are on the disk when this returns."""
        if self._pending is not None:
            self._writer.append(self._pending(), sync=sync)
            self._last_tick_at_s = time.monotonic()
            self._pending = None
            self._losses.clear()
            self._steps.clear()
            self._tokens, self._tokens_time_s = 0, 0.0
        elif sync:
            self._writer.sync()

    def evaluated(
        self,
        *,
        step: int,
        loss: float,
        tokens: int,
        when: str,
        seconds: float,
        margin: float | None = None,
        accuracy: float | None = None,
    ) -> None:
        self.append(HeldOutEvaluated(_now_us(), step, loss, tokens, when, seconds, margin, accuracy))

    def checkpoint_saved(
        self, *, step: int, name: str, size_bytes: int, held_out_loss: float | None, best: bool, pruned: tuple[str, ...]
    ) -> None:
        self.append(CheckpointSaved(_now_us(), step, name, size_bytes, held_out_loss, best, pruned), sync=True)

    def checkpoint_rejected(self, *, name: str, reason: str, used_instead: str | None) -> None:
        self.append(CheckpointRejected(_now_us(), name, reason, used_instead), sync=True)

    def finished(self, make: Callable[[int], Finished]) -> None:
        self.append(make(_now_us()), sync=True)

    def stopped(self, reason: str) -> None:
        self.append(Stopped(_now_us(), reason, self.step), sync=True)

    def failed(self, failure: Failure) -> None:
        step = self.step if failure.step is None else failure.step
        self.append(Failed(_now_us(), failure.reason, failure.text, step, failure.rows), sync=True)

    def append(self, frame: AnyFrame, *, sync: bool = False) -> None:
        """Append after the steps that came before it, so that the spool's order is the order of events."""
        self.flush()
        self._writer.append(frame, sync=sync)


def _now_us() -> int:
    return time.time_ns() // 1000
