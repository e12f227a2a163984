"""A resumed run gives exactly the losses of one that was never disturbed."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from btmd.frames import CheckpointRejected, CheckpointSaved, Finished, Notice, Stopped, TrainingShape
from btmd.job_folder import JobFolder
from tests.trainer.here import crash_here, only, train_here
from tests.trainer.job import frames_of, full_fine_tune, losses_of, make_job

KINDS: dict[str, dict[str, Any]] = {"lora": {}, "full": full_fine_tune() | {"precision": "bf16"}}


@pytest.fixture(scope="module", params=sorted(KINDS))
def undisturbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> JobFolder:
    folder = make_job(tmp_path_factory.mktemp(request.param), **KINDS[request.param])
    train_here(folder)
    return folder


def twin(undisturbed: JobFolder, tmp_path: Path, **changes: Any) -> JobFolder:
    """The same job once more, in a folder of its own."""
    folder = JobFolder(tmp_path / "twin")
    folder.create(msgspec.structs.replace(undisturbed.read_plan(), **changes))
    return folder


def held_out_after(folder: JobFolder, attempt: int) -> float | None:
    [finished] = only(Finished, frames_of(folder, attempt))
    found: float | None = finished.held_out_after
    return found


def test_the_undisturbed_run_really_learns_with_dropout(undisturbed: JobFolder) -> None:
    losses = losses_of(undisturbed)
    assert sorted(losses) == list(range(1, 11))
    assert losses[10] < losses[1]


def test_a_pause_in_the_middle_of_an_accumulation_changes_nothing(undisturbed: JobFolder, tmp_path: Path) -> None:
    folder = twin(undisturbed, tmp_path)
    train_here(folder, 1, control="pause", step=5, looks=4)
    saved = only(CheckpointSaved, frames_of(folder, 1))[-1]
    assert saved.name == "step-00000005-row-00004"
    assert only(Stopped, frames_of(folder, 1)) == [Stopped(frames_of(folder, 1)[-1].at_us, "pause", 5)]

    train_here(folder, 2)

    assert min(losses_of(folder, [2])) == 6
    assert losses_of(folder, [1, 2]) == losses_of(undisturbed)
    assert held_out_after(folder, 2) == held_out_after(undisturbed, 1)


def test_a_pause_between_two_steps_changes_nothing(undisturbed: JobFolder, tmp_path: Path) -> None:
    folder = twin(undisturbed, tmp_path, save_every=0)
    train_here(folder, 1, control="pause", step=3)
    train_here(folder, 2)
    assert min(losses_of(folder, [2])) == 4
    assert losses_of(folder, [1, 2]) == losses_of(undisturbed)


def test_crashes_after_and_between_checkpoints_change_nothing(undisturbed: JobFolder, tmp_path: Path) -> None:
    folder = twin(undisturbed, tmp_path)
    crash_here(folder, 1, step=2, looks=3)  # before the first checkpoint: from the start again
    crash_here(folder, 2, step=6, looks=2)  # back to step 4
    crash_here(folder, 3, step=9, looks=4)  # back to step 8
    train_here(folder, 4)
    expected = losses_of(undisturbed)
    for attempt, first in ((1, 1), (2, 1), (3, 5), (4, 9)):
        told = losses_of(folder, [attempt])
        assert min(told) == first
        assert told == {step: expected[step] for step in told}
    assert held_out_after(folder, 4) == held_out_after(undisturbed, 1)


def test_evaluating_more_often_changes_no_training_loss(undisturbed: JobFolder, tmp_path: Path) -> None:
    folder = twin(undisturbed, tmp_path, eval_every=1)
    train_here(folder)
    assert losses_of(folder) == losses_of(undisturbed)


def test_a_pause_in_the_middle_of_an_evaluation_evaluates_again(undisturbed: JobFolder, tmp_path: Path) -> None:
    folder = twin(undisturbed, tmp_path, eval_every=5)
    train_here(folder, 1, control="pause", step=5, looks=2)
    train_here(folder, 2)
    assert losses_of(folder, [1, 2]) == losses_of(undisturbed)
    assert held_out_after(folder, 2) == held_out_after(undisturbed, 1)


def test_a_pause_while_the_result_is_made_keeps_the_state(undisturbed: JobFolder, tmp_path: Path) -> None:
    folder = twin(undisturbed, tmp_path)
    train_here(folder, 1, control="pause", step=10, looks=4)
    assert only(CheckpointSaved, frames_of(folder, 1))[-1].name == "step-00000010"
    assert not folder.result.exists()
    train_here(folder, 2)
    assert losses_of(folder, [2]) == {}
    assert held_out_after(folder, 2) == held_out_after(undisturbed, 1)
    assert (folder.result / "training.json").is_file()


def test_another_micro_batch_size_goes_on_at_the_same_row_and_says_that_it_is_not_exact(
    undisturbed: JobFolder, tmp_path: Path
) -> None:
    folder = twin(undisturbed, tmp_path)
    train_here(folder, 1, control="pause", step=5, looks=4)
    other = msgspec.structs.replace(folder.read_plan(), micro_batch_size=1)
    folder.create(other)
    train_here(folder, 2)
    [notice] = only(Notice, frames_of(folder, 2), lambda frame: frame.code == "resume_not_exact")
    assert "micro_batch_size: 2 -> 1" in notice.text
    found, expected = losses_of(folder, [1, 2]), losses_of(undisturbed)
    assert found == pytest.approx(expected, rel=0.02)  # dropout draws otherwise


def damage_cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_altered(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def damage_missing(path: Path) -> None:
    path.unlink()


DAMAGES = [
    (damage_cut, "weights.safetensors"),
    (damage_empty, "weights.safetensors"),
    (damage_altered, "weights.safetensors"),
    (damage_missing, "weights.safetensors"),
    (damage_altered, "optimizer.safetensors"),
    (damage_cut, "random.safetensors"),
    (damage_altered, "facts.json"),
    (damage_altered, "manifest.json"),
    (damage_missing, "manifest.json"),
]


@pytest.mark.parametrize("undisturbed", ["lora"], indirect=True)
@pytest.mark.parametrize(("damage", "file"), DAMAGES)
def test_a_damaged_newest_checkpoint_is_told_of_and_the_one_before_is_used(
    undisturbed: JobFolder, tmp_path: Path, damage: Any, file: str
) -> None:
    folder = twin(undisturbed, tmp_path)
    crash_here(folder, 1, step=9)
    damage(folder.checkpoints / "step-00000008" / file)

    train_here(folder, 2)

    [rejected] = only(CheckpointRejected, frames_of(folder, 2))
    assert (rejected.name, rejected.used_instead) == ("step-00000008", "step-00000004")
    assert rejected.reason
    assert min(losses_of(folder, [2])) == 5
    assert losses_of(folder, [1, 2]) == losses_of(undisturbed)


def test_without_any_whole_checkpoint_it_begins_anew_and_says_so(undisturbed: JobFolder, tmp_path: Path) -> None:
    folder = twin(undisturbed, tmp_path)
    crash_here(folder, 1, step=5)
    damage_cut(folder.checkpoints / "step-00000004" / "weights.safetensors")
    train_here(folder, 2)
    [rejected] = only(CheckpointRejected, frames_of(folder, 2))
    assert rejected.used_instead is None
    assert only(Notice, frames_of(folder, 2), lambda frame: frame.code == "resume_from_start")
    [shape] = only(TrainingShape, frames_of(folder, 2))
    assert shape.resumed_from_step == 0
    assert losses_of(folder, [2]) == losses_of(undisturbed)


def test_left_overs_of_a_crash_are_removed(undisturbed: JobFolder, tmp_path: Path) -> None:
    folder = twin(undisturbed, tmp_path)
    crash_here(folder, 1, step=5)
    half = folder.checkpoints / ".tmp-step-00000005"
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"half")
    (folder.path / ".tmp-result").mkdir()
    train_here(folder, 2)
    assert [path.name for path in folder.checkpoints.glob(".*")] == []
    assert not (folder.path / ".tmp-result").exists()


def test_random_states_of_all_three_generators_come_back(undisturbed: JobFolder, tmp_path: Path) -> None:
    import random

    import numpy as np
    import torch

    folder = twin(undisturbed, tmp_path)
    train_here(folder, 1, control="pause", step=5)
    after_pause = (random.random(), float(np.random.random()), float(torch.rand(1)))
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    train_here(folder, 2, control="pause", step=5)
    assert (random.random(), float(np.random.random()), float(torch.rand(1))) == after_pause
