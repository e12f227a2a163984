"""What the service manager is told, over its own protocol."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from btmd.config import SystemdContext, read_config
from btmd.daemon import Daemon
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


def test_states_reach_a_path_and_the_abstract_namespace(folder: Path) -> None:
    for shown, bound in ((str(folder / "n"), str(folder / "n")), (f"@btmd-{folder.name}", f"\0btmd-{folder.name}")):
        with _manager(bound) as manager:
            Notifier(shown).send(READY=1, STATUS="well")
            assert manager.recv(1000) == b"READY=1\nSTATUS=well"


def test_without_a_manager_nothing_is_sent() -> None:
    Notifier("").send(READY=1)


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
        try:
            await daemon.open()
            await daemon.recover()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(daemon.run, ())
                with anyio.fail_after(30):
                    while not (told and told[-1] == b"WATCHDOG=1"):
                        told.append(await loop.sock_recv(manager, 1000))
                    daemon.stop("test")
                    while told[-1] != b"STOPPING=1":
                        told.append(await loop.sock_recv(manager, 1000))
        finally:
            await daemon.close()
    assert told[0].startswith((b"READY=1\nSTATUS=", b"WATCHDOG=1"))
    assert any(one.startswith(b"READY=1") for one in told)
