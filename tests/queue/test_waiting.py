"""What a daemon waits for outside of itself: memory, mains power, its data; only the machine is made up."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from btmd.config import Config
from btmd.domain.dataset import DatasetRemoved
from btmd.domain.units import GIB
from btmd.jobs import long_waits, scheduler
from btmd.jobs.sight import Seen
from btmd.store.batch import StreamAppend
from tests.fixtures.daemon import QUICK, Client, ThreadedDaemon, config_of, end_trainers, rows
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

LONG = {"num_epochs": 1000, "max_steps": 20_000, "eval_every": 5000, "save_every": 5000, "sample_answers": 0}
PLENTY = Seen(memory_free_bytes=64 * GIB, disk_free_bytes=100 * GIB, on_battery=False)


class Machine:
    """What the scheduler sees, in place of what is really there."""

    def __init__(self) -> None:
        self.seen = PLENTY
        self.looks = 0

    def look(self, _state_dir: Path, with_gpus: bool) -> Seen:
        self.looks += 1
        return self.seen


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def config(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Config]:
    monkeypatch.setitem(scheduler.Scheduler.__init__.__kwdefaults__, "look", machine.look)
    monkeypatch.setattr(scheduler, "LOOK_AGAIN_S", 0.2)
    monkeypatch.setattr(scheduler, "CLOCK_S", 0.2)
    with short_folder() as folder:
        yield config_of(folder)
        end_trainers(folder / "state" / "jobs")


@contextmanager
def prepared(config: Config) -> Iterator[ThreadedDaemon]:
    with ThreadedDaemon(config) as running:
        running.client.patch("/settings", {"changes": QUICK}).ok()
        running.client.add_model(make_tiny_llama(config.state_dir.parent / "tiny"))
        running.client.add_dataset(rows())
        yield running


@pytest.fixture
def client(config: Config) -> Iterator[Client]:
    with prepared(config) as running:
        yield running.client


def told(client: Client, job_id: str, words: str) -> dict[str, Any]:
    return client.wait_for(job_id, lambda job: words in job["waits_for"])


def test_memory_and_room_are_waited_for_and_taken_as_soon_as_they_are_there(
    client: Client, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_waits, "LONG_S", 0.0)
    machine.seen = replace(PLENTY, memory_free_bytes=GIB // 100)
    job_id = client.start(overrides=LONG)
    waits = told(client, job_id, "Waits for memory: it needs about")
    assert "10 MB are free" in waits["waits_for"]
    assert client.get("/queue").ok()["waiting"][0]["wait"] == "memory"
    machine.seen = replace(PLENTY, disk_free_bytes=GIB // 100)
    (warned,) = client.wait_for(job_id, lambda job: job["warnings"])["warnings"]
    assert (warned["kind"], warned["severity"], warned["withdrawn_at"]) == ("waits_for_room", "critical", None)
    machine.seen = PLENTY
    client.wait_until(job_id, "preparing", "training")
    client.wait_for(job_id, lambda job: job["warnings"][0]["withdrawn_at"] is not None)


def test_on_battery_nothing_starts_and_what_runs_gives_way_if_asked(client: Client, machine: Machine) -> None:
    client.patch("/settings", {"changes": {"queue.only_on_mains": True}}).ok()
    machine.seen = replace(PLENTY, on_battery=True)
    job_id = client.start(overrides=LONG)
    told(client, job_id, "Waits for mains power")
    machine.seen = PLENTY
    client.wait_for(job_id, lambda job: job["step"] >= 1)
    machine.seen = replace(PLENTY, on_battery=True)
    looks = machine.looks
    time.sleep(1)
    assert machine.looks == looks, "nothing waits and nobody asked to give way: nothing is looked at"
    assert client.job(job_id)["state"] == "training"
    client.patch("/settings", {"changes": {"queue.pause_on_battery": True}}).ok()
    told(client, job_id, "Waits for mains power")
    kinds = [event["data"] for event in client.events() if event["type"] == "YieldRequested"]
    assert kinds == [{"job_id": job_id, "why": "battery"}]


def test_a_job_whose_data_a_restore_took_waits_for_it_also_through_a_restart(config: Config) -> None:
    words = "a restore took the dataset facts off the list"
    with prepared(config) as daemon:
        client = daemon.client
        client.patch("/settings", {"changes": {"queue.quiet_hours": "00:00-24:00"}}).ok()
        job_id = client.start(overrides=LONG)
        before = client.events()[-1]["seq"]
        # As a restore does that was planned before the job was submitted.
        removed = StreamAppend("dataset-facts", (DatasetRemoved("facts", contents_kept=True),))
        append = partial(daemon.daemon.store.append, [removed], actor=daemon.daemon.actor)
        anyio.from_thread.run(append, token=daemon._token)
        client.patch("/settings", {"changes": {"queue.quiet_hours": ""}}).ok()
        assert told(client, job_id, words)["state"] == "queued"
    with ThreadedDaemon(config):
        told(client, job_id, words)
        client.post("/restores", {"seq": before, "only": ["datasets"]}).ok()
        client.wait_until(job_id, "preparing", "training")
        client.post(f"/jobs/{job_id}/cancel").ok()
