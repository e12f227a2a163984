"""A training with a limit of time ends with a whole model within it; ``BTMD_PROOF=1`` also says how exactly."""

import os
from collections.abc import Iterator

import pytest

from benchmarks.results import Figure, Topic, record
from tests.fixtures.daemon import QUICK, Client, DaemonProcess, config_of, rows
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

PROOF = os.environ.get("BTMD_PROOF") == "1"
ENDLESS = {"num_epochs": 1000, "batch_size": 4}
KINDS = {"adapter": {}, "all weights": {"training_type": "fine_tuning", "learning_rate": 1e-4}}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with short_folder() as folder, DaemonProcess(config_of(folder)) as running:
        running.client.patch("/settings", {"changes": QUICK}).ok()
        size = {"hidden": 384, "layers": 8, "heads": 6, "kv_heads": 2} if PROOF else {}
        running.client.add_model(make_tiny_llama(folder / "tiny", **size))
        running.client.add_dataset(rows(400 if PROOF else 60))
        yield running.client


def test_the_time_is_in_plan_and_forecast_and_the_training_ends_with_it(client: Client) -> None:
    overrides = {**ENDLESS, "time_limit_s": 25}
    asked = {"model_id": "tiny", "dataset_id": "facts", "preset_name": "quick_test", "overrides": overrides}
    planned = client.post("/plans", asked).ok()
    assert planned["values"]["time_limit_s"]["value"] == 25
    assert planned["forecast"]["total_s"]["high"] <= 27.6
    assert any("ends within 25s" in note for note in planned["notes"])
    job_id = client.start(dataset_id="facts", overrides=overrides)
    job = client.wait_until(job_id, "completed", "failed")
    assert (job["state"], job["ended_by"]) == ("completed", "time")
    told = client.get(f"/result/{job_id}").ok()
    assert "time ran out" in told["performance_summary"]
    assert told["model_path"]


@pytest.mark.skipif(not PROOF, reason="takes a quarter of an hour, and needs a machine that does nothing else")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_three_minutes_are_three_minutes(client: Client, kind: str) -> None:
    took_s = []
    for limit_s in (180, 180, 90):
        overrides = {**ENDLESS, **KINDS[kind], "time_limit_s": limit_s}
        job = client.wait_until(client.start(dataset_id="facts", overrides=overrides), "completed", "failed")
        assert (job["state"], job["ended_by"]) == ("completed", "time")
        took_s.append(100 * float(job["outcome"]["attempt_s"]) / limit_s)
    record(
        Topic(
            f"Time limit: {kind}",
            "make proof-time-limit",
            [
                Figure("time taken of the limit, least", [min(took_s)], "%", ">= 90", 1),
                Figure("time taken of the limit, most", [max(took_s)], "%", "<= 110", 1),
            ],
            notes=[
                "Two trainings of three minutes and one of a minute and a half, from the process's start to its end."
            ],
        )
    )
    assert 90 <= min(took_s) <= max(took_s) <= 110
