"""Plain text and pairs of answers from file to result: the data chooses its preset, the result is told in its words."""

import json
from collections.abc import Iterator

import pytest

from tests.fixtures.daemon import QUICK, Client, DaemonProcess, config_of
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

SHORT = {"sample_answers": 1, "sample_tokens": 4, "held_out_fraction": 0.2}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with short_folder() as folder, DaemonProcess(config_of(folder)) as running:
        running.client.patch("/settings", {"changes": QUICK}).ok()
        running.client.add_model(make_tiny_llama(folder / "tiny"))
        running.client.add_dataset(_lines(*({"text": f"Number {one} is a number. " * 9} for one in range(40))), "texts")
        running.client.add_dataset(_lines(*(_pair(one) for one in range(40))), "pairs")
        yield running.client


def _lines(*rows: dict[str, str]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _pair(number: int) -> dict[str, str]:
    question = f"What is the number {number}?"
    return {"prompt": question, "chosen": f"It is {number}, gladly told.", "rejected": "Go away and count."}


def _result(client: Client, **body: object) -> dict[str, object]:
    job_id = client.start(**body)
    assert client.wait_until(job_id, "completed", "failed")["state"] == "completed"
    told: dict[str, object] = client.get(f"/result/{job_id}").ok()
    return {**told, "job": client.job(job_id)}


def test_pairs_choose_preference_tuning_and_tell_how_many_were_won(client: Client) -> None:
    told = _result(client, dataset_id="pairs", preset_name=None, overrides={**SHORT, "learning_rate": 0.005})
    job = told["job"]
    assert isinstance(job, dict)
    assert job["plan"]["preset"] == "preference"
    assert "% of the held-out pairs" in str(told["performance_summary"])
    before, *_, after = job["evaluations"]
    assert before["accuracy"] == pytest.approx(0.5)
    assert after["accuracy"] > 0.5
    assert after["margin"] > before["margin"]
    assert after["loss"] < before["loss"]


def test_text_chooses_continued_pretraining_with_all_weights_if_wished(client: Client) -> None:
    overrides = {**SHORT, "learning_rate": 0.003, "lora_r": 0, "max_length": 64}
    told = _result(client, dataset_id="texts", preset_name=None, overrides=overrides)
    job = told["job"]
    assert isinstance(job, dict)
    assert (job["plan"]["preset"], job["plan"]["values"]["packing"]["value"]) == ("handouts", True)
    assert "possibilities" in str(told["performance_summary"])
    assert job["shape"]["left_out_rows"] == 0
    assert told["improvement_percentage"] > 5  # type: ignore[operator]
    answer = client.post("/jobs/last/chat", {"messages": [{"role": "user", "content": "One?"}], "max_new_tokens": 2})
    assert b"error" not in answer.body


def test_a_training_type_that_does_not_fit_the_rows_is_refused_with_the_one_that_does(client: Client) -> None:
    asked = {"model_id": "tiny", "dataset_id": "pairs", "preset_name": "quick_test"}
    assert "--preset preference" in client.post("/plans", asked).refused(422, "preference_data")["hint"]
    asked = {"model_id": "tiny", "dataset_id": "texts", "preset_name": "preference"}
    assert "handouts" in client.post("/plans", asked).refused(422, "dataset_refused")["hint"]
    told = client.post("/plans", {"model_id": "tiny", "dataset_id": "texts", "preset_name": "quick_test"}).ok()
    assert any("plain text" in note for note in told["notes"])
