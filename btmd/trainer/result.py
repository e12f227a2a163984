"""The result folder: the trained adapter or model with a record of how it came about; whole or absent."""

import os
import platform
import shutil
from pathlib import Path
from typing import Any

import msgspec

from btmd.files.durable import sync_folder
from btmd.job_folder import JobFolder, TrainerPlan
from btmd.trainer.loaded import VERSIONS
from btmd.trainer.model import TrainableModel
from btmd.trainer.state import HeldOutLoss, Progress

_PATHS = ("model_folder", "rows_path", "adapter_folder", "answers_keys")


class TrainingRecord(msgspec.Struct, frozen=True):
    """training.json: enough to say what was trained, on what, with what, and to do it again."""

    job_id: str
    model: str
    """Name of the model's folder."""
    dataset_sha256: str
    settings: dict[str, Any]
    seed: int
    steps: int
    result_step: int
    held_out_before: float | None
    held_out_after: float | None
    evaluations: list[HeldOutLoss]
    final_loss: float | None
    training_s: float
    ended_by: str
    implementation: str
    versions: dict[str, str]
    scores: dict[str, float | int | None]
    """What else was measured, as in frames.Finished."""


def save_result(
    folder: JobFolder,
    plan: TrainerPlan,
    model: TrainableModel,
    progress: Progress,
    *,
    result_step: int,
    ended_by: str,
    scores: dict[str, float | int | None],
) -> None:
    """Write ``result/`` aside, sync it, rename it; raises OSError, and then no part of it is left."""
    aside = folder.path / ".tmp-result"
    remove_left_overs(folder)
    try:
        aside.mkdir(mode=0o700)
        model.save_result(aside)
        record = _record(plan, model, progress, result_step=result_step, ended_by=ended_by, scores=scores)
        (aside / "training.json").write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1))
        _sync_all(aside)
        if folder.result.exists():  # written by an attempt that died before it could say so
            shutil.rmtree(folder.result)
        os.rename(aside, folder.result)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    sync_folder(folder.path)


def remove_left_overs(folder: JobFolder) -> None:
    """Clear away a result that a crash left half written."""
    aside = folder.path / ".tmp-result"
    if aside.exists():
        shutil.rmtree(aside)


def _record(
    plan: TrainerPlan,
    model: TrainableModel,
    progress: Progress,
    *,
    result_step: int,
    ended_by: str,
    scores: dict[str, float | int | None],
) -> TrainingRecord:
    settings = {name: value for name, value in msgspec.to_builtins(plan).items() if name not in _PATHS}
    after = progress.best.loss if progress.best is not None else None
    return TrainingRecord(
        job_id=plan.job_id,
        model=Path(plan.model_folder).name,
        dataset_sha256=plan.rows_sha256,
        settings=settings,
        seed=plan.seed,
        steps=progress.step,
        result_step=result_step,
        held_out_before=progress.held_out_before,
        held_out_after=after,
        evaluations=progress.evaluations,
        final_loss=progress.last_loss,
        training_s=progress.training_s,
        ended_by=ended_by,
        implementation=model.implementation,
        versions={"python": platform.python_version(), **VERSIONS},
        scores=scores,
    )


def _sync_all(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o700)
            sync_folder(path)
            continue
        path.chmod(0o600)
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)
    sync_folder(folder)
