"""The trainer as the daemon starts it: its lock, its signals, its exit status."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from btmd.frames import CheckpointSaved, Failed, Finished, StageEntered, Stopped, Tick
from btmd.job_folder import JobFolder
from tests.trainer.here import only, train_here
from tests.trainer.job import frames_of, log_of, losses_of, make_job, make_plan, run_to_end, start, wait_for

LONG = {"num_epochs": 4000, "save_every": 0}
WITHOUT_PROGRAM = """
import os, sys

class Gone:
    def find_spec(self, name, path=None, target=None):
        if os.path.exists({marker!r}) and name.partition(".")[0] not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Gone())
"""


def is_tick(frame: object) -> bool:
    return isinstance(frame, Tick)


def test_an_attempt_holds_the_lock_names_its_process_and_leaves_private_files(tmp_path: Path) -> None:
    folder = make_job(tmp_path)
    trainer = start(folder)
    wait_for(folder, is_tick, trainer)
    if trainer.poll() is None:
        assert folder.is_alive()
        found = folder.read_pid()
        assert found is not None
        assert (found.pid, found.attempt) == (trainer.pid, 1)
    assert trainer.wait(60) == 0, log_of(folder)
    assert not folder.is_alive()
    assert folder.read_pid() is None
    assert only(Finished, frames_of(folder))
    assert list(folder.tmp.iterdir()) == []
    for path in (folder.result, folder.checkpoints, folder.answers_path, folder.spool_path(1)):
        for file in (path, *path.rglob("*")):
            assert file.stat().st_mode & 0o077 == 0, file


def test_looking_whether_a_trainer_lives_leaves_nothing_behind(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "gone"):
        assert not JobFolder(place).is_alive()
    assert list(tmp_path.iterdir()) == []


def test_started_by_hand_it_takes_the_lock_and_a_second_one_is_refused(tmp_path: Path) -> None:
    folder = make_job(tmp_path)
    lock = folder.take_lock()
    assert lock is not None
    command = [sys.executable, "-m", "btmd.trainer", str(folder.path), "--attempt", "1"]
    try:
        refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    finally:
        os.close(lock)
    assert (refused.returncode, refused.stderr) == (2, "Another trainer is at work in this job folder.\n")
    assert not folder.spool_path(1).exists()


def test_a_folder_without_a_plan_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "btmd.trainer", str(tmp_path), "--attempt", "1"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 2
    assert "not a job folder" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_sigterm_while_libraries_load_pauses_instead_of_killing(tmp_path: Path) -> None:
    folder = make_job(tmp_path, **LONG)
    trainer = start(folder)
    wait_for(folder, lambda frame: isinstance(frame, StageEntered), trainer)
    trainer.send_signal(signal.SIGTERM)
    assert trainer.wait(60) == 0, log_of(folder)
    assert frames_of(folder)[-1] == Stopped(frames_of(folder)[-1].at_us, "pause", 0)
    assert only(Tick, frames_of(folder)) == []


def test_pause_and_resume_give_the_losses_of_an_undisturbed_run(tmp_path: Path) -> None:
    undisturbed = make_job(tmp_path, "undisturbed", num_epochs=30, save_every=0)
    train_here(undisturbed)
    folder = make_job(tmp_path, num_epochs=30, save_every=0)
    trainer = start(folder)
    wait_for(folder, is_tick, trainer)
    trainer.send_signal(signal.SIGTERM)
    assert trainer.wait(60) == 0, log_of(folder)
    frames = frames_of(folder)
    assert isinstance(frames[-1], Stopped)
    assert frames[-1].reason == "pause"
    assert isinstance(frames[-2], CheckpointSaved)
    train_here(folder, 2)
    assert losses_of(folder, [1, 2]) == losses_of(undisturbed)


def test_a_control_file_that_says_cancel_ends_it_without_a_result(tmp_path: Path) -> None:
    folder = make_job(tmp_path, **LONG)
    trainer = start(folder)
    wait_for(folder, is_tick, trainer)
    folder.write_control("cancel")
    trainer.send_signal(signal.SIGTERM)
    assert trainer.wait(60) == 0, log_of(folder)
    assert isinstance(frames_of(folder)[-1], Stopped)
    assert not folder.result.exists()
    assert list(folder.checkpoints.iterdir()) == []


def test_a_control_file_that_says_stop_brings_the_result_also_while_the_program_is_replaced(tmp_path: Path) -> None:
    short = make_plan(tmp_path, answers_keys=str(tmp_path / "keys"), general_questions=2, scored_answers=1)
    folder = JobFolder(tmp_path / "job")
    folder.create(short)
    train_here(folder)
    # The next attempt has measured nothing beforehand, and so loaded nothing for that.
    folder.create(msgspec.structs.replace(short, **LONG))
    marker = tmp_path / "being-upgraded"
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_PROGRAM.format(marker=str(marker)))
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    trainer = start(folder, 2, environment={"PYTHONPATH": path})
    wait_for(folder, is_tick, trainer, 2)
    # As while pip writes: of btmd and all packages nothing can be imported any more.
    marker.touch()
    folder.write_control("stop")
    trainer.send_signal(signal.SIGTERM)
    assert trainer.wait(60) == 0, log_of(folder, 2)
    assert isinstance(frames_of(folder, 2)[-1], Finished)
    assert msgspec.json.decode((folder.result / "training.json").read_bytes())["ended_by"] == "stopped"


def failure_of(folder: JobFolder) -> Failed:
    assert run_to_end(folder) == 1
    frame = frames_of(folder)[-1]
    assert isinstance(frame, Failed)
    return frame


def test_changed_data_fails_as_data(tmp_path: Path) -> None:
    folder = make_job(tmp_path)
    with Path(folder.read_plan().rows_path).open("a") as file:
        file.write('{"line": 99, "text": "one more"}\n')
    failed = failure_of(folder)
    assert failed.reason == "data"
    assert "Traceback" in log_of(folder)
    assert "Traceback" not in failed.text


def test_a_cut_model_fails_as_model(tmp_path: Path) -> None:
    folder = make_job(tmp_path)
    weights = Path(folder.read_plan().model_folder) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    assert failure_of(folder).reason == "model"


def test_a_gpu_that_is_not_there_fails_as_device(tmp_path: Path) -> None:
    folder = make_job(tmp_path)
    folder.create(msgspec.structs.replace(folder.read_plan(), device="cuda:0"))
    trainer = start(folder, environment={"CUDA_VISIBLE_DEVICES": ""})
    assert trainer.wait(60) == 1
    failed = frames_of(folder)[-1]
    assert isinstance(failed, Failed)
    assert failed.reason == "device"


def test_a_diverging_run_fails_as_not_a_number_at_its_step(tmp_path: Path) -> None:
    folder = make_job(
        tmp_path, training_type="fine_tuning", lora=None, learning_rate=1e18, max_gradient_norm=0.0, save_every=0
    )
    failed = failure_of(folder)
    assert failed.reason == "not_a_number"
    assert failed.step >= 1


def test_threads_that_wait_sleep_unless_the_person_wants_otherwise() -> None:
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in _openmp_settings()
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in _openmp_settings(OMP_WAIT_POLICY="ACTIVE")


def _openmp_settings(**own: str) -> str:
    """What OpenMP itself says it has understood, in the trainer's process."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    found = subprocess.run(
        [sys.executable, "-c", "from btmd.trainer.process import share_processors; share_processors(); import torch"],
        env={**inherited, "OMP_DISPLAY_ENV": "true", **own},
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stderr


@pytest.mark.parametrize(
    ("device", "precision", "apart"), [("cpu", "fp32", True), ("cpu", "bf16", False), ("cuda:0", "fp32", False)]
)
def test_what_a_block_leaves_for_a_moment_goes_back_at_once_in_fp32_on_a_cpu(
    tmp_path: Path, device: str, precision: str, apart: bool
) -> None:
    folder = make_job(tmp_path, device=device, precision=precision)
    program = """
import ctypes, sys
from pathlib import Path
from btmd.job_folder import JobFolder
from btmd.trainer.process import keep_large_blocks_apart, resident_bytes

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]

def blocks(size):
    taken = [libc.malloc(size) for _ in range(40)]
    for one in taken:
        ctypes.memset(one, 1, size)
    return taken

keep_large_blocks_apart(JobFolder(Path(sys.argv[1])).read_plan())
# By default, a block that is freed shows malloc that such ones are used and used again: later ones come from its heap.
libc.free(libc.malloc(8 << 20))
taken = blocks(4 << 20)
before = resident_bytes()
for one in taken[:-1]:
    libc.free(one)
print(before - resident_bytes() > 100 << 20)
"""
    found = subprocess.run(
        [sys.executable, "-c", program, str(folder.path)], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == str(apart)
