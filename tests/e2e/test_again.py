"""Trainings that follow others: the same once more, and further from an adapter."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.daemon import QUICK, Client, DaemonProcess, config_of, rows
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

SHORT = {"num_epochs": 1, "sample_answers": 1, "sample_tokens": 4, "eval_every": 2, "lora_r": 4}


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    with short_folder() as folder, DaemonProcess(config_of(folder)) as running:
        running.client.patch("/settings", {"changes": QUICK}).ok()
        running.client.add_model(make_tiny_llama(folder / "tiny"))
        running.client.add_dataset(rows(24))
        running.client.add_dataset(rows(30), "more")
        yield running


@pytest.fixture(scope="module")
def first(daemon: DaemonProcess) -> str:
    job_id = daemon.client.start(overrides=SHORT, name="first")
    daemon.client.wait_until(job_id, "completed")
    return job_id


@pytest.fixture
def client(daemon: DaemonProcess) -> Client:
    return daemon.client


def test_a_repeated_training_has_the_same_plan_and_comes_out_the_same(client: Client, first: str) -> None:
    before = client.events()[-1]["seq"]
    assert client.post(f"/jobs/{first}/rerun", {"dry_run": True}).ok()["dry_run"] is True
    # That the first one has ended is told to people a moment after it has.
    assert [one["type"] for one in client.events(before) if one["type"] != "NotificationMade"] == []
    started = client.post(f"/jobs/{first}/rerun").ok()
    again = started["job_id"]
    assert (started["rerun_of"], started["remarks"]) == (first, [])
    job = client.wait_until(again, "completed")
    assert job["plan"]["rerun_of"] == first
    assert job["plan"]["values"] == client.job(first)["plan"]["values"]
    assert job["held_out_after"] == client.job(first)["held_out_after"]
    result = client.get(f"/result/{again}").ok()
    assert (result["repeat"]["job_id"], result["repeat"]["outcome"]) == (first, "same")
    assert "exactly as job" in result["performance_summary"]
    compared = client.get(f"/jobs/{first}/comparison/{again}").ok()
    assert (compared["settings"], compared["same_rows"]) == ([], True)


def test_its_course_is_told_from_the_log(client: Client, first: str) -> None:
    told = client.get(f"/jobs/{first}/curves").ok()
    curves = {one["key"]: one for one in told["curves"]}
    ticks = client.ticks(first)
    steps = [step for tick in ticks for step in tick["steps"]]
    assert curves["loss"]["step"] == steps
    assert curves["loss"]["mean"] == pytest.approx([loss for tick in ticks for loss in tick["losses"]])
    assert curves["held_out"]["step"][0] == 0
    assert told["resumed_at"] == []
    client.get(f"/jobs/{first}/curves?points=3").refused(422, "invalid_value")


def test_a_training_goes_on_from_an_adapter_with_other_data(client: Client, daemon: DaemonProcess, first: str) -> None:
    plan = client.post("/plans", {"model_id": "tiny", "dataset_id": "more", "from_job": first}).ok()
    assert plan["from_job"] == first
    assert plan["values"]["lora_r"]["value"] == 4
    assert first in plan["values"]["lora_r"]["reason"]
    further = client.start(dataset_id="more", from_job=first, overrides={**SHORT, "num_epochs": 2})
    job = client.wait_until(further, "completed")
    assert job["plan"]["from_job"] == first
    # It begins where the other one ended, and not at the base model.
    base = client.start(dataset_id="more", overrides={**SHORT, "num_epochs": 2})
    assert job["held_out_before"] != client.wait_until(base, "completed")["held_out_before"]
    kept = daemon.config.jobs_dir / further / "start" / "adapter_model.safetensors"
    source = daemon.config.jobs_dir / first / "result" / "adapter_model.safetensors"
    assert kept.read_bytes() == source.read_bytes()
    repeated = client.wait_until(client.post(f"/jobs/{further}/rerun").ok()["job_id"], "completed")
    assert client.get(f"/result/{repeated['job_id']}").ok()["repeat"]["outcome"] == "same"
    assert repeated["plan"]["from_job"] == first
    differ = {row["key"]: row["texts"] for row in client.get(f"/jobs/{base}/comparison/{further}").ok()["settings"]}
    assert differ == {"from_job": ["", first]}
    kept.unlink()
    problem = client.post(f"/jobs/{further}/rerun").refused(409, "not_repeatable")
    assert "the adapter of the job" in problem["detail"]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"overrides": {"lora_r": 8}}, 422, "invalid_value"),
        ({"overrides": {"training_type": "fine_tuning"}}, 422, "invalid_value"),
        ({"from_job": "nothing"}, 404, "job_not_found"),
        ({"model_id": "other"}, 409, "conflict"),
    ],
)
def test_an_adapter_is_not_bent_to_what_it_is_not(
    client: Client, daemon: DaemonProcess, first: str, change: dict[str, object], status: int, code: str
) -> None:
    if change.get("model_id") == "other" and not (daemon.config.state_dir.parent / "other").exists():
        client.add_model(make_tiny_llama(daemon.config.state_dir.parent / "other", hidden=32))
    body = {"model_id": "tiny", "dataset_id": "more", "from_job": first, **change}
    client.post("/start", body).refused(status, code)
    unknown = set(client.path.parent.glob("state/jobs/*/start")) - {
        daemon.config.jobs_dir / job["job_id"] / "start" for job in client.get("/jobs").ok()
    }
    assert not unknown


def test_what_has_changed_since_is_named_all_at_once(client: Client, daemon: DaemonProcess, first: str) -> None:
    client.add_model(make_tiny_llama(daemon.config.state_dir.parent / "spoilt"))
    client.add_dataset(rows(20), "passing")
    job_id = client.start(model_id="spoilt", dataset_id="passing", overrides=SHORT)
    client.wait_until(job_id, "completed")
    config = Path(daemon.config.state_dir.parent / "spoilt" / "config.json")
    config.write_text(json.dumps({**json.loads(config.read_text()), "rope_theta": 5000.0}))
    contents = daemon.config.content_dir
    submitted = next(one for one in client.events(type="JobSubmitted") if one["data"]["job_id"] == job_id)["data"]
    for path in contents.rglob(f"*{submitted['trainer_plan']['rows_sha256'][8:]}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    problem = client.post(f"/jobs/{job_id}/rerun").refused(409, "not_repeatable")
    assert "were changed since" in problem["detail"]
    assert "dataset passing is not there" in problem["detail"]
    assert "btmctl train spoilt passing" in problem["hint"]
