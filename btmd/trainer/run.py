"""One attempt at a job: what it works on, and the acts that several parts of the loop share."""

import time
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from btmd.job_folder import JobFolder, TrainerPlan
from btmd.trainer.checkpoint import Checkpoints
from btmd.trainer.evaluate import held_out_loss
from btmd.trainer.objective import Objective
from btmd.trainer.preparation import Material
from btmd.trainer.reporter import Reporter
from btmd.trainer.state import HeldOutLoss, TrainingState, name_of_step
from btmd.trainer.stop import Stop

EndedBy = Literal["finished", "stopped", "early_stopping", "time"]


@dataclass(slots=True)
class Run:
    """``total_steps`` and ``steps_per_epoch`` are optimizer steps."""

    folder: JobFolder
    plan: TrainerPlan
    stop: Stop
    reporter: Reporter
    material: Material
    objective: Objective
    state: TrainingState
    checkpoints: Checkpoints
    total_steps: int
    steps_per_epoch: int
    saved_name: str | None = None
    """The checkpoint that holds the present state, if one does."""
    measuring_s: float = 0.0
    """What the last held-out measurement took."""

    def take_micro_batch_size(self, size: int) -> None:
        """Compute so many rows at once from now on."""
        self.plan = msgspec.structs.replace(self.plan, micro_batch_size=size)
        self.state.conditions = msgspec.structs.replace(self.state.conditions, micro_batch_size=size)

    def save(self) -> None:
        """Save the present state unless a checkpoint holds it already; the ticks up to it are on the disk before."""
        progress = self.state.progress
        name = progress.name
        if self.saved_name == name or (progress.step == 0 and progress.accumulation.rows_done == 0):
            return
        self.reporter.flush(sync=True)
        size_bytes = self.checkpoints.save(name, self.state.tensors(), self.state.facts())
        self.saved_name = name
        best = progress.best
        pruned = self.checkpoints.prune(
            keep_newest=self.plan.keep_checkpoints, keep=name_of_step(best.step) if best is not None else None
        )
        self.reporter.checkpoint_saved(
            step=progress.step,
            name=name,
            size_bytes=size_bytes,
            held_out_loss=progress.evaluations[-1].loss if progress.evaluated_now() else None,
            best=best is not None and name == name_of_step(best.step),
            pruned=tuple(pruned),
        )

    def measure(self, when: Literal["before", "during"]) -> HeldOutLoss:
        """Measure the held-out loss of the present weights and tell of it; raises StopRequested on a pause."""
        started_s = time.monotonic()
        found = held_out_loss(
            self.state.model,
            self.material.dataset.held_out,
            micro_batch_size=self.plan.micro_batch_size,
            before_each=self.stop.leave_if_asked,
            objective=self.objective,
        )
        self.measuring_s = time.monotonic() - started_s
        self.reporter.evaluated(
            step=self.state.progress.step,
            loss=found.loss,
            tokens=found.tokens,
            when=when,
            seconds=self.measuring_s,
            margin=found.margin,
            accuracy=found.accuracy,
        )
        return HeldOutLoss(self.state.progress.step, found.loss, found.tokens, found.margin, found.accuracy)

    @property
    def has_held_out(self) -> bool:
        held_out = self.material.dataset.held_out
        return len(held_out.taking_part(np.arange(len(held_out)))) > 0
