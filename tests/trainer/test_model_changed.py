"""A model that was changed between its registration and the training is never used silently."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from btmd.model_fingerprint import fingerprint_now
from btmd.trainer.failures import TrainingFailed
from tests.trainer.here import crash_here, train_here
from tests.trainer.job import make_job, make_plan


def change_config(model: Path) -> None:
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "rms_norm_eps": 1e-4}))


def lose_the_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()


def lengthen_the_weights(model: Path) -> None:
    with (model / "model.safetensors").open("ab") as file:
        file.write(b"\0")


CHANGES: list[Callable[[Path], None]] = [change_config, lose_the_weights, lengthen_the_weights]


@pytest.mark.parametrize("change", CHANGES)
def test_an_attempt_on_a_changed_model_fails_before_anything_else(
    change: Callable[[Path], None], tmp_path: Path
) -> None:
    model = Path(make_plan(tmp_path).model_folder)
    job = make_job(tmp_path, model_fingerprint=fingerprint_now(model))
    change(model)
    with pytest.raises(TrainingFailed) as failed:
        train_here(job)
    assert failed.value.reason == "model_changed"
    assert str(model) in failed.value.text
    assert os.listdir(job.checkpoints) == []


def test_a_resume_notices_a_changed_model_too(tmp_path: Path) -> None:
    model = Path(make_plan(tmp_path).model_folder)
    job = make_job(tmp_path, model_fingerprint=fingerprint_now(model))
    crash_here(job, 1, step=5)
    change_config(model)
    with pytest.raises(TrainingFailed, match="were changed since"):
        train_here(job, 2)
