"""The commands on models: what is sent, what is shown, and how they end."""

import json

from tests.btmctl.conftest import Btmctl
from tests.btmctl.small_server import Request, SmallServer, chunked, reply

VERIFIED = {
    "model_id": "smol",
    "verdict": "unchanged",
    "files": 7,
    "size_bytes": 270_000_000,
    "recorded_at": "2026-11-22T14:00:00Z",
    "verified_at": "2026-11-22T15:00:00Z",
    "changed": [],
    "missing": [],
    "added": [],
}


def verifies(server: SmallServer, **found: object) -> None:
    line = json.dumps({"result": {**VERIFIED, **found}}).encode() + b"\n"
    server.does(
        "POST",
        "/models/smol/verify",
        lambda request: chunked(request, [line], media_type="application/x-ndjson"),
    )


def test_a_model_as_it_was_recorded_is_told_so(btmctl: Btmctl, server: SmallServer) -> None:
    verifies(server)
    code, _, err = btmctl("models", "verify", "smol")
    assert code == 0
    assert "All 7 files (270 MB) are as they were recorded." in err


def test_files_that_differ_are_named_and_the_command_fails(btmctl: Btmctl, server: SmallServer) -> None:
    verifies(server, verdict="changed", changed=["model.safetensors"], missing=["config.json"])
    code, _, err = btmctl("models", "verify", "smol")
    assert code == 7
    assert "changed: model.safetensors" in err
    assert "missing: config.json" in err
    code, out, _ = btmctl("models", "verify", "smol", "--json")
    assert (code, json.loads(out)["changed"]) == (7, ["model.safetensors"])


def test_values_are_set_and_taken_away(btmctl: Btmctl, server: SmallServer) -> None:
    bodies: list[object] = []

    def change(request: Request) -> None:
        bodies.append(request.json())
        reply(request, {"model_id": "smol", "settings": {"lora_r": 32, "target_modules": ["q_proj", "v_proj"]}})

    server.does("PATCH", "/models/smol", change)
    code, out, _ = btmctl("models", "set", "smol", "lora_r=32", "learning_rate=")
    assert code == 0
    assert bodies == [{"settings": {"lora_r": "32", "learning_rate": None}}]
    assert "lora_r=32, target_modules=q_proj,v_proj" in out
    assert btmctl("models", "set", "smol", "lora_r")[0] == 2


def test_a_list_says_what_each_model_can_be_trained_as(btmctl: Btmctl, server: SmallServer) -> None:
    ways = [
        {"training_type": "lora_adaptation", "fits": True, "reason": "Needs about 2 GB; 3 GB are free."},
        {"training_type": "fine_tuning", "fits": False, "reason": "Takes 9 GB."},
    ]
    facts = {"parameters": 10, "template_problem": "The template hides the answers.", "linear_layers": ["c_attn"]}
    model = {"model_id": "smol", "name": "smol", "facts": facts, "compatibility": ways}
    server.answers("GET", "/models", [model])
    assert "LoRA" in btmctl("models", "list")[1]
    assert "full" not in btmctl("models", "list")[1]
    server.answers("GET", "/models/smol", model)
    code, out, _ = btmctl("models", "show", "smol")
    assert code == 0
    for text in ("fits: Needs about 2 GB", "no: Takes 9 GB.", "c_attn", "The template hides the answers."):
        assert text in out
