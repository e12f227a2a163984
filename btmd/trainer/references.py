"""What preference tuning compares with: how likely each answer is in the model as it was before the first step.

An adapter can be left out at any time, so then only held-out rows, which are measured often, are computed beforehand.
Where all weights are trained, or an earlier adapter is trained further, nothing can be left out: every row is computed
once, from the weights that were just loaded, and kept in the job folder for later attempts.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from btmd.data.sequences import Dataset, Rows
from btmd.files.durable import write_atomically
from btmd.job_folder import TrainerPlan
from btmd.trainer.model import TrainableModel
from btmd.trainer.objective import reference_losses
from btmd.trainer.step import cut

_FILE = "references.safetensors"


def with_references(
    folder: Path, plan: TrainerPlan, model: TrainableModel, dataset: Dataset, between: Callable[[], None]
) -> Dataset:
    """The dataset with the references that are needed; ``model`` must have its first weights still.

    Raises OSError, and whatever ``between`` raises.
    """
    from_start = not plan.can_leave_out
    parts = {"held_out": dataset.held_out} | ({"train": dataset.train} if from_start else {})
    found = _read(folder / _FILE, parts) if from_start else None
    if found is None:
        found = {
            name: _compute(model, rows, plan.micro_batch_size, base=not from_start, between=between)
            for name, rows in parts.items()
        }
        if from_start:
            tensors = {name: torch.from_numpy(losses) for name, losses in found.items()}
            write_atomically(folder / _FILE, save(tensors, {"digest": _digest(parts, found)}))
    return replace(
        dataset,
        held_out=replace(dataset.held_out, references=found["held_out"]),
        train=replace(dataset.train, references=found.get("train")),
    )


def _compute(
    model: TrainableModel, rows: Rows, micro_batch_size: int, *, base: bool, between: Callable[[], None]
) -> NDArray[np.float32]:
    losses = np.zeros(len(rows.offsets) - 1, np.float32)
    members = np.lexsort((np.arange(len(rows)), -rows.lengths))
    done = 0
    for batch in cut(rows, members, done=0, micro_batch_size=micro_batch_size):
        between()
        chosen = members[done : done + batch.count_rows()]
        done += batch.count_rows()
        numbers = [number for index in chosen for number in rows.sequences(int(index))]
        losses[numbers] = reference_losses(model, batch, base=base)
    return losses


def _digest(parts: dict[str, Rows], losses: dict[str, NDArray[np.float32]]) -> str:
    """Over the tokens and the losses, so that neither other data nor a damaged file goes unnoticed."""
    digest = hashlib.sha256()
    for name, rows in sorted(parts.items()):
        for values in (rows.tokens, rows.learned, rows.offsets, losses[name]):
            digest.update(values.tobytes())
    return digest.hexdigest()


def _read(path: Path, parts: dict[str, Rows]) -> dict[str, NDArray[np.float32]] | None:
    """What an earlier attempt has kept; None where it is not there or does not fit."""
    if not os.path.exists(path):
        return None
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name).numpy() for name in file.keys()}  # noqa: SIM118
            kept: str | None = (file.metadata() or {}).get("digest")
    except SafetensorError:
        return None
    sized = found.keys() == parts.keys() and all(
        len(found[name]) == len(rows.offsets) - 1 for name, rows in parts.items()
    )
    return found if sized and kept == _digest(parts, found) else None
