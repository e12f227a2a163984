"""One training on a device: locks that daemons of all users share and that nobody has to clear up."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from btmd.domain.hardware import Gpu
from btmd.jobs import device_locks
from btmd.jobs import scheduler as scheduling
from btmd.jobs.device_locks import DeviceLocks, lock_name, shared_folder
from btmd.jobs.scheduler import Scheduler
from btmd.jobs.turns import Sight, Start, Wait

HOLDER = """
import os, sys
from pathlib import Path
from btmd.jobs.device_locks import DeviceLocks
held = DeviceLocks(Path(sys.argv[1])).take("cpu")
print("none" if held is None else "held", flush=True)
sys.stdin.read()
"""


def hold(folder: Path) -> "subprocess.Popen[str]":
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == "held"
    return holder


def test_another_process_has_the_lock_until_it_is_gone_however_it_goes(tmp_path: Path) -> None:
    locks = DeviceLocks(tmp_path)
    holder = hold(tmp_path)
    assert locks.take("cpu") is None
    other = locks.take("gpu-0")
    assert other is not None, "another device is another lock"
    holder.kill()
    holder.wait()
    taken = locks.take("cpu")
    assert taken is not None
    for file in (other, taken):
        os.close(file)


def test_who_has_it_is_known_by_process_and_user(tmp_path: Path) -> None:
    locks = DeviceLocks(tmp_path)
    assert locks.holder("cpu") is None
    holder = hold(tmp_path)
    assert locks.holder("cpu") == (holder.pid, os.getuid())
    assert locks.holder("gpu-0") is None, "another device is another lock"
    holder.kill()
    holder.wait()
    assert locks.holder("cpu") is None


def test_only_who_has_the_lock_is_told_and_the_user_only_where_the_process_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks, held, own = DeviceLocks(tmp_path), tmp_path / "held", os.getpid()
    taken = locks.take("cpu")
    assert taken is not None
    os.close(taken)
    found = locks.path("cpu").stat()
    file = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    monkeypatch.setattr(device_locks, "HELD", held)
    assert locks.holder("cpu") is None, "a list that cannot be read"
    gone = subprocess.Popen(["true"])
    gone.wait()
    for line, holder in (
        (f"1: FLOCK  ADVISORY  WRITE {own} {file} 0 EOF", (own, os.getuid())),
        (f"1: FLOCK  ADVISORY  WRITE {gone.pid} {file} 0 EOF", (gone.pid, None)),
        # Without a number where the kernel shows none to this namespace.
        (f"1: FLOCK  ADVISORY  WRITE 0 {file} 0 EOF", None),
        (f"1: -> FLOCK  ADVISORY  WRITE {own} {file} 0 EOF", None),
        # Of another kind, which keeps no training from this file.
        (f"1: POSIX  ADVISORY  READ  {own} {file} 0 EOF", None),
        (f"1: OFDLCK ADVISORY  READ  -1 {file} 0 EOF", None),
        (f"1: FLOCK  ADVISORY  WRITE {own} {file}1 0 EOF", None),
        ("", None),
    ):
        held.write_text(f"0: FLOCK  ADVISORY  WRITE 1 00:00:1 0 EOF\n{line}\n")
        assert locks.holder("cpu") == holder, line


def test_a_child_that_inherits_the_lock_keeps_it_when_the_parent_lets_go(tmp_path: Path) -> None:
    locks = DeviceLocks(tmp_path)
    held = locks.take("cpu")
    assert held is not None
    child = subprocess.Popen(["sleep", "600"], pass_fds=(held,))
    os.close(held)
    assert locks.take("cpu") is None
    child.kill()
    child.wait()
    again = locks.take("cpu")
    assert again is not None
    os.close(again)


def test_the_file_can_be_opened_by_everybody_and_written_by_nobody(tmp_path: Path) -> None:
    locks = DeviceLocks(tmp_path)
    before = os.umask(0o077)
    try:
        held = locks.take("cpu")
    finally:
        os.umask(before)
    assert held is not None
    assert locks.path("cpu").stat().st_mode & 0o777 == 0o444
    assert [path.name for path in tmp_path.iterdir()] == ["btmd-cpu.lock"]
    os.close(held)


def test_a_lock_whose_file_was_tidied_up_keeps_others_out_no_more(tmp_path: Path) -> None:
    locks = DeviceLocks(tmp_path)
    first = locks.take("cpu")
    locks.path("cpu").unlink()
    second = locks.take("cpu")
    assert first is not None
    assert second is not None
    assert locks.take("cpu") is None
    os.close(first)
    os.close(second)


def test_links_and_fifos_in_its_place_are_refused(tmp_path: Path) -> None:
    locks = DeviceLocks(tmp_path)
    locks.path("cpu").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"."):
        locks.take("cpu")
    assert not (tmp_path / "elsewhere").exists()
    os.mkfifo(locks.path("gpu-0"))
    with pytest.raises(OSError, match="plain file"):
        locks.take("gpu-0")


def test_the_shared_folder_is_the_first_in_which_everybody_may_make_files(tmp_path: Path) -> None:
    mine, ours = tmp_path / "mine", tmp_path / "ours"
    for folder, mode in ((mine, 0o755), (ours, 0o1777)):
        folder.mkdir()
        folder.chmod(mode)
    assert shared_folder((tmp_path / "missing", mine, ours)) == ours


def test_a_gpu_is_named_by_the_number_its_maker_gave_it() -> None:
    gpus = (Gpu(0, "A5000", 1, 1, 0, uuid="GPU-1a/2b"), Gpu(1, "A5000", 1, 1, 0))
    assert lock_name("cpu", gpus) == "cpu"
    assert lock_name("cuda:0", gpus) == "gpu-GPU-1a_2b"
    assert lock_name("cuda:1", gpus) == "gpu-1"


@pytest.mark.skipif(os.getuid() != 0, reason="needs another user")
def test_the_daemons_of_two_users_meet_at_one_lock(tmp_path: Path) -> None:
    folder = Path("/dev/shm") / f"btmd-test-{os.getpid()}"
    folder.mkdir()
    folder.chmod(0o1777)
    try:
        locks = DeviceLocks(folder)
        held = locks.take("cpu")
        assert held is not None
        script = (
            "import os,sys; from pathlib import Path; from btmd.jobs.device_locks import DeviceLocks;"
            "os.setgid(65534); os.setuid(65534); locks = DeviceLocks(Path(sys.argv[1]));"
            "print(locks.take('cpu'), locks.take('gpu-0') is not None)"
        )
        command = [sys.executable, "-c", script, str(folder)]
        assert subprocess.check_output(command, text=True).split() == ["None", "True"]
        os.close(held)
        assert subprocess.check_output(command, text=True).split()[0] != "None"
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


async def test_who_waits_for_a_device_is_told_as_much_as_is_known_of_who_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = cast(Any, None)
    locks = DeviceLocks(tmp_path)
    scheduler = Scheduler(
        store=nothing,
        handler=nothing,
        state_dir=tmp_path,
        jobs_dir=tmp_path,
        locks=locks,
        start=nothing,
        busy=frozenset,
        actor=nothing,
        clock=lambda: 0,
    )
    sight = Sight(now_us=0, weekday=0, minute=0, memory_free_bytes=0, disk_free_bytes=0)
    held = locks.take("cpu")
    assert held is not None
    says = "Waits for the CPU: another btmd trains on the CPU"
    for holder, more in (
        (None, "."),
        ((4711, None), f" (process 4711 has the lock {tmp_path}/btmd-cpu.lock)."),
        ((4711, 0), f" (process 4711 of root has the lock {tmp_path}/btmd-cpu.lock)."),
    ):
        monkeypatch.setattr(locks, "holder", {"cpu": holder}.get)
        unclaimable: dict[str, Wait] = {}
        assert scheduler._claim(Start("j", "cpu"), sight, unclaimable) is None
        assert unclaimable == {"cpu": Wait("other_btmd", says + more)}
    # The lock passes to somebody else, and a turn is given to tell of that.
    monkeypatch.setattr(scheduling, "LOCK_S", 0.01)
    with anyio.move_on_after(0.3) as waited:
        await scheduler._turn_or_lock()
    assert waited.cancelled_caught
    monkeypatch.setattr(locks, "holder", {"cpu": (4712, 0)}.get)
    with anyio.fail_after(10):
        await scheduler._turn_or_lock()
    os.close(held)
