"""Processes that open what others made, or run what others wrote, are where there is nothing to talk to."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import btmd.exporting.__main__ as exporting
import btmd.inspection.__main__ as inspecting
from btmd import no_network

_AS_ORDINARY_USER = """
import ctypes, os
os.setgroups([]), os.setgid(2), os.setuid(2)
ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE, which a program that is started has: its /proc/self is its own
"""
_LEAVE = "import btmd.no_network as own, socket; own.leave_the_network();"
_PLACE = "import os; print(os.readlink('/proc/self/ns/net'));"
_TRAINER = """
import sys; from pathlib import Path; from btmd.job_folder import JobFolder; from btmd.trainer import process
process.prepare_environment(JobFolder(Path(sys.argv[1])));
"""
_CHAT = "import sys; from btmd.trainer import chat; chat.main([sys.argv[1] + '/nothing']);"


def said_by(program: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def can_leave() -> None:
    if said_by(_PLACE) == said_by(_LEAVE + _PLACE):
        pytest.skip("this system lets nobody leave the network")


@pytest.mark.usefixtures("can_leave")
def test_only_a_loopback_that_is_down_is_left() -> None:
    program = _LEAVE + "print(socket.if_nameindex());" + "socket.create_connection(('127.0.0.1', 9), 1)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[(1, 'lo')]"
    assert "unreachable" in done.stderr


@pytest.mark.usefixtures("can_leave")
@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_without_rights_too_and_the_user_stays_who_they_were() -> None:
    told = "print(os.getuid(), os.getgid(), len(socket.if_nameindex()))"
    before, after, who = said_by(
        f"import btmd.no_network, socket\n{_AS_ORDINARY_USER}\n{_PLACE}\n{_LEAVE}\n{_PLACE}\n{told}"
    )
    if before == after:
        pytest.skip("this system lets only root leave the network")
    assert who == "2 2 1"


@pytest.mark.usefixtures("can_leave")
@pytest.mark.parametrize("program", [_TRAINER, _CHAT], ids=["trainer", "chat"])
def test_what_loads_models_leaves_before_it_does(program: str, tmp_path: Path) -> None:
    assert said_by(program + _PLACE, str(tmp_path))[-1] not in said_by(_PLACE)


@pytest.mark.parametrize("child", [inspecting, exporting])
def test_what_opens_files_and_what_exports_leave_before_they_are_told_what(
    child: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    for name in ("isolate", "answer_one", "_limit_memory"):
        monkeypatch.setattr(child, name, lambda *_, name=name: done.append(name), raising=False)
    child.main()
    assert done[-2:] == ["isolate", "answer_one"]


@pytest.mark.parametrize(("made", "there"), [(True, True), (False, False)])
def test_the_gpus_devices_are_made_before_nobody_can(
    made: bool, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, driver = tmp_path / "nvidia-uvm", tmp_path / "nvidia"
    program = tmp_path / "nvidia-modprobe"
    program.write_text(f'#!/bin/sh\n[ "$*" = "-c 0 -u" ] && {"touch" if made else "test -e"} "{device}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(no_network, "NVIDIA_DRIVER", driver)
    monkeypatch.setattr(no_network, "NVIDIA_MEMORY", device)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert no_network.have_gpu_devices()
    assert not device.exists()
    driver.mkdir()
    assert no_network.have_gpu_devices() is there
    assert device.exists() is made
