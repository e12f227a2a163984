"""The queue of a real daemon: priorities, holding, moving, and everything again after a restart."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from btmd.accounts import user_name
from btmd.jobs.device_locks import DeviceLocks
from tests.fixtures.daemon import QUICK, Client, DaemonProcess, config_of, rows, trainer_pid
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

LONG = {"num_epochs": 1000, "max_steps": 20_000, "eval_every": 5000, "save_every": 5000, "sample_answers": 0}


@pytest.fixture
def daemon() -> Iterator[DaemonProcess]:
    with short_folder() as folder, DaemonProcess(config_of(folder)) as running:
        running.client.patch("/settings", {"changes": QUICK}).ok()
        running.client.add_model(make_tiny_llama(folder / "tiny"))
        running.client.add_dataset(rows())
        yield running


def line(client: Client) -> list[str]:
    """Names of the jobs that wait, in the order of their turns."""
    return [one["name"] for one in client.get("/queue").ok()["waiting"]]


def entry(client: Client, name: str) -> dict[str, Any]:
    """How a job waits; nothing while it does not."""
    waiting = client.get("/queue").ok()["waiting"]
    return next((one for one in waiting if one["name"] == name), {"waits_for": ""})


def told(client: Client, name: str, words: str) -> dict[str, Any]:
    """The job's entry once its reason for waiting holds these words."""
    end = time.monotonic() + 120
    while words not in (found := entry(client, name))["waits_for"]:
        assert time.monotonic() < end, found
        time.sleep(0.05)
    return found


def submit(client: Client, name: str, **body: Any) -> str:
    return client.start(name=name, overrides=LONG, **body)


def test_priorities_moves_and_holds_make_the_order_and_a_restart_keeps_it(daemon: DaemonProcess) -> None:
    client = daemon.client
    running = submit(client, "running")
    client.wait_for(running, lambda job: job["step"] >= 1)
    for name in ("a", "b", "c", "d"):
        submit(client, name)
    submit(client, "urgent", priority=5)
    assert line(client) == ["urgent", "a", "b", "c", "d"]
    assert told(client, "urgent", "to end")["waits_for"] == f"Waits for the training {running} to end; it has the CPU."
    assert told(client, "d", "4 other")["wait"] == "turn"

    moved = client.post("/queue/d/move", {"before": "a"}).ok()
    assert (moved["priority"], "right before" in moved["message"]) == (0, True)
    assert client.patch("/jobs/c", {"priority": 9}).ok()["message"] == "Its priority is 9 now."
    assert line(client) == ["c", "urgent", "d", "a", "b"]
    assert client.job("c")["priority"] == 9
    client.post("/queue/b/move", {"to": "first"}).ok()
    client.post("/queue/urgent/move", {"to": "last"}).ok()
    assert line(client) == ["b", "c", "d", "a", "urgent"]
    assert client.job("b")["priority"] == 9

    client.post("/queue/b/hold").ok()
    assert "queue release" in told(client, "b", "held back")["waits_for"]
    assert "held back" in client.get("/progress/b").ok()["status_message"]
    assert client.job("b")["waits_for"] == entry(client, "b")["waits_for"]
    told(client, "c", "to end")

    client.post("/queue/running/hold").refused(409, "conflict")
    client.post("/queue/a/move", {"before": "running"}).refused(409, "conflict")
    client.post("/queue/a/move", {"before": "a"}).refused(409, "conflict")
    client.post("/queue/a/move", {}).refused(422, "invalid_value")
    client.post("/queue/a/move", {"before": "d", "to": "last"}).refused(422, "invalid_value")
    client.post("/queue/nobody/hold").refused(404, "job_not_found")
    client.patch("/jobs/a", {"priority": 1000}).refused(422, "invalid_value")

    daemon.kill()
    daemon.start()
    assert line(client) == ["b", "c", "d", "a", "urgent"]
    assert entry(client, "b")["held"]
    client.post(f"/jobs/{running}/cancel").ok()
    first = client.wait_until("c", "training", "evaluating", "preparing")
    assert [one["job_id"] for one in client.get("/queue").ok()["running"]] == [first["job_id"]]
    assert client.get("/queue").ok()["running"][0]["device"] == "cpu"
    client.post("/queue/b/release").ok()
    assert line(client)[0] == "b"
    told(client, "b", "to end")


