"""The machine is kept awake while a training runs, and looked at again when it slept all the same."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from btmd.command_handler import CommandHandler
from btmd.domain.commands import DECIDERS
from btmd.domain.machine import STREAM
from btmd.domain.settings import ChangeSettings
from btmd.domain.warning import Finding
from btmd.hardware import probe
from btmd.hardware.sleep_lock import SleepLock, take_sleep_lock
from btmd.jobs.staying_awake import StayingAwake
from btmd.projections.views import ALL_PROJECTIONS
from btmd.store.event_log import Store
from tests.fixtures import job_histories as history
from tests.fixtures.small_bus import bus_with, needs_bus
from tests.store.given import ACTOR, opened


class Machine:
    """Trainings, sleep and locks of a machine that is a test's."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store = folder, store
        self.busy: set[str] = set()
        self.slept_s = 1000.0
        self.asides: dict[str, str] = {}
        self.intervened: list[tuple[str, Finding, int, str]] = []
        self.woke = 0
        self.take_lock: Callable[[str], SleepLock] = take_sleep_lock
        self.handler = CommandHandler(store, DECIDERS)

    def _woken(self) -> None:
        self.woke += 1

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[StayingAwake]:
        awake = StayingAwake(
            store=self.store,
            handler=self.handler,
            jobs_dir=self.folder / "jobs",
            actor=ACTOR,
            busy=lambda: self.busy,
            hardware=lambda: replace(probe(self.folder), gpus=()),
            intervene=lambda *told: self.intervened.append(told),
            on_woke=self._woken,
            asides=self.asides,
            take_lock=self.take_lock,
            slept=lambda: self.slept_s,
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(awake.run)
            await anyio.sleep(0.05)
            yield awake
            tasks.cancel_scope.cancel()


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    async with opened(tmp_path, projections=ALL_PROJECTIONS) as store:
        yield Machine(tmp_path, store)


async def _until(wanted: Callable[[], Any]) -> None:
    with anyio.fail_after(200):
        while True:
            if wanted():
                return
            await anyio.sleep(0.05)


@needs_bus
async def test_a_lock_is_held_while_a_training_runs_and_let_go_after(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bus_with("login1", machine.folder) as bus:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
        async with machine.daemon() as awake:
            await anyio.sleep(0.1)
            assert bus.asked() == []
            machine.busy.add("aa")
            awake.wake()
            await _until(lambda: len(bus.asked()) == 2)
            assert [one["what"] for one in bus.asked()] == ["sleep", "idle"]
            assert bus.asked()[0] == {"what": "sleep", "who": "btmd", "why": "A training runs", "mode": "block"}
            machine.busy.add("bb")
            awake.wake()
            await anyio.sleep(0.1)
            machine.busy.clear()
            awake.wake()
            await _until(lambda: len(bus.asked()) == 4)
            assert bus.asked()[2:] == [{"released": True}] * 2
            machine.busy.add("cc")
            awake.wake()
            await _until(lambda: len(bus.asked()) == 6)
        # A daemon that ends lets go as well.
        await _until(lambda: len(bus.asked()) == 8)
        assert machine.asides == {}


@needs_bus
async def test_a_refusal_is_told_with_the_remedy_and_nothing_stops(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.busy.add("aa")
    with bus_with("login1", machine.folder, refused="sleep") as bus:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
        async with machine.daemon() as awake:
            await _until(lambda: machine.asides)
            assert [one["what"] for one in bus.asked()] == ["idle"]
            assert "AccessDenied" in machine.asides["sleep"]
            assert "polkit" in machine.asides["sleep"]
            machine.busy.clear()
            awake.wake()
            await _until(lambda: not machine.asides)


async def test_a_machine_without_a_bus_trains_without_a_word(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={machine.folder}/nothing")
    assert take_sleep_lock("because") == SleepLock()


async def test_it_is_a_setting(machine: Machine) -> None:
    asked: list[str] = []
    machine.take_lock = lambda why: asked.append(why) or SleepLock()  # type: ignore[func-returns-value]
    machine.busy.add("aa")
    await machine.handler.handle(ChangeSettings({"sleep.inhibit": False}), actor=ACTOR)
    async with machine.daemon():
        await anyio.sleep(0.1)
    assert asked == []


async def test_after_a_sleep_devices_are_looked_at_and_a_training_whose_gpu_is_gone_is_ended(machine: Machine) -> None:
    for job_id, device in (("aa", "cpu"), ("bb", "cuda:0")):
        await history.write(machine.store, job_id, history.submitted(job_id), *history.started(job_id))
        await history.write(machine.store, job_id, history.tick(job_id, 7))
        history.make_folder(machine.folder / "jobs" / job_id, device=device)
    machine.take_lock = lambda why: SleepLock()
    machine.busy |= {"aa", "bb"}
    async with machine.daemon() as awake:
        awake.wake()
        await anyio.sleep(0.1)
        assert await machine.store.read_stream(STREAM) == []
        machine.slept_s += 3600
        awake.wake()
        await _until(lambda: machine.woke)
    (woke,) = await machine.store.read_stream(STREAM)
    assert (woke.type, woke.data) == ("MachineWoke", {"slept_s": 3600.0, "gpus": [], "lost": ["bb"]})
    ((job_id, finding, step, text),) = machine.intervened
    assert (job_id, finding.kind, finding.stops, step) == ("bb", "device", True, 7)
    assert text == "After the machine had slept, GPU 0 was not there any more."
