"""The disk runs full while training: a typed failure, whole checkpoints, and a resume once there is room again."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from btmd.frames import CheckpointSaved, Failed
from btmd.job_folder import JobFolder
from btmd.trainer.checkpoint import Checkpoints
from tests.trainer.here import only, train_here
from tests.trainer.job import frames_of, full_fine_tune, losses_of, make_plan, run_to_end


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_while_checkpointing_keeps_the_last_whole_checkpoint(small_disk: Path, tmp_path: Path) -> None:
    changes = full_fine_tune() | {"sample_answers": 0, "keep_checkpoints": 10, "num_epochs": 4}
    undisturbed = JobFolder(tmp_path / "undisturbed")
    undisturbed.create(make_plan(tmp_path, **changes))
    train_here(undisturbed)
    folder = JobFolder(small_disk / "job")
    folder.create(make_plan(tmp_path, **changes))
    ballast = small_disk / "ballast"
    one_checkpoint = sum(file.stat().st_size for file in (undisturbed.checkpoints / "step-00000004").iterdir())
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize
    ballast.write_bytes(b"\0" * (free - 2 * one_checkpoint - 400_000))

    assert run_to_end(folder) == 1

    frames = frames_of(folder)
    failed = frames[-1]
    assert isinstance(failed, Failed)
    assert failed.reason == "disk_full"
    saved = [frame.name for frame in only(CheckpointSaved, frames)]
    assert saved
    checkpoints = Checkpoints(folder.checkpoints)
    assert checkpoints.names() == saved
    for name in saved:
        checkpoints.load(name)
    assert [path.name for path in folder.checkpoints.iterdir() if path.name.startswith(".")] == []

    ballast.unlink()
    train_here(folder, 2)
    assert losses_of(folder, [1, 2]) == losses_of(undisturbed)


def test_a_disk_without_any_room_is_told_of_before_the_work(small_disk: Path, tmp_path: Path) -> None:
    folder = JobFolder(small_disk / "job")
    folder.create(make_plan(tmp_path))
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize
    (small_disk / "ballast").write_bytes(b"\0" * (free - 64 * 1024))
    assert run_to_end(folder) == 1
    failed = frames_of(folder)[-1]
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.step) == ("disk_full", 0)
