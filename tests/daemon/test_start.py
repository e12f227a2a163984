"""Starting and stopping: one daemon a folder, refusals in three lines, the socket ours alone."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from btmd.config import read_config
from btmd.domain import settings
from btmd.domain.dataset import ConsentGranted, DatasetAdded, DatasetVersionAdded
from btmd.domain.settings import SettingChanged
from btmd.errors import BtmdError
from btmd.store.event_log import StreamAppend
from tests.fixtures import job_histories as history
from tests.fixtures.daemon import DaemonProcess, config_of
from tests.fixtures.short_folder import short_folder
from tests.store.given import ACTOR, opened


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


def _refused(*flags: str) -> tuple[int, list[str]]:
    """Exit code and the lines of a daemon that does not start."""
    done = subprocess.run(
        [sys.executable, "-m", "btmd", *flags], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def test_a_second_daemon_on_the_same_folder_or_socket_is_refused(folder: Path) -> None:
    with DaemonProcess(config_of(folder)) as daemon:
        state, sock = str(daemon.config.state_dir), str(daemon.config.socket_path)
        code, lines = _refused("--state-dir", state, "--socket", str(folder / "other"))
        assert (code, len(lines)) == (6, 3)
        assert str(daemon.process.pid if daemon.process else "") in lines[1]
        code, lines = _refused("--state-dir", str(folder / "other-state"), "--socket", sock)
        assert (code, lines[0]) == (6, "btmd: The socket path is taken.")
        daemon.client.get("/health").ok()


def test_the_folder_and_the_socket_are_the_owners_alone(folder: Path) -> None:
    with DaemonProcess(config_of(folder)) as daemon:
        assert stat.S_IMODE(daemon.config.socket_path.stat().st_mode) == 0o600
        assert stat.S_IMODE(daemon.config.state_dir.stat().st_mode) == 0o700
        for path in daemon.config.state_dir.rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_does_not_hold_up_the_start(folder: Path, make: Callable[[Path], None]) -> None:
    config = config_of(folder)
    config.state_dir.mkdir()
    for path in (config.settings_memory_path, config.presets_memory_path, config.failed_start_path):
        make(path)
    with DaemonProcess(config) as daemon:
        daemon.client.get("/settings/training.seed").ok()


def test_what_others_could_read_is_closed_to_them_again(folder: Path) -> None:
    config = config_of(folder)
    elsewhere = folder / "elsewhere"
    elsewhere.write_text("somebody's")
    elsewhere.chmod(0o644)
    with DaemonProcess(config):
        pass
    config.keys_dir.mkdir(exist_ok=True)
    (config.keys_dir / "key").write_bytes(b"")
    opened = [config.database_path, config.keys_dir, config.keys_dir / "key"]
    for path in opened:
        path.chmod(0o755 if path.is_dir() else 0o644)
    (config.keys_dir / "link").symlink_to(elsewhere)
    with DaemonProcess(config) as daemon:
        assert [stat.S_IMODE(path.stat().st_mode) for path in opened] == [0o600, 0o700, 0o600]
        assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o644
        said = daemon.log.read_text()
        assert all(str(path.relative_to(config.state_dir)) in said for path in opened)


def test_the_socket_of_a_dead_daemon_is_replaced(folder: Path) -> None:
    with DaemonProcess(config_of(folder)) as daemon:
        daemon.kill()
        assert daemon.config.socket_path.exists()
        daemon.start()
        assert daemon.stop()[0] == 0
        assert not daemon.config.socket_path.exists()


def test_anything_else_at_the_sockets_path_is_left_alone(folder: Path) -> None:
    (folder / "file").write_text("mine")
    code, lines = _refused("--state-dir", str(folder / "s"), "--socket", str(folder / "file"))
    assert (code, lines[0]) == (6, "btmd: The socket path is taken.")
    assert (folder / "file").read_text() == "mine"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as foreign:
        foreign.bind(str(folder / "live"))
        foreign.listen()
        code, lines = _refused("--state-dir", str(folder / "s"), "--socket", str(folder / "live"))
        assert code == 6
    assert (folder / "live").exists()


def test_a_socket_path_that_is_too_long_is_refused_in_words(folder: Path) -> None:
    code, lines = _refused("--state-dir", str(folder / "s"), "--socket", str(folder / ("x" * 120)))
    assert code == 2
    assert "107" in lines[1]


def test_wrong_flags_are_refused_in_three_lines() -> None:
    for flags in (["--nothing"], ["--idle-exit", "never"], ["--idle-exit", "-1"], ["--log-level", "loud"]):
        code, lines = _refused(*flags)
        assert (code, lines[0]) == (2, "btmd: A value cannot be used.")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a read-only folder")
def test_a_read_only_state_folder_is_refused(folder: Path) -> None:
    state = folder / "ro"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(state)], check=True)
    try:
        code, lines = _refused("--state-dir", str(state), "--socket", str(folder / "sock"))
    finally:
        subprocess.run(["umount", str(state)], check=True)
    assert (code, lines[0]) == (6, "btmd: The state folder cannot be written.")
    assert not (folder / "sock").exists()


def test_a_daemon_nobody_needs_ends_by_itself(folder: Path) -> None:
    daemon = DaemonProcess(config_of(folder), "--idle-exit", "0.5")
    daemon.start()
    assert daemon.process is not None
    assert daemon.process.wait(60) == 0
    assert not daemon.config.socket_path.exists()


async def test_only_a_training_that_goes_on_by_itself_keeps_it(folder: Path) -> None:
    config = config_of(folder)
    config.state_dir.mkdir(mode=0o700)
    async with opened(config.state_dir) as store:
        quiet = SettingChanged("queue.quiet_hours", None, "00:00-24:00")
        await store.append([StreamAppend(settings.STREAM, (quiet,))], actor=ACTOR)
        data = (
            DatasetAdded("facts", "facts", 1000, "facts.jsonl"),
            DatasetVersionAdded("facts", "v1", "1" * 64, "0" * 64, 10, 3, {}, {"rows_kept": 3}),
            ConsentGranted("facts", "", ("train",), 1000),
        )
        await store.append([StreamAppend("dataset-facts", data)], actor=ACTOR)
        submitted = history.submitted("aa")
        planned = submitted.trainer_plan | {"rows_sha256": "0" * 64}
        await history.write(store, "aa", replace(submitted, trainer_plan=planned))
    with DaemonProcess(config, "--idle-exit", "0.5") as daemon:
        assert daemon.process is not None
        # It waits for the end of the quiet hours.
        with pytest.raises(subprocess.TimeoutExpired):
            daemon.process.wait(2.5)
        daemon.client.post("/queue/aa/hold").ok()
        assert daemon.process.wait(60) == 0


def test_sigint_and_sigterm_end_it_within_five_seconds(folder: Path) -> None:
    for one in (signal.SIGINT, signal.SIGTERM):
        daemon = DaemonProcess(config_of(folder)).start()
        assert daemon.process is not None
        began = time.monotonic()
        daemon.process.send_signal(one)
        assert daemon.process.wait(60) == 0
        assert time.monotonic() - began < 5


def test_where_things_live(tmp_path: Path) -> None:
    home = {"HOME": "/home/ada"}
    found = read_config([], home)
    assert str(found.state_dir) == "/home/ada/.local/state/btmd"
    assert str(found.config_dir) == "/home/ada/.config/btmd"
    assert found.socket_path == found.state_dir / "btmd.sock"
    found = read_config([], {**home, "XDG_STATE_HOME": "/s", "XDG_CONFIG_HOME": "/c", "XDG_RUNTIME_DIR": "/r"})
    assert (str(found.state_dir), str(found.config_dir)) == ("/s/btmd", "/c/btmd")
    assert str(found.socket_path) == "/r/btmd/btmd.sock"
    found = read_config([], {**home, "BTMD_STATE_DIR": "/a", "BTMD_CONFIG_DIR": "/b", "BTMD_SOCKET": "/d"})
    assert (str(found.state_dir), str(found.config_dir), str(found.socket_path)) == ("/a", "/b", "/d")
    found = read_config(["--state-dir", "/x", "--socket", "/y"], {**home, "BTMD_STATE_DIR": "/a"})
    assert (str(found.state_dir), str(found.socket_path)) == ("/x", "/y")
    with pytest.raises(BtmdError):
        read_config(["--idle-exit", "0"], home)


def test_views_can_be_built_anew(folder: Path) -> None:
    with DaemonProcess(config_of(folder)) as daemon:
        daemon.client.patch("/settings", {"changes": {"training.seed": 11}}).ok()
        daemon.stop()
    with DaemonProcess(config_of(folder), "--rebuild-projections") as daemon:
        assert daemon.client.get("/settings/training.seed").ok()["value"] == 11
        positions = {one["position"] for one in daemon.client.get("/health").ok()["store"]["projections"]}
        assert len(positions) == 1
