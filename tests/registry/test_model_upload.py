"""Models of other users than the daemon's own: sent file by file, kept in a folder of the daemon's."""

import asyncio
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from btmctl import BasicTrainingMode, TrainingRefused
from tests.fixtures.daemon import Answer, Client, ThreadedDaemon, config_of, rows
from tests.fixtures.peers import Peers
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

ADA, BOB = Peers.OWNER, Peers.STRANGER
HERS = "/home/ada/models/"
PROOF = pytest.mark.skipif(os.environ.get("BTMD_PROOF") != "1", reason="long: BTMD_PROOF=1")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Path:
    return make_tiny_llama(folder / "tiny")


@pytest.fixture(scope="module")
def daemon(folder: Path, peers: Peers) -> Iterator[ThreadedDaemon]:
    with ThreadedDaemon(config_of(folder)) as running:
        for who in (ADA, BOB):
            put(running.client, f"/access/{who.name}", {"role": "trainer"}).ok()
        yield running


@pytest.fixture
def client(daemon: ThreadedDaemon) -> Client:
    return daemon.client


def put(client: Client, path: str, body: Any) -> Answer:
    return client.send("PUT", path, json.dumps(body).encode(), content_type="application/json")


def files_of(model: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in model.iterdir()}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def ask(client: Client, files: Mapping[str, bytes], name: str, **more: Any) -> Answer:
    listed = [{"name": one, "size_bytes": len(content)} for one, content in files.items()]
    return client.post("/model-files", {"path": HERS + name, "files": listed, **more})


def send(client: Client, content: bytes) -> Answer:
    return client.send("PUT", f"/model-files/{sha256(content)}", content)


def add(client: Client, files: Mapping[str, bytes], name: str, **more: Any) -> Answer:
    listed = [{"name": one, "sha256": sha256(content)} for one, content in files.items()]
    return client.post("/models", {"path": HERS + name, "files": listed, **more})


def send_all(client: Client, files: Mapping[str, bytes], name: str, **more: Any) -> Answer:
    ask(client, files, name, **more).ok()
    for content in files.values():
        send(client, content).ok()
    return add(client, files, name, **more)


def left(daemon: ThreadedDaemon) -> list[Path]:
    """Files of models that belong to none, and what else is hidden among the models."""
    hidden = [one for one in daemon.config.models_dir.glob(".*") if one.name != ".arriving"]
    return hidden + [one for one in (daemon.config.models_dir / ".arriving").rglob("*") if one.is_file()]


def test_what_is_sent_becomes_a_model_of_the_users_and_goes_with_it(
    daemon: ThreadedDaemon, client: Client, peers: Peers, tiny: Path
) -> None:
    files = files_of(tiny)
    with peers.as_(ADA):
        told = client.post("/models", {"path": str(tiny)}).refused(403, "path_not_opened")
        assert "btmctl models add" in told["hint"]
        # Nobody tried what they may not: it is how btmctl learns that it has to send.
        assert client.events(type="OperationRefused") == []
        added = send_all(client, files, "hers").ok()
        kept = Path(added["folder"])
        assert (added["model_id"], added["owner_uid"], added["source"]) == ("hers", ADA.uid, HERS + "hers")
        assert kept == daemon.config.models_dir / "hers"
        assert files_of(kept) == files
        assert left(daemon) == []
        # What it was sent as is what later looks are compared with.
        assert client.post("/models/hers/verify").ok()["verdict"] == "unchanged"
        client.add_dataset(rows(), "hers-facts")
        asked = {"model_id": "hers", "dataset_id": "hers-facts", "preset_name": "quick_test", "dry_run": True}
        client.post("/start", asked).ok()
    with peers.as_(BOB):
        client.send("DELETE", "/models/hers").refused(403, "not_permitted")
        # What she sent is as if it were not there; and her model is not replaced by one of the same name.
        assert client.send("HEAD", f"/model-files/{sha256(files['config.json'])}").status == 404
        assert "another --name" in ask(client, files, "hers").refused(409, "conflict")["hint"]
        assert add(client, files, "his").refused(404, "file_not_found")
    with peers.as_(ADA):
        client.send("DELETE", "/models/hers").ok()
    assert not kept.exists()


def test_a_model_that_was_changed_is_sent_anew_and_the_older_folder_goes(
    daemon: ThreadedDaemon, client: Client, peers: Peers, tiny: Path
) -> None:
    files = files_of(tiny)
    config = {**json.loads(files["config.json"]), "rms_norm_eps": 1e-4}
    with peers.as_(ADA):
        before = send_all(client, files, "anew").ok()
        again = send_all(client, files, "anew").ok()
        assert (again["added_at"], again["folder"]) == (before["added_at"], before["folder"])
        assert [one.name for one in daemon.config.models_dir.glob("anew*")] == ["anew"]
        after = send_all(client, {**files, "config.json": json.dumps(config).encode()}, "anew").ok()
        assert after["facts"]["fingerprint"] != before["facts"]["fingerprint"]
        assert [str(one) for one in daemon.config.models_dir.glob("anew*")] == [after["folder"]]
        assert json.loads(Path(after["folder"], "config.json").read_bytes()) == config
        client.send("DELETE", "/models/anew").ok()
    assert left(daemon) == []


