"""A job as a client sees it: started, watched, paused, resumed, stopped, cancelled, queued; the fixed contract."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.daemon import QUICK, Client, DaemonProcess, config_of, rows, trainer_pid
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

LONG = {"num_epochs": 1000, "max_steps": 20_000, "eval_every": 5000, "save_every": 50, "sample_answers": 0}

PROGRESS_FIELDS = {
    "job_id": str, "model_name": str, "status": str, "progress_percentage": float, "current_step": int,
    "total_steps": int, "current_epoch": int, "total_epochs": int, "elapsed_time": str, "estimated_remaining": str,
    "current_loss": (float, type(None)), "best_loss": (float, type(None)), "learning_rate": (float, type(None)),
    "memory_usage_gb": (float, type(None)), "gpu_utilization": (float, type(None)), "status_message": str,
    "warnings": list, "recommendations": list, "state": str,
}  # fmt: skip
RESULT_FIELDS = {
    "job_id": str, "model_name": str, "success": bool, "training_time": str, "final_loss": (float, type(None)),
    "improvement_percentage": (float, type(None)), "model_path": (str, type(None)), "performance_summary": str,
    "recommendations": list, "warnings": list, "next_steps": list,
}  # fmt: skip
STATUS_TEXTS = {
    "queued": "Getting ready...", "validating": "Checking everything...", "preparing": "Setting up training...",
    "training": "Training in progress", "evaluating": "Evaluating results...", "completed": "Training completed!",
}  # fmt: skip


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    with short_folder() as folder, DaemonProcess(config_of(folder)) as running:
        running.client.patch("/settings", {"changes": QUICK}).ok()
        running.client.add_model(make_tiny_llama(folder / "tiny"))
        running.client.add_dataset(rows())
        yield running


@pytest.fixture
def client(daemon: DaemonProcess) -> Client:
    return daemon.client


def _has_fields(value: dict[str, object], fields: dict[str, type | tuple[type, ...]]) -> None:
    for name, kind in fields.items():
        assert isinstance(value[name], kind), (name, value[name])


def test_from_start_to_result_as_the_contract_says(client: Client) -> None:
    asked = {"model_id": "tiny", "dataset_id": "facts", "preset_name": "Quick Test"}
    planned = client.post("/plans", asked).ok()
    assert planned["preset"] == "quick_test"
    assert all(value["reason"] and value["source"] for value in planned["values"].values())
    before = client.events()[-1]["seq"]
    assert client.post("/start", {**asked, "dry_run": True}).ok()["plan"]["values"] == planned["values"]
    assert client.events(before) == []
    started = client.post("/start", asked, idempotency_key="one").ok()
    assert client.post("/start", asked, idempotency_key="one").ok() == started
    assert set(started) >= {"job_id", "model_id", "status", "created_at", "message", "state"}
    job_id = started["job_id"]
    assert (started["status"], started["state"]) == ("Getting ready...", "queued")
    client.get(f"/result/{job_id}").refused(404, "no_result_yet")
    end = time.monotonic() + 120
    while time.monotonic() < end:
        progress = client.get(f"/progress/{job_id}").ok()
        _has_fields(progress, PROGRESS_FIELDS)
        assert progress["status"] == STATUS_TEXTS[progress["state"]]
        if progress["state"] == "completed":
            break
        time.sleep(0.2)
    assert progress["progress_percentage"] == 100.0
    result = client.get("/result/last").ok()
    _has_fields(result, RESULT_FIELDS)
    assert result["success"] is True
    assert (Path(result["model_path"]) / "adapter_model.safetensors").is_file()
    job = client.job(job_id)
    assert job["plan"]["values"] == planned["values"]
    assert job["evaluations"][0]["when"] == "before"
    assert len(client.get(f"/jobs/{job_id}/answers").ok()["samples"]) > 0
    client.post(f"/cancel/{job_id}").refused(409, "job_ended")
    client.post(f"/jobs/{job_id}/pause").refused(409, "job_ended")


def test_chat_answers_with_both_models(client: Client) -> None:
    question = {"messages": [{"role": "user", "content": "What is 2 plus 2?"}], "which": "both", "max_new_tokens": 3}
    answer = client.post("/jobs/last/chat", question)
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert [line["which"] for line in lines if line.get("done")] == ["base", "tuned"]
    client.post("/jobs/last/chat", {"messages": []}).refused(422, "invalid_value")


def test_the_queue_pause_cancel_resume_and_stop(client: Client, daemon: DaemonProcess) -> None:
    first, second = client.start(overrides=LONG), client.start(overrides=LONG, name="second")
    client.wait_for(first, lambda job: job["step"] >= 1)
    waiting = client.job("second")
    assert (waiting["job_id"], waiting["state"]) == (second, "queued")
    assert waiting["waits_for"] == f"Waits for the training {first} to end; it has the CPU."
    client.post(f"/jobs/{first}/resume").refused(409, "conflict")
    assert client.post(f"/jobs/{first}/pause").ok()["asked"] == "pause"
    assert client.wait_until(first, "paused")["checkpoints"]
    client.wait_for(second, lambda job: job["state"] == "training")
    pid = trainer_pid(daemon.config.jobs_dir, second)
    began = time.monotonic()
    client.post(f"/jobs/{second}/cancel").ok()
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() - began < 10
        time.sleep(0.05)
    while client.job(second)["state"] != "cancelled":
        assert time.monotonic() - began < 10
        time.sleep(0.05)
    assert client.get(f"/result/{second}").ok()["success"] is False
    client.post(f"/jobs/{second}/resume").refused(409, "job_ended")
    paused_at = client.job(first)["step"]
    client.post(f"/jobs/{first}/resume").ok()
    client.wait_for(first, lambda job: job["attempt"] == 2 and job["step"] > paused_at)
    client.post(f"/jobs/{first}/stop").ok()
    job = client.wait_until(first, "completed")
    assert job["ended_by"] == "stopped"
    assert job["shape"]["resumed_from_step"] > 0


def test_a_job_cancelled_before_its_turn_never_starts(client: Client) -> None:
    running = client.start(overrides=LONG)
    waiting = client.start(overrides=LONG)
    assert client.post(f"/jobs/{waiting}/cancel").ok()["state"] == "cancelled"
    client.post(f"/jobs/{running}/cancel").ok()
    end = time.monotonic() + 30
    while client.job(running)["state"] != "cancelled" and time.monotonic() < end:
        time.sleep(0.05)
    assert client.job(running)["state"] == "cancelled"
    assert client.job(waiting)["attempts"] == []


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"preset_name": "quickest"}, 404, "unknown_preset"),
        ({"overrides": {"learning_rat": 1e-3}}, 422, "unknown_key"),
        ({"overrides": {"learning_rate": -1}}, 422, "invalid_value"),
        ({"overrides": {"num_epochs": "many"}}, 422, "invalid_value"),
        ({"allow": ["everything"]}, 422, "invalid_value"),
        ({"dataset_id": "nothing"}, 404, "dataset_not_found"),
        ({"dataset_id": "private"}, 409, "consent_missing"),
    ],
)
def test_what_cannot_succeed_is_refused_before_any_work(
    client: Client, daemon: DaemonProcess, change: dict[str, object], status: int, code: str
) -> None:
    if change.get("dataset_id") == "private":
        client.add_dataset(rows(30), "private", consent=False)
    before, folders = client.events()[-1]["seq"], set(daemon.config.jobs_dir.iterdir())
    body = {"model_id": "tiny", "dataset_id": "facts", **change}
    client.post("/start", body).refused(status, code)
    client.post("/plans", body).refused(status, code)
    assert client.events(before) == []
    assert set(daemon.config.jobs_dir.iterdir()) == folders


def test_consent_given_with_the_start_keeps_its_purpose(client: Client) -> None:
    client.add_dataset(rows(25), "asked-later", consent=False)
    job_id = client.start(dataset_id="asked-later", consent=True, purpose="the museum's guide", overrides=LONG)
    client.post(f"/jobs/{job_id}/cancel").ok()
    dataset = client.get("/datasets/asked-later").ok()
    assert (dataset["scopes"], dataset["purpose"]) == (["train"], "the museum's guide")
