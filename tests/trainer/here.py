"""The trainer in the test's own process: as fast as the training itself, and stopped at an exact place."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from btmd.frames import FrameWriter
from btmd.job_folder import JobFolder
from btmd.trainer.loop import train
from btmd.trainer.preparation import load_material
from btmd.trainer.reporter import Reporter
from btmd.trainer.stop import Control, StopRequested


class Never:
    """Nobody asks to stop."""

    def read(self) -> Control | None:
        return None

    def leave_if_asked(self) -> None:
        return None


class Crash(BaseException):
    """Ends an attempt as a power cut would: nothing more is written."""


class At:
    """Does something the ``looks``-th time the loop looks for a request after ``step`` is done.

    Right after a step the loop looks once, then once before each micro-batch.
    """

    def __init__(self, reporter: Reporter, control: Control | None, *, step: int, looks: int = 1) -> None:
        self._reporter = reporter
        self._control = control
        self._step = step
        self._looks = looks
        self._asked: Control | None = None

    def read(self) -> Control | None:
        return self._asked

    def leave_if_asked(self) -> None:
        if self._reporter.step >= self._step:
            self._looks -= 1
            if self._looks <= 0:
                if self._control is None:
                    raise Crash
                self._asked = self._control
        if self._asked not in (None, "stop"):
            raise StopRequested(self._asked)


def train_here(
    folder: JobFolder, attempt: int = 1, *, control: Control | None = None, step: int | None = None, looks: int = 1
) -> None:
    """Run one attempt; with ``step`` it is stopped by ``control`` there, or crashes if there is none."""
    plan = folder.read_plan()
    reporter = Reporter(FrameWriter(folder.spool_path(attempt)), tick_every_s=plan.tick_every_s)
    stop = Never() if step is None else At(reporter, control, step=step, looks=looks)
    with same_threads():
        train(folder, plan, stop, reporter, load_material(folder, plan, Never()))


def crash_here(folder: JobFolder, attempt: int, *, step: int, looks: int = 1) -> None:
    try:
        train_here(folder, attempt, step=step, looks=looks)
    except Crash:
        return
    raise AssertionError("the run ended before it could crash")


@contextmanager
def same_threads() -> Iterator[None]:
    """Leave torch's thread count as it was."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def only(kind: type[Any], frames: list[Any], wanted: Callable[[Any], bool] = lambda _: True) -> list[Any]:
    """The frames of one kind."""
    return [frame for frame in frames if isinstance(frame, kind) and wanted(frame)]
