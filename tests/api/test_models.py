"""Models over the API: what changes under btmd's feet is noticed, what is set for one is used by its plans."""

import json
from pathlib import Path
from typing import Any

from tests.fixtures.daemon import Client, rows
from tests.fixtures.tiny_model import make_tiny_llama


def change_config(model: Path) -> None:
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "rms_norm_eps": 1e-4}))


def test_a_folder_edited_after_it_was_added_is_not_trained(client: Client, folder: Path) -> None:
    model = make_tiny_llama(folder / "edited")
    before = client.add_model(model)["facts"]["fingerprint"]
    client.add_dataset(rows(), "edited-facts")
    asked = {"model_id": "edited", "dataset_id": "edited-facts", "preset_name": "quick_test", "dry_run": True}
    client.post("/start", asked).ok()
    change_config(model)
    problem = client.post("/start", asked).refused(409, "model_changed")
    assert f"btmctl models add {model}" in problem["hint"]
    assert client.add_model(model)["facts"]["fingerprint"] != before
    client.post("/start", asked).ok()
    (model / "model.safetensors").unlink()
    client.post("/start", asked).refused(404, "file_not_found")


def test_every_byte_is_recorded_once_and_compared_from_then_on(client: Client, folder: Path) -> None:
    model = make_tiny_llama(folder / "verified")
    client.add_model(model)
    first = client.post("/models/verified/verify").ok()
    assert (first["verdict"], first["verified_at"]) == ("recorded", None)
    assert first["size_bytes"] == sum(file.stat().st_size for file in model.iterdir())
    assert client.post("/models/verified/verify").ok()["verdict"] == "unchanged"
    weights = model / "model.safetensors"
    content = bytearray(weights.read_bytes())
    # A byte of a weight: neither the size nor the header tells of it.
    content[-5] ^= 1
    weights.write_bytes(content)
    (model / "generation_config.json").unlink()
    (model / "notes.txt").write_text("new")
    found = client.post("/models/verified/verify").ok()
    assert found["verdict"] == "changed"
    assert (found["changed"], found["missing"], found["added"]) == (
        ["model.safetensors"],
        ["generation_config.json"],
        ["notes.txt"],
    )
    assert client.get("/models/verified").ok()["verification"]["changed"] == ["model.safetensors"]
    assert client.send("DELETE", "/models/verified").ok()
    client.add_model(model)
    assert client.post("/models/verified/verify").ok()["verdict"] == "recorded"
    client.post("/models/nobody/verify").refused(404, "model_not_found")


def test_what_is_set_for_a_model_is_where_its_plans_begin(client: Client, folder: Path) -> None:
    client.add_model(make_tiny_llama(folder / "own-values"))
    client.add_dataset(rows(), "own-facts")
    changed = client.patch("/models/own-values", {"settings": {"learning_rate": "2e-4", "lora_r": 4}}).ok()
    assert changed["settings"] == {"learning_rate": 2e-4, "lora_r": 4}
    asked = {"model_id": "own-values", "dataset_id": "own-facts", "preset_name": "quick_test", "dry_run": True}
    values = client.post("/start", asked).ok()["plan"]["values"]
    assert (values["learning_rate"]["value"], values["learning_rate"]["source"]) == (2e-4, "setting")
    assert "models set own-values" in values["lora_r"]["reason"]
    # One training's own wish still wins, and adapter values do not get in the way of a full training.
    values = client.post("/start", {**asked, "overrides": {"lora_r": 8}}).ok()["plan"]["values"]
    assert (values["lora_r"]["value"], values["lora_r"]["source"]) == (8, "user")
    whole = client.post("/start", {**asked, "overrides": {"training_type": "fine_tuning"}}).ok()["plan"]["values"]
    assert whole["learning_rate"]["value"] == 2e-4
    client.patch("/models/own-values", {"settings": {"lora_r": -1}}).refused(422, "invalid_value")
    client.patch("/models/own-values", {"settings": {"lora_rank": None}}).refused(422, "unknown_key")
    # The folder changed, so it is added anew: what was set for it stays.
    change_config(folder / "own-values")
    client.add_model(folder / "own-values")
    assert client.get("/models/own-values").ok()["settings"] == {"learning_rate": 2e-4, "lora_r": 4}
    assert (
        client.patch("/models/own-values", {"settings": {"lora_r": None, "learning_rate": None}}).ok()["settings"] == {}
    )


