"""Models over the API: what changes under btmd's feet is noticed, what is set for one is used by its plans."""

import json
from pathlib import Path

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