def test_only_what_a_model_needs_is_taken(client: Client, peers: Peers, tiny: Path) -> None:
    files = files_of(tiny)
    config = files["config.json"]
    with peers.as_(ADA):
        for name in (
            "training_args.bin",
            "run.py",
            "../config.json",
            ".hidden.safetensors",
            "a/b.safetensors",
            "notes",
        ):
            wrong = ask(client, {**files, name: b"x"}, "odd")
            wrong.refused(422, "pickled_weights" if name.endswith(".bin") else "invalid_value")
            add(client, {**files, name: b"x"}, "odd").refused(wrong.status, wrong.json["code"])
        ask(client, {"config.json": config}, "odd").refused(422, "not_a_model")
        ask(client, {"model.safetensors": b"x"}, "odd").refused(422, "not_a_model")
        ask(client, {"a.gguf": b"x", "config.json": config}, "odd").refused(422, "invalid_value")
        ask(client, {"config.json": config, "pytorch_model.bin": b"x"}, "odd").refused(422, "pickled_weights")
        ask(client, {"config.json": config, "pytorch_model.bin": b"x"}, "odd", convert=True).ok()
        # What is no model is refused by what its files say, and leaves no trace in the list.
        send_all(client, {**files, "model.safetensors": b"x" * 64}, "odd").refused(422, "model_damaged")
        client.get("/models/odd").refused(404, "model_not_found")
    assert not list(client.get("/models").ok())


def test_an_upload_goes_on_where_it_was_cut_off_and_only_its_bytes_are_taken(
    daemon: ThreadedDaemon, client: Client, peers: Peers, tiny: Path
) -> None:
    content = files_of(tiny)["model.safetensors"] + b"cut"
    address = f"/model-files/{sha256(content)}"
    cut = len(content) // 3
    with peers.as_(ADA):
        # A body that ends before what was announced, as one of a client that was killed.
        client.send("PUT", address, content[:cut]).refused(422, "upload_mismatch")
        assert client.send("HEAD", address).headers["upload-offset"] == "0"
        half = daemon.config.models_dir / ".arriving" / str(ADA.uid) / "partial" / f"{sha256(content)}.{ADA.uid}"
        half.write_bytes(content[:cut])
        told = client.send("HEAD", address)
        assert (told.status, told.headers["upload-offset"]) == (404, str(cut))
        client.send("PUT", f"{address}?offset={cut + 1}", content[cut + 1 :]).refused(409, "upload_offset")
        assert client.send("PUT", f"{address}?offset={cut}", content[cut:]).ok()["size_bytes"] == len(content)
        assert client.send("HEAD", address).status == 200
    shutil.rmtree(daemon.config.models_dir / ".arriving")


def test_what_does_not_fit_is_refused_before_it_is_sent(client: Client, peers: Peers, tiny: Path) -> None:
    files = files_of(tiny)
    size = sum(map(len, files.values()))
    put(client, f"/access/{ADA.name}/limits", {"limits": {"disk_gb": 1.5 * size / 1024**3}}).ok()
    with peers.as_(ADA):
        send_all(client, files, "first").ok()
        # The model that is kept counts, whoever sent it; one that is gone does not.
        told = ask(client, files, "second").refused(409, "over_limit")
        assert "models remove" in told["hint"]
        send(client, files["model.safetensors"]).refused(409, "over_limit")
        client.send("DELETE", "/models/first").ok()
        ask(client, files, "second").ok()
        listed = [{"name": "config.json", "size_bytes": 1}, {"name": "model.safetensors", "size_bytes": 2**60}]
    put(client, f"/access/{ADA.name}/limits", {"limits": {"disk_gb": None}}).ok()
    with peers.as_(ADA):
        client.post("/model-files", {"path": "/x", "files": listed}).refused(409, "not_enough_disk")


