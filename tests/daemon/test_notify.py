"""What the service manager is told, over its own protocol."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from sqlalchemy.exc import DatabaseError

from btmd.config import SystemdContext, read_config
from btmd.daemon import Daemon, clock_us
from btmd.errors import StoreFailed
from btmd.jobs.unit_status import UnitStatus
from btmd.notify import Notifier
from tests.fixtures.daemon import config_of
from tests.fixtures.short_folder import short_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


def _manager(address: str) -> socket.socket:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(address)
    manager.settimeout(20)
    return manager


@asynccontextmanager
async def _running(daemon: Daemon) -> AsyncIterator[None]:
    """Until the block ends, which stops it."""
    try:
        await daemon.open()
        await daemon.recover()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(daemon.run, ())
            yield
            daemon.stop("test")
    finally:
        await daemon.close()


def test_states_reach_a_path_and_the_abstract_namespace(folder: Path) -> None:
    for shown, bound in ((str(folder / "n"), str(folder / "n")), (f"@btmd-{folder.name}", f"\0btmd-{folder.name}")):
        with _manager(bound) as manager:
            Notifier(shown).send(READY=1, STATUS="well")
            assert manager.recv(1000) == b"READY=1\nSTATUS=well"


def test_without_a_manager_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    monkeypatch.setattr("btmd.notify.socket.socket", lambda *kinds: opened.append(kinds))
    Notifier("").send(READY=1)
    assert not opened


def test_the_watchdog_counts_only_when_it_watches_this_process() -> None:
    home = {"HOME": "/h", "NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "2000000"}
    assert read_config([], home).systemd == SystemdContext("/n", 2.0)
    assert read_config([], {**home, "WATCHDOG_PID": "1"}).systemd.watchdog_s is None


async def test_ready_watchdog_and_stopping_are_told_in_order(folder: Path) -> None:
    with _manager(str(folder / "n")) as manager:
        manager.setblocking(False)
        daemon = Daemon(config_of(folder, systemd=SystemdContext(str(folder / "n"), watchdog_s=0.2)))
        loop = asyncio.get_running_loop()
        told = []
        async with _running(daemon):
            with anyio.fail_after(30):
                while not (told and told[-1] == b"WATCHDOG=1"):
                    told.append(await loop.sock_recv(manager, 1000))
                daemon.stop("test")
                while told[-1] != b"STOPPING=1":
                    told.append(await loop.sock_recv(manager, 1000))
    assert told[0].startswith((b"READY=1\nSTATUS=", b"WATCHDOG=1"))
    assert any(one.startswith(b"READY=1") for one in told)


async def test_a_status_line_that_cannot_be_read_once_ends_no_daemon(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, failures = UnitStatus.line, iter([DatabaseError("SELECT", {}, Exception("malformed"))])

    async def failing_once(status: UnitStatus) -> str:
        for failure in failures:
            raise failure
        return await line(status)

    monkeypatch.setattr(UnitStatus, "line", failing_once)
    with _manager(str(folder / "n")) as manager:
        manager.setblocking(False)
        daemon = Daemon(config_of(folder, systemd=SystemdContext(str(folder / "n"))))
        loop = asyncio.get_running_loop()
        async with _running(daemon):
            with anyio.fail_after(60):
                while await loop.sock_recv(manager, 1000) != b"STATUS=Nothing to train.":
                    pass
    assert not list(failures), "the status was read before it could be told"


class _FailedLog:
    """A log that has failed, until it was opened again."""

    def __init__(self) -> None:
        self.asked = 0

    async def round_trip(self) -> None:
        self.asked += 1
        if self.asked == 1:
            raise StoreFailed("The disk failed.")


async def test_a_log_that_has_failed_gets_no_watchdog_word_and_ends_no_daemon(folder: Path) -> None:
    with _manager(str(folder / "n")) as manager:
        manager.setblocking(False)
        daemon = Daemon(config_of(folder, systemd=SystemdContext(str(folder / "n"))))
        failed = _FailedLog()
        daemon.store = failed  # type: ignore[assignment]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(daemon._answer_watchdog, 0.0)
            with anyio.fail_after(20):
                assert await asyncio.get_running_loop().sock_recv(manager, 1000) == b"WATCHDOG=1"
            tasks.cancel_scope.cancel()
    assert failed.asked >= 2


async def test_a_request_that_comes_and_goes_while_the_jobs_are_counted_keeps_the_daemon(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon, counted = Daemon(config_of(folder)), anyio.Event()
    try:
        await daemon.open()
        activity = daemon.assembly.parts.activity
        activity.last_us = 0

        async def count_while_asked(_: object) -> int:
            activity.last_us = clock_us()
            counted.set()
            return 0

        monkeypatch.setattr("btmd.daemon.count_going", count_while_asked)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(daemon._end_when_idle, 60.0)
            with anyio.fail_after(20):
                await counted.wait()
            # Leaving the session takes a few turns of the loop.
            with anyio.move_on_after(0.5):
                await daemon.stopping.wait()
            assert not daemon.stopping.is_set()
            tasks.cancel_scope.cancel()
    finally:
        await daemon.close()
