"""One attempt at a job: what it works on, and the acts that several parts of the loop share."""

import time
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import numpy as np

from btmd.job_folder import JobFolder, TrainerPlan
from btmd.trainer.checkpoint import Checkpoints
from btmd.trainer.evaluate import Evaluation, held_out_loss
from btmd.trainer.objective import Objective
from btmd.trainer.preparation import Material
from btmd.trainer.reporter import Reporter
from btmd.trainer.row_losses import HeldOutRows, ImprovementRange, improvement_range, write_held_out
from btmd.trainer.state import HeldOutLoss, Timed, TrainingState, name_of_step
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
    planned_steps: int = 0
    """Without a limit of time; ``total_steps`` may be fewer."""
    planned_eval_every: int = 0
    saved_name: str | None = None
    """The checkpoint that holds the present state, if one does."""
    held_out: HeldOutRows = field(default_factory=HeldOutRows)

    def take_micro_batch_size(self, size: int) -> None:
        """Compute so many rows at once from now on."""
        self.plan = msgspec.structs.replace(self.plan, micro_batch_size=size)
        self.state.conditions = msgspec.structs.replace(self.state.conditions, micro_batch_size=size)

    def take_time(self, timed: Timed) -> None:
        """Train for as many steps as the time allows."""
        self.state.progress.timed = timed
        self.total_steps = min(self.planned_steps, timed.total_steps)
        self.plan = msgspec.structs.replace(self.plan, eval_every=timed.eval_every)

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
        """Measure the held-out loss of the present weights, tell of it, and keep each row's if it is the first or the
        best; raises StopRequested on a pause.
        """
        progress = self.state.progress
        started_s = time.monotonic()
        found = self._evaluation()
        progress.costs.measuring_s = time.monotonic() - started_s
        self.reporter.evaluated(
            step=progress.step,
            loss=found.loss,
            tokens=found.tokens,
            when=when,
            seconds=progress.costs.measuring_s,
            margin=found.margin,
            accuracy=found.accuracy,
        )
        if when == "before":
            progress.costs.first_measuring_s = progress.costs.measuring_s
            self._keep_rows(HeldOutRows(before=found.rows))
        elif progress.best is None or found.loss < progress.best.loss:
            self._keep_rows(HeldOutRows(self.held_out.before, found.rows, progress.step))
        return HeldOutLoss(progress.step, found.loss, found.tokens, found.margin, found.accuracy)

    def improvement(self, step: int) -> ImprovementRange | None:
        """How sure the improvement is that the present weights, those after ``step``, are; None where nobody can say.

        Raises StopRequested.
        """
        if not self.has_held_out or self.held_out.before is None:
            return None
        if self.held_out.after is None or self.held_out.step != step:
            # The file is of an attempt that went another way.
            self._keep_rows(HeldOutRows(self.held_out.before, self._evaluation().rows, step))
        assert self.held_out.after is not None
        name = f"{self.plan.job_id} {self.plan.seed}"
        return improvement_range(self.held_out.before, self.held_out.after, name=name)

    def _evaluation(self) -> Evaluation:
        return held_out_loss(
            self.state.model,
            self.material.dataset.held_out,
            micro_batch_size=self.plan.micro_batch_size,
            before_each=self.stop.leave_if_asked,
            objective=self.objective,
        )

    def _keep_rows(self, rows: HeldOutRows) -> None:
        self.held_out = rows
        write_held_out(self.folder.held_out_path, rows)

    @property
    def has_held_out(self) -> bool:
        held_out = self.material.dataset.held_out
        return len(held_out.taking_part(np.arange(len(held_out)))) > 0