def test_a_pause_frees_the_device_and_the_next_one_has_it(daemon: DaemonProcess) -> None:
    client = daemon.client
    first = submit(client, "first")
    client.wait_for(first, lambda job: job["step"] >= 1)
    pid = trainer_pid(daemon.config.jobs_dir, first)
    second = submit(client, "second")
    client.post(f"/jobs/{first}/pause").ok()
    client.wait_until(first, "paused")
    client.wait_until(second, "preparing", "training")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_device_that_another_daemon_trains_on_is_waited_for(daemon: DaemonProcess) -> None:
    client = daemon.client
    with short_folder() as folder:
        other_config = config_of(folder, device_locks_dir=daemon.config.device_locks_dir)
        with DaemonProcess(other_config) as other:
            other.client.patch("/settings", {"changes": QUICK}).ok()
            other.client.add_model(make_tiny_llama(folder / "tiny"))
            other.client.add_dataset(rows())
            mine = submit(client, "mine")
            client.wait_for(mine, lambda job: job["step"] >= 1)
            theirs = submit(other.client, "theirs")
            words = "another btmd trains on the CPU"
            assert told(other.client, "theirs", words)["wait"] == "other_btmd"
            assert words in other.client.get("/progress/theirs").ok()["status_message"]
            assert daemon.process is not None
            lock = DeviceLocks(daemon.config.device_locks_dir).path("cpu")
            who = f"{words} (process {daemon.process.pid} of {user_name(os.getuid())} has the lock {lock})."
            assert who in told(other.client, "theirs", words)["waits_for"]
            # The trainer holds the lock, not the daemon that started it.
            daemon.kill()
            time.sleep(1)
            assert words in told(other.client, "theirs", words)["waits_for"]
            os.killpg(trainer_pid(daemon.config.jobs_dir, mine), signal.SIGKILL)
            other.client.wait_for(theirs, lambda job: job["step"] >= 1)
            held = DeviceLocks(daemon.config.device_locks_dir).take("cpu")
            assert held is None
            # And the first one's job, which was interrupted, waits now in its turn.
            daemon.start()
            assert words in told(client, "mine", words)["waits_for"]
            other.client.post(f"/jobs/{theirs}/cancel").ok()
            client.wait_for(mine, lambda job: job["attempt"] == 2 and job["state"] == "training")


def test_in_quiet_hours_nothing_starts_and_what_runs_gives_way_and_goes_on_by_itself(daemon: DaemonProcess) -> None:
    client = daemon.client
    quiet = {"queue.quiet_hours": "00:00-24:00", "queue.pause_in_quiet_hours": True}
    working = submit(client, "working")
    client.wait_for(working, lambda job: job["step"] >= 1)
    client.patch("/settings", {"changes": {"queue.quiet_hours": "at night"}}).refused(422, "invalid_value")
    client.patch("/settings", {"changes": quiet}).ok()
    waiting = client.wait_for(working, lambda job: job["state"] == "queued" and job["waits_for"])
    assert "quiet hours" in waiting["waits_for"]
    assert waiting["attempts"][0]["ended"] == "yielded"
    submit(client, "later", priority=50)
    assert "quiet hours" in told(client, "later", "quiet hours")["waits_for"]
    assert line(client) == ["working", "later"], "who was interrupted goes first"
    assert "quiet hours" in client.get("/status").ok()["queue"]["waits_for"]
    client.patch("/settings", {"changes": {"queue.quiet_hours": ""}}).ok()
    resumed = client.wait_for(working, lambda job: job["attempt"] == 2 and job["state"] == "training")
    assert resumed["attempts"][1]["why"] == "resumed"
    told(client, "later", "to end")