def test_pickled_weights_are_converted_only_when_that_was_said(client: Client, folder: Path, daemon: Any) -> None:
    import torch
    from safetensors.torch import load_file

    model = make_tiny_llama(folder / "pickled")
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    problem = client.post("/models", {"path": str(model)}).refused(422, "pickled_weights")
    assert "--convert" in problem["hint"]
    added = client.post("/models", {"path": str(model), "convert": True}).ok()
    assert (added["converted"], added["folder"]) == (True, str(daemon.config.models_dir / "pickled"))
    # The same source is not converted again.
    made = Path(added["folder"], "model.safetensors").stat().st_mtime_ns
    again = client.post("/models", {"path": str(model), "convert": True}).ok()
    assert again["added_at"] == added["added_at"]
    assert Path(added["folder"], "model.safetensors").stat().st_mtime_ns == made
    client.send("DELETE", "/models/pickled").ok()
    assert not Path(added["folder"]).exists()
    assert (model / "pytorch_model.bin").exists()


def test_models_are_ranked_with_a_reason_for_this_machine(client: Client, folder: Path) -> None:
    added = client.add_model(make_tiny_llama(folder / "ranked"))
    ways = {way["training_type"]: way for way in client.get("/models/ranked").ok()["compatibility"]}
    assert ways["lora_adaptation"]["fits"]
    assert ways["fine_tuning"]["fits"]
    assert "are free" in ways["fine_tuning"]["reason"]
    assert not ways["qlora_adaptation"]["fits"]
    huge = {
        **added["facts"],
        "parameters": 10**13,
        "layers": 200,
        "hidden_size": 20_000,
        "head_size": 128,
        "weight_files": 900,
        "tokenizer": "fast",
        "warnings": [],
    }
    client.add_dataset(rows(), "ranked-facts")
    asked = {"models": [{"name": "huge", "path": "/x", "facts": huge}], "dataset_id": "ranked-facts"}
    judged = client.post("/models/verdicts", asked).ok()
    (ranked,) = [one for one in judged if one["model_id"] == "ranked"]
    assert ranked["verdict"] == "fits"
    assert judged[-1]["name"] == "huge"
    assert judged[-1]["verdict"] == "too_large"
    assert judged[-1]["reason"].startswith("Not on this machine")
    for wrong in ({"vocab_size": 0}, {"layers": -1}, {"parameters": 10**30}):
        asked["models"] = [{"name": "odd", "path": "/x", "facts": huge | wrong}]
        told = client.post("/models/verdicts", asked).refused(422, "invalid_value")
        assert "no model has such numbers" in told["detail"]


def test_an_id_of_the_local_cache_can_be_trained(client: Client, folder: Path, daemon: Any) -> None:
    snapshot = daemon.config.hub_cache_dir / "models--org--cached" / "snapshots" / ("a" * 40)
    make_tiny_llama(snapshot)
    client.add_dataset(rows(), "cached-facts")
    asked = {"model_id": "org/cached", "dataset_id": "cached-facts", "preset_name": "quick_test", "dry_run": True}
    assert client.post("/start", asked).ok()["plan"]["model_id"] == "org-cached"
    client.post("/start", {**asked, "model_id": "org/unknown"}).refused(404, "model_not_found")


def test_a_model_with_an_old_tokenizer_is_compared_too(client: Client, folder: Path) -> None:
    model = make_tiny_llama(folder / "old-kind")
    content = json.loads((model / "tokenizer.json").read_text())
    vocab = {**content["model"]["vocab"], **{token["content"]: token["id"] for token in content["added_tokens"]}}
    (model / "vocab.json").write_text(json.dumps(vocab))
    (model / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(" ".join(one) for one in content["model"]["merges"])
    )
    (model / "tokenizer.json").unlink()
    config = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "GPT2Tokenizer"}))
    assert client.add_model(model)["converted"]
    client.add_dataset(rows(), "old-kind-facts")
    asked = {"model_id": "old-kind", "dataset_id": "old-kind-facts", "preset_name": "quick_test", "dry_run": True}
    client.post("/start", asked).ok()
    (model / "vocab.json").write_text(json.dumps(vocab) + " ")
    client.post("/start", asked).refused(409, "model_changed")
    client.add_model(model)
    client.post("/start", asked).ok()
