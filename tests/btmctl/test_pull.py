"""A model is fetched only when somebody agreed, goes on where it stopped, and nothing with a wrong hash is kept."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.btmctl.conftest import Btmctl
from tests.btmctl.small_hub import SmallHub, small_hub
from tests.btmctl.small_server import Request, SmallServer, chunked
from tests.fixtures.tiny_model import make_tiny_llama


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a real tiny model, as they stand on a hub; one has no bytes at all."""
    folder = make_tiny_llama(tmp_path_factory.mktemp("published"))
    return {file.name: file.read_bytes() for file in folder.iterdir()} | {"LICENSE": b""}


@pytest.fixture
def hub(published: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallHub]:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("HF_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("btmctl.hub_download.FIRST_PAUSE_S", 0.0)
    with small_hub(dict(published)) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


@pytest.fixture
def registered(server: SmallServer) -> list[Any]:
    """What the daemon was asked to add."""
    bodies: list[Any] = []

    def answer(request: Request, result: dict[str, Any]) -> None:
        chunked(request, [json.dumps({"result": result}).encode() + b"\n"], media_type="application/x-ndjson")

    def add(request: Request) -> None:
        bodies.append(request.json())
        answer(request, {"model_id": "org-name", "facts": {}})

    server.does("POST", "/models", add)
    server.does("POST", "/models/org-name/verify", lambda request: answer(request, {"verdict": "recorded"}))
    return bodies


def arrived(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_model_is_fetched_checked_and_added(
    btmctl: Btmctl, hub: SmallHub, registered: list[Any], server: SmallServer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.files["onnx.bin"] = b"not asked for"
    hub.extra = [
        {"rfilename": "../outside.json", "size": 3, "blobId": "0" * 40},
        {"rfilename": "deep/config.json", "size": 3, "blobId": "0" * 40},
        {"rfilename": ".hidden.json", "size": 3, "blobId": "0" * 40},
    ]
    code, out, _ = btmctl("models", "pull", "org/name", "--to", str(tmp_path / "m"), "--yes", "--json")
    assert code == 0
    del hub.files["onnx.bin"]
    assert arrived(tmp_path / "m") == hub.files
    assert registered == [{"path": str(tmp_path / "m"), "name": "org/name"}]
    assert ("POST", "/api/basic-training/models/org-name/verify") in server.seen
    assert json.loads(out)["pulled"]["folder"] == str(tmp_path / "m")
    # The token is the hub's: the server that it leads to for large files does not get it.
    told = {(which, headers.get("authorization")) for which, _, headers in hub.seen}
    assert told == {("hub", "Bearer hf_secret"), ("store", None)}


def test_nothing_is_asked_of_the_network_before_somebody_agreed(
    btmctl: Btmctl, hub: SmallHub, registered: list[Any], tmp_path: Path
) -> None:
    code, _, err = btmctl("models", "pull", "org/name", "--to", str(tmp_path / "m"))
    assert code == 6
    assert "--yes" in err
    assert (hub.seen, registered) == ([], [])
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_connection_that_breaks_goes_on_where_it_stopped(
    ranges: bool, btmctl: Btmctl, hub: SmallHub, registered: list[Any], tmp_path: Path
) -> None:
    size_bytes = len(hub.files["model.safetensors"])
    hub.cut_after_bytes = size_bytes // 3
    hub.ranges = ranges
    code, _, err = btmctl("models", "pull", "org/name", "--to", str(tmp_path / "m"), "--yes")
    fetched = [headers.get("range") for which, path, headers in hub.seen if path == "/model.safetensors"]
    if ranges:
        assert code == 0
        assert arrived(tmp_path / "m") == hub.files
        assert fetched == [None, *(f"bytes={size_bytes // 3 * part}-" for part in (1, 2, 3))][: len(fetched)]
        assert len(fetched) >= 3
        return
    # A hub that cannot go on in the middle never gets to the end; what there is then is kept, and told.
    assert code == 1
    assert "cannot be reached" in err
    assert registered == []


def test_what_was_fetched_is_not_fetched_again(
    btmctl: Btmctl, hub: SmallHub, registered: list[Any], tmp_path: Path
) -> None:
    hub.cut_after_bytes = 100_000
    hub.ranges = False
    assert btmctl("models", "pull", "org/name", "--to", str(tmp_path / "m"), "--yes")[0] == 1
    (part,) = (tmp_path / "m").glob(".model.safetensors.*.part")
    assert part.stat().st_size == 100_000
    hub.cut_after_bytes, hub.ranges = None, True
    hub.seen.clear()
    assert btmctl("models", "pull", "org/name", "--to", str(tmp_path / "m"), "--yes")[0] == 0
    assert arrived(tmp_path / "m") == hub.files
    ((_, _, headers),) = [one for one in hub.seen if one[0] == "store" and one[1] == "/model.safetensors"]
    assert headers["range"] == "bytes=100000-"
    hub.seen.clear()
    assert btmctl("models", "pull", "org/name", "--to", str(tmp_path / "m"), "--yes")[0] == 0
    assert [path for path in hub.paths("hub") if "resolve" in path] == []


def test_a_part_that_was_damaged_here_is_fetched_anew(
    btmctl: Btmctl, hub: SmallHub, registered: list[Any], tmp_path: Path
) -> None:
    hub.cut_after_bytes, hub.ranges = 100_000, False
    btmctl("models", "pull", "org/name", "--to", str(tmp_path / "m"), "--yes")
    (part,) = (tmp_path / "m").glob(".model.safetensors.*.part")
    part.write_bytes(b"x" + part.read_bytes()[1:])
    hub.cut_after_bytes, hub.ranges = None, True
    assert btmctl("models", "pull", "org/name", "--to", str(tmp_path / "m"), "--yes")[0] == 0
    assert arrived(tmp_path / "m") == hub.files


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_wrong_bytes_are_not_kept(
    name: str, btmctl: Btmctl, hub: SmallHub, registered: list[Any], tmp_path: Path
) -> None:
    hub.flip = name
    code, out, err = btmctl("models", "pull", "org/name", "--to", str(tmp_path / "m"), "--yes", "--json")
    assert code == 7
    assert json.loads(out)["code"] == "hash_mismatch"
    assert f"{name} did not arrive as the hub describes it" in err
    assert not [file for file in os.listdir(tmp_path / "m") if file == name or file.endswith(".part")]
    assert registered == []


@pytest.mark.parametrize(
    ("refusal", "listing", "exit_code", "code", "words"),
    [
        ((401, "GatedRepo"), False, 4, "gated_model", "Accept the terms at"),
        ((403, "GatedRepo"), False, 4, "gated_model", "HF_TOKEN"),
        ((401, "RepoNotFound"), True, 5, "model_not_found", "private"),
        ((404, "RepoNotFound"), True, 5, "model_not_found", "Check the name"),
        ((500, ""), True, 1, "hub_failed", "answered 500"),
    ],
)
def test_a_refusal_is_explained(
    refusal: tuple[int, str], listing: bool, exit_code: int, code: str, words: str,
    btmctl: Btmctl, hub: SmallHub, registered: list[Any], tmp_path: Path,
) -> None:  # fmt: skip
    hub.refusal, hub.refuse_listing = refusal, listing
    found, out, err = btmctl("models", "pull", "org/name", "--to", str(tmp_path / "m"), "--yes", "--json")
    assert (found, json.loads(out)["code"]) == (exit_code, code)
    assert words in err
    assert registered == []


def test_the_disk_is_looked_at_first(
    btmctl: Btmctl, hub: SmallHub, registered: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("btmctl.hub_download.shutil.disk_usage", lambda _path: usage._replace(free=1000))
    code, _, err = btmctl("models", "pull", "org/name", "--to", str(tmp_path / "m"), "--yes")
    assert code == 6
    assert "--to DIR" in err
    assert hub.paths("store") == []


def test_a_model_of_gguf_files_needs_one_named(
    btmctl: Btmctl, hub: SmallHub, registered: list[Any], tmp_path: Path
) -> None:
    hub.files = {"small.Q8_0.gguf": b"GGUF" * 5000, "README.md": b"# small"}
    code, _, err = btmctl("models", "pull", "org/name", "--to", str(tmp_path / "m"), "--yes")
    assert code == 6
    assert "--file small.Q8_0.gguf" in err
    to = ("--to", str(tmp_path / "m"), "--file", "small.Q8_0.gguf", "--yes")
    assert btmctl("models", "pull", "org/name", *to)[0] == 0
    assert registered == [{"path": str(tmp_path / "m" / "small.Q8_0.gguf"), "name": "org/name"}]


def test_an_address_where_nothing_listens_is_told(
    btmctl: Btmctl, hub: SmallHub, registered: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    code, _, err = btmctl("models", "pull", "org/name", "--to", str(tmp_path / "m"), "--yes")
    assert code == 1
    assert "The hub cannot be reached" in err
    assert btmctl("models", "pull", "no-such-form", "--yes")[0] == 2
