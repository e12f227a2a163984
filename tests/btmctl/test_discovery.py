"""Models are found where other programs left them, once each, without leaving the places that are searched."""

import json
import shutil
from pathlib import Path

import pytest

from btmctl import demo_model
from btmctl.discovery import discover
from tests.btmctl.conftest import Btmctl
from tests.btmctl.small_server import Request, SmallServer, reply
from tests.fixtures.tiny_gguf import make_tiny_gguf
from tests.fixtures.tiny_model import make_tiny_llama


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with a model of each kind, and links that lead in circles."""
    home = tmp_path_factory.mktemp("home")
    tiny = make_tiny_llama(home / "models" / "by-hand" / "tiny")
    hub = home / ".cache" / "huggingface" / "hub" / "models--org--hub-model"
    (hub / "blobs").mkdir(parents=True)
    snapshot = hub / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(tiny.iterdir()):
        shutil.copyfile(file, hub / "blobs" / str(number))
        (snapshot / file.name).symlink_to(hub / "blobs" / str(number))
    gguf = home / ".lmstudio" / "models" / "someone" / "small-gguf" / "small.Q8_0.gguf"
    gguf.parent.mkdir(parents=True)
    make_tiny_gguf(tiny, gguf)
    shutil.copyfile(gguf, gguf.with_name("mmproj-small.gguf"))
    shutil.copyfile(gguf, gguf.with_name("large-00001-of-00002.gguf"))
    ollama = home / ".ollama" / "models"
    (ollama / "blobs").mkdir(parents=True)
    shutil.copyfile(gguf, ollama / "blobs" / ("sha256-" + "b" * 64))
    manifest = ollama / "manifests" / "registry.ollama.ai" / "library" / "small" / "latest"
    manifest.parent.mkdir(parents=True)
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:" + "b" * 64}
    manifest.write_text(json.dumps({"layers": [{"mediaType": "other", "digest": "sha256:0"}, layer]}))
    (manifest.parent / "broken").write_text("{")
    (home / "models" / "circle").symlink_to(home / "models")
    (home / "models" / "encoder").mkdir()
    (home / "models" / "encoder" / "config.json").write_text(
        json.dumps({"model_type": "roberta", "architectures": ["RobertaForMaskedLM"]})
    )
    (home / "models" / "encoder" / "model.safetensors").write_bytes(b"x")
    return home


def test_every_kind_of_place_is_searched_once(home: Path) -> None:
    found, complete = discover({"HOME": str(home)})
    assert complete
    assert [(model.name, model.place, model.kind) for model in found if str(home) in model.path] == [
        ("org/hub-model", "Hugging Face cache", "folder"),
        ("small.Q8_0", "LM Studio", "gguf"),
        ("small:latest", "Ollama", "gguf"),
        ("encoder", "a folder for models", "folder"),
        ("tiny", "a folder for models", "folder"),
    ]
    assert all(model.size_bytes > 0 for model in found)


def test_a_search_ends_when_it_has_looked_at_enough(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("btmctl.discovery.MOST_ENTRIES", 3)
    found, complete = discover({"HOME": str(home)})
    assert not complete
    assert [model.name for model in found if model.place == "Hugging Face cache"] == ["org/hub-model"]


def test_an_id_of_the_cache_is_added_where_no_model_is_called_so(
    home: Path, btmctl: Btmctl, server: SmallServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(home / ".cache" / "huggingface"))
    bodies: list[dict[str, str]] = []

    def add(request: Request) -> None:
        bodies.append(request.json())
        reply(request, {"model_id": "org-hub-model", "facts": {}})

    server.does("POST", "/models", add)
    assert btmctl("models", "add", "org/hub-model")[0] == 0
    (body,) = bodies
    assert body["name"] == "org/hub-model"
    assert body["path"].endswith("snapshots/" + "a" * 40)


def test_the_model_of_the_quickstart_is_found_and_known_by_its_name(
    home: Path, btmctl: Btmctl, server: SmallServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = home / ".lmstudio" / "models" / "someone" / "small-gguf" / "small.Q8_0.gguf"
    monkeypatch.setattr("btmctl.demo_model.find", lambda environment: str(path))
    found, _ = discover({"HOME": str(home / "nowhere")})
    assert [(one.name, one.place) for one in found if one.path == str(path)] == [(demo_model.NAME, "quickstart")]
    server.does("POST", "/models", lambda request: reply(request, {**request.json(), "model_id": "it", "facts": {}}))
    code, out, _ = btmctl("models", "add", demo_model.NAME, "--json")
    assert (code, json.loads(out)["path"], json.loads(out)["name"]) == (0, str(path), demo_model.NAME)
    code, _, err = btmctl("models", "add", "Another-Model")
    assert (code, "btmctl models discover" in err) == (5, True)


def test_found_models_are_judged_with_their_facts(
    home: Path, btmctl: Btmctl, server: SmallServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME")
    asked: list[dict[str, list[dict[str, object]]]] = []

    def judge(request: Request) -> None:
        asked.append(request.json())
        first = asked[0]["models"][0]
        reply(request, [{**first, "model_id": None, "verdict": "fits", "reason": "Room for all.", "parameters": 10}])

    server.does("POST", "/models/verdicts", judge)
    code, out, _ = btmctl("models", "recommend", "--dataset", "faq", "--json")
    assert code == 0
    assert asked[0]["dataset_id"] == "faq"
    facts = {one["name"]: one["facts"] for one in asked[0]["models"]}
    assert {"org/hub-model", "tiny", "small.Q8_0", "small:latest"} <= facts.keys()
    assert facts["tiny"]["architecture"] == facts["small:latest"]["architecture"] == "LlamaForCausalLM"  # type: ignore[index]
    (encoder,) = [one for one in json.loads(out) if one["name"] == "encoder"]
    assert encoder["verdict"] == "wrong_architecture"
    assert "reads text but cannot write any" in encoder["reason"]
