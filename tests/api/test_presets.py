"""The best preset for a model that is registered, only on the disk, only a name, or none that can be trained."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from btmd.domain.hardware import Hardware
from btmd.hardware import probe
from tests.fixtures.daemon import Client, ThreadedDaemon, rows
from tests.fixtures.tiny_families import make_roberta
from tests.fixtures.tiny_model import make_tiny_llama

WHY = "RobertaForMaskedLM is an encoder: it reads text but cannot write any"


def cached(daemon: ThreadedDaemon, name: str) -> Path:
    return daemon.config.hub_cache_dir / f"models--org--{name}" / "snapshots" / ("a" * 40)


def test_an_encoder_gets_its_guess_and_is_refused_with_the_reason(
    client: Client, folder: Path, daemon: ThreadedDaemon
) -> None:
    model = make_roberta(folder / "encoder")
    best = client.get(f"/presets/{model}").ok()
    assert best["trainable"] is False
    assert WHY in best["verdict"]
    assert "guess" in best["verdict"]
    assert best["key"] in {preset["key"] for preset in client.get("/presets").ok()}
    problem = client.post("/models", {"path": str(model)}).refused(422, "wrong_architecture")
    assert WHY in problem["detail"]
    assert "ForCausalLM" in problem["hint"]
    make_roberta(cached(daemon, "roberta-tiny"))
    assert WHY in client.get("/presets/org/roberta-tiny").ok()["verdict"]
    client.add_dataset(rows(), "encoder-facts")
    asked = {"model_id": "org/roberta-tiny", "dataset_id": "encoder-facts"}
    for path in ("/plans", "/start"):
        assert WHY in client.post(path, asked).refused(422, "wrong_architecture")["detail"]


def test_an_encoder_that_is_not_here_is_told_by_its_name(client: Client) -> None:
    best = client.get("/presets/FacebookAI/roberta-base").ok()
    assert best["trainable"] is False
    assert best["verdict"].startswith("A guess")
    assert "(roberta) it is an encoder" in best["verdict"]
    assert client.get("/presets/org/tiny-coder-135m").ok()["trainable"] is True


def test_a_model_of_the_cache_is_told_by_its_files_and_not_registered(client: Client, daemon: ThreadedDaemon) -> None:
    # By its name it would be for code, and an encoder; its files say neither.
    make_tiny_llama(cached(daemon, "bert-told"))
    best = client.get("/presets/org/bert-told").ok()
    assert best["trainable"] is True
    assert "guess" not in best["verdict"].lower()
    assert "org-bert-told" not in [model["model_id"] for model in client.get("/models").ok()]


def test_a_folder_that_is_not_there_is_no_model(client: Client, folder: Path) -> None:
    client.get(f"/presets/{folder}/nowhere").refused(404, "model_not_found")


def test_a_plan_takes_an_id_of_the_local_cache(client: Client, daemon: ThreadedDaemon) -> None:
    make_tiny_llama(cached(daemon, "planned"))
    client.add_dataset(rows(), "planned-facts")
    asked = {"model_id": "org/planned", "dataset_id": "planned-facts", "preset_name": "quick_test"}
    assert client.post("/plans", asked).ok()["model_id"] == "org-planned"
    problem = client.post("/plans", {**asked, "model_id": "org/elsewhere"}).refused(404, "model_not_found")
    assert "btmctl models pull org/elsewhere" in problem["hint"]


def test_a_simpler_preset_that_was_allowed_is_the_jobs_own(
    client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.add_model(make_tiny_llama(folder / "crowded"))
    client.add_dataset(rows(), "crowded-facts")
    client.patch("/settings", {"changes": {"disk.reserve_gb": 0}}).ok()
    asked = {"model_id": "crowded", "dataset_id": "crowded-facts", "preset_name": "chat_fine_tune"}
    whole, adapter = (
        client.post("/plans", {**asked, "preset_name": name}).ok()["disk"]["total_bytes"]
        for name in ("chat_fine_tune", "quick_test")
    )
    assert adapter < whole

    def crowded(state_dir: Path) -> Hardware:
        found = probe(state_dir)
        return replace(found, disk=replace(found.disk, free_bytes=adapter))

    monkeypatch.setattr("btmd.jobs.submission.probe", crowded)
    assert client.post("/plans", asked).json["code"] == "not_enough_disk"
    plan = client.post("/plans", {**asked, "allow": ["simpler"]}).ok()
    assert (plan["preset"], plan["preset_name"]) == ("quick_test", "Quick Test")
    assert "a simpler one was allowed" in plan["preset_reason"]
