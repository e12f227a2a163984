"""Which rows made a loss or a gradient that is not a number: computed once more, in ever smaller parts."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from btmd.trainer.failures import TrainingFailed
from btmd.trainer.run import Run
from btmd.trainer.step import NotANumber, make_batch

MOST_OTHERS = 4
"""Rows that had no part in it, computed to tell bad rows from a model that computes nothing right any more."""


def blamed(run: Run, failure: NotANumber, members: NDArray[np.int64]) -> TrainingFailed:
    """The failure of the step after ``progress.step`` with its rows; the gradients are lost.

    The rows are those that fail by themselves, else all that were computed together. There are none where others fail
    as well: then it is the model.
    """
    suspects = members[failure.first : failure.first + failure.count] if failure.count else _found_again(run, members)
    bad = [int(row) for row in suspects if not _computes(run, [int(row)])]
    others = _others(run, members, suspects)
    step = run.state.progress.step + 1
    if len(suspects) == 0 or (bad and others and not any(_computes(run, [row]) for row in others)):
        return TrainingFailed(failure.reason, failure.text, step=step)
    rows = run.material.dataset.train.lines(bad or suspects.tolist())
    return TrainingFailed(
        failure.reason, f"{_said(rows)} gave a loss or a gradient that is not a number.", step=step, rows=rows
    )


def _said(rows: tuple[int, ...]) -> str:
    if len(rows) == 1:
        return f"Row {rows[0]} of the dataset"
    return f"Rows {', '.join(map(str, rows[:8]))}{' and others' if len(rows) > 8 else ''} of the dataset"


def _found_again(run: Run, members: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first micro-batch that fails by itself; nothing where it is only their sum."""
    size = run.plan.micro_batch_size
    for first in range(0, len(members), size):
        if not _computes(run, members[first : first + size].tolist()):
            return members[first : first + size]
    return members[:0]


def _others(run: Run, members: NDArray[np.int64], suspects: NDArray[np.int64]) -> list[int]:
    """A few short rows, of this step before any else."""
    rows = run.material.dataset.train
    near = np.setdiff1d(members, suspects)
    far = np.setdiff1d(rows.taking_part(np.arange(len(rows))), members)
    by_length = [part[np.argsort(rows.lengths[part], kind="stable")] for part in (near, far)]
    return [int(row) for row in np.concatenate(by_length)[:MOST_OTHERS]]


def _computes(run: Run, members: Sequence[int]) -> bool:
    """Whether these rows give a finite loss and finite gradients."""
    state, rows = run.state, run.material.dataset.train
    run.stop.leave_if_asked()
    state.optimizer.drop_gradients()
    loss_sum = run.objective.loss_sum(state.model, make_batch(rows, members))
    if not math.isfinite(float(loss_sum.detach())):
        return False
    (loss_sum / max(1, run.objective.count(rows, members))).backward()  # type: ignore[no-untyped-call]
    return math.isfinite(float(torch.nn.utils.get_total_norm(state.optimizer.gradients())))