def test_a_daemon_that_was_killed_leaves_no_folder_that_is_no_model(folder: Path, peers: Peers, tiny: Path) -> None:
    config = config_of(folder, state_dir=folder / "killed", socket_path=folder / "killed.sock")
    with ThreadedDaemon(config) as running:
        put(running.client, f"/access/{ADA.name}", {"role": "trainer"}).ok()
        with peers.as_(ADA):
            added = send_all(running.client, files_of(tiny), "stays").ok()
            send(running.client, b"whole").ok()
    models = config.models_dir
    # As a kill leaves it after the folder was put in its place and before the log told of it, and the other way round.
    shutil.copytree(added["folder"], models / "lost")
    for number, told in enumerate((["lost", [models / "lost"]], ["stays", [models / "stays", models / "stays+2"]])):
        note = json.dumps({"model_id": told[0], "folders": [str(one) for one in told[1]]})
        (models / f".placing-{number}").write_text(note)
    (models / "stays+2").mkdir()
    (models / ".placing-torn").write_text('{"model_')
    work = models / ".arriving" / str(ADA.uid) / "partial" / "0.work"
    work.mkdir()
    old = models / ".arriving" / str(ADA.uid) / "partial" / f"{'0' * 64}.{ADA.uid}"
    old.write_bytes(b"begun")
    with ThreadedDaemon(config) as running:
        assert sorted(one.name for one in models.iterdir()) == [".arriving", "stays"]
        assert not work.exists()
        with peers.as_(ADA):
            # What was sent is still there: it need not be sent again.
            assert running.client.send("HEAD", f"/model-files/{sha256(b'whole')}").status == 200
            assert running.client.send("HEAD", f"/model-files/{'0' * 64}").headers["upload-offset"] == "5"
            assert running.client.get("/models/stays").ok()["folder"] == added["folder"]
        uploads = running.daemon.assembly.parts.sent_models.uploads
        assert uploads.sweep(now_s=os.stat(old).st_ctime + 25 * 3600) == 2
        assert left(running) == []


def test_a_program_trains_with_an_id_of_its_users_own_cache(
    daemon: ThreadedDaemon, client: Client, peers: Peers, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tiny_llama(folder / "hers" / "models--org--cached" / "snapshots" / ("a" * 40))
    monkeypatch.setenv("HF_HUB_CACHE", str(folder / "hers"))
    with peers.as_(ADA):
        client.add_dataset(rows(), "cached-facts")
        training = BasicTrainingMode(daemon.config.socket_path)
        asked = {"preset_name": "quick_test", "dry_run": True}
        planned = asyncio.run(training.start_basic_training("org/cached", "cached-facts", **asked))
        assert planned.plan["model_id"] == "org-cached"
        assert client.get("/models/org-cached").ok()["owner_uid"] == ADA.uid
        with pytest.raises(TrainingRefused) as refused:
            asyncio.run(training.start_basic_training("org/unknown", "cached-facts", **asked))
        assert refused.value.code == "model_not_found"
        client.send("DELETE", "/models/org-cached").ok()
    assert left(daemon) == []


@pytest.mark.parametrize(
    "form",
    # Two of them load the libraries that trainings do.
    ["gguf", *(pytest.param(form, marks=PROOF) for form in ("pickled", "old tokenizer"))],
)
def test_what_is_sent_is_converted_where_it_has_to_be(
    form: str, daemon: ThreadedDaemon, client: Client, peers: Peers, tiny: Path, folder: Path
) -> None:
    files = files_of(tiny)
    more: dict[str, Any] = {}
    if form == "gguf":
        from tests.fixtures.tiny_gguf import make_tiny_gguf

        made = make_tiny_gguf(tiny, folder / "made.gguf")
        files = {"made.gguf": made.read_bytes()}
    elif form == "pickled":
        import torch
        from safetensors.torch import load_file

        torch.save(load_file(tiny / "model.safetensors"), folder / "pickled.bin")
        files = {**files, "pytorch_model.bin": (folder / "pickled.bin").read_bytes()}
        del files["model.safetensors"]
        more = {"convert": True}
    else:
        content = json.loads(files.pop("tokenizer.json"))
        vocab = {**content["model"]["vocab"], **{token["content"]: token["id"] for token in content["added_tokens"]}}
        files["vocab.json"] = json.dumps(vocab).encode()
        merges = "\n".join(" ".join(one) for one in content["model"]["merges"])
        files["merges.txt"] = f"#version: 0.2\n{merges}".encode()
        config = json.loads(files["tokenizer_config.json"])
        files["tokenizer_config.json"] = json.dumps({**config, "tokenizer_class": "GPT2Tokenizer"}).encode()
    with peers.as_(ADA):
        added = send_all(client, files, "made.gguf" if form == "gguf" else "made", **more).ok()
        kept = Path(added["folder"])
        assert (added["model_id"], kept.name) == ("made", "made")
        assert {"config.json", "tokenizer.json", "model.safetensors"} <= {one.name for one in kept.iterdir()}
        client.add_dataset(rows(), f"{form.replace(' ', '-')}-facts")
        dataset = f"{form.replace(' ', '-')}-facts"
        asked = {"model_id": "made", "dataset_id": dataset, "preset_name": "quick_test", "dry_run": True}
        client.post("/start", asked).ok()
        client.send("DELETE", "/models/made").ok()
    assert not kept.exists()
    assert left(daemon) == []
