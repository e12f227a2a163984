"""A forecast from the plan to its score: made, bettered by real steps, compared, and learned from."""

import pytest

from btmd.planning import forecast as planning
from tests.fixtures.daemon import QUICK, ThreadedDaemon, config_of, rows
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama


def test_a_forecast_is_made_bettered_scored_and_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    # A tiny model trains too shortly for a trial otherwise.
    monkeypatch.setattr(planning, "TRIAL_FROM_S", 0.0)
    asked = {"model_id": "tiny", "dataset_id": "facts", "preset_name": "quick_test"}
    with short_folder() as folder, ThreadedDaemon(config_of(folder)) as daemon:
        client = daemon.client
        client.patch("/settings", {"changes": QUICK}).ok()
        client.add_model(make_tiny_llama(folder / "tiny"))
        client.add_dataset(rows())
        before = client.post("/plans", asked).ok()
        assert before["forecast"]["basis"] == "formula"
        assert " to " in before["forecast_texts"]["time"]
        job_id = client.start()
        job = client.wait_until(job_id, "completed")
        happened = [one["type"] for one in client.events(stream=f"job-{job_id}")]
        wanted = ["JobSubmitted", "ForecastMade", "MachineRateMeasured", "ForecastRevised", "JobCompleted"]
        assert [one for one in happened if one in wanted] == wanted
        assert happened[-1] == "ForecastScored"
        assert job["forecast_by_formula"] == before["forecast"]
        assert job["forecast"]["basis"] == "trial"
        assert job["trial"]["shapes_left"] == 0
        assert {one["quantity"] for one in job["scores"]} == {"memory", "disk", "time"}
        assert {one["basis"] for one in job["scores"]} == {"formula", "guess", "trial"}
        for one in job["scores"]:
            assert one["outcome"] > 0
        summary = client.get(f"/result/{job_id}").ok()["performance_summary"]
        assert "Forecast: said " in summary
        assert " of memory, needed " in summary
        # The machine's rates and one outcome are known now: the range is narrower, and somewhere else.
        after = client.post("/plans", asked).ok()["forecast"]
        said = before["forecast"]["total_s"]
        assert after["total_s"]["high"] / after["total_s"]["low"] < said["high"] / said["low"]
        assert after["memory_bytes"] != before["forecast"]["memory_bytes"]
