"""A daemon of one user, asked by another who keeps everything in a home that is closed: real accounts, real rights."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from pwd import getpwnam

import pytest

from tests.fixtures.accounts import Account, ServiceDaemon, own
from tests.fixtures.daemon import QUICK, rows
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

SERVICE, PERSON = "daemon", "bin"
"""Accounts that every Linux system has: who runs the daemon, and who asks it."""
FORMAT = "adapter" if os.environ.get("BTMD_PROOF") == "1" else "card"
"""An adapter is compared with the trained model before it goes, which takes longer than all the rest."""
pytestmark = [
    pytest.mark.skipif(
        os.getuid() != 0 or not shutil.which("setpriv") or not shutil.which("unshare"), reason="needs several users"
    ),
    # A dozen processes one after the other, on a machine that may have other things to do.
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with short_folder() as path:
        path.chmod(0o755)
        yield path


@pytest.fixture(scope="module")
def person(folder: Path) -> Account:
    """Somebody with data, and a model in the cache of the Hugging Face libraries."""
    found = Account(PERSON, folder / "home", folder / "stage")
    cached = found.home / ".cache" / "huggingface" / "hub" / "models--org--tiny"
    snapshot = cached / "snapshots" / ("a" * 40)
    make_tiny_llama(snapshot)
    (cached / "blobs").mkdir()
    for file in list(snapshot.iterdir()):
        blob = file.rename(cached / "blobs" / f"of-{file.name}")
        file.symlink_to(Path("..", "..", "blobs", blob.name))
    (found.home / "facts.jsonl").write_bytes(rows())
    own(found.home, found.uid)
    return found


@pytest.fixture(scope="module")
def daemon(folder: Path) -> Iterator[ServiceDaemon]:
    (folder / "run").mkdir()
    service = Account(SERVICE, folder / "service", folder / "stage")
    os.chown(folder / "run", service.uid, service.uid)
    with ServiceDaemon(service, folder / "run") as running:
        running.client.patch("/settings", {"changes": QUICK}).ok()
        grant = json.dumps({"role": "trainer"}).encode()
        running.client.send("PUT", f"/access/{PERSON}", grant, content_type="application/json").ok()
        yield running


def test_a_closed_home_trains_talks_and_takes_away(daemon: ServiceDaemon, person: Account) -> None:
    client, socket = daemon.client, daemon.config.socket_path
    wanted = ["--set", "max_steps=3", "--set", "sample_answers=0", "--preset", "quick_test", "--consent"]
    started = person.btmctl(socket, "train", "org/tiny", "facts.jsonl", *wanted)
    job_id = started["job_id"]
    model = client.get("/models/org-tiny").ok()
    assert (model["owner_uid"], model["name"]) == (person.uid, "org/tiny")
    kept = Path(model["folder"])
    assert kept.parent == daemon.config.models_dir
    assert {one.stat().st_uid for one in kept.iterdir()} == {getpwnam(SERVICE).pw_uid}
    assert not any(one.is_symlink() for one in kept.iterdir())
    assert client.wait_until(job_id, "completed")["owner_uid"] == person.uid
    answered = person.btmctl(socket, "chat", job_id, "--prompt", "What is 2 plus 2?")
    assert answered
    (person.home / "taken").mkdir()
    own(person.home / "taken", person.uid)
    person.btmctl(socket, "--yes", "jobs", "export", job_id, "--format", FORMAT, "--out", "taken/")
    (taken,) = (person.home / "taken").iterdir()
    assert taken.stat().st_uid == person.uid
    assert FORMAT != "adapter" or (taken / "adapter_model.safetensors").is_file()
    person.btmctl(socket, "models", "remove", "org-tiny")
    assert not kept.exists()
    assert client.events(type="OperationRefused") == []
