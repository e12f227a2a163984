"""What was erased does not come back, whatever way somebody takes; and what was damaged is erased as well."""

import hashlib
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from btmd.domain.dataset import EraseDataset
from btmd.restoring.dataset_erasure import DatasetErasure
from tests.daemon.test_dataset_erasure import SHORT, holding, marked_rows
from tests.fixtures.daemon import QUICK, Client, ThreadedDaemon, config_of
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


def many_rows(mark: str) -> bytes:
    """Rows that make more than one chunk."""
    return marked_rows(mark + hashlib.sha256(mark.encode()).hexdigest() * 40, 1200)


def rows_file(client: Client, state: Path, name: str) -> Path:
    [version] = client.get(f"/datasets/{name}").ok()["versions"]
    return next((state / "content").rglob(version["rows_sha256"]))


@pytest.mark.parametrize("damage", ["changed", "head", "gone"])
def test_a_dataset_with_a_damaged_list_of_rows_is_erased_with_all_its_chunks(folder: Path, damage: str) -> None:
    mark, state = f"mark{secrets.token_hex(8)}", folder / "state"
    with ThreadedDaemon(config_of(folder)) as daemon:
        client = daemon.client
        client.add_dataset(many_rows(mark), "secret")
        client.add_dataset(marked_rows("other"), "other")
        listed = rows_file(client, state, "secret")
        assert len(listed.read_bytes().splitlines()) > 2
        match damage:
            case "changed":
                listed.write_bytes(listed.read_bytes().replace(b'"sha256":"', b'"sha257":"'))
            case "head":
                listed.write_bytes(b"?" + listed.read_bytes()[1:])
            case "gone":
                listed.unlink()
        assert holding(state, mark) == {"content"}
        client.post("/erasures/secret", {}).ok()
        assert holding(state, mark) == set()
        client.post("/datasets/other/check", {}).ok()


def test_a_training_that_is_started_while_an_erasure_begins_is_named_and_ended(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = f"mark{secrets.token_hex(8)}"
    in_the_gap, started = threading.Event(), threading.Event()
    looked = DatasetErasure._wait_for_jobs

    async def look_and_wait(self: DatasetErasure, *given: Any) -> None:
        await looked(self, *given)
        if not in_the_gap.is_set():
            in_the_gap.set()
            await anyio.to_thread.run_sync(started.wait, 120)

    monkeypatch.setattr(DatasetErasure, "_wait_for_jobs", look_and_wait)
    with ThreadedDaemon(config_of(folder)) as daemon:
        client = daemon.client
        client.patch("/settings", {"changes": QUICK}).ok()
        client.add_model(make_tiny_llama(folder / "tiny"))
        client.add_dataset(marked_rows(mark), "secret")
        answers: list[Any] = []
        erasing = threading.Thread(target=lambda: answers.append(client.post("/erasures/secret", {})))
        erasing.start()
        assert in_the_gap.wait(120)
        long = {**SHORT, "num_epochs": 1000, "max_steps": 20_000}
        job_id = client.start(dataset_id="secret", overrides=long, consent=True)
        started.set()
        erasing.join()
        assert answers[0].ok()["jobs"] == [job_id]
        assert client.job(job_id)["state"] == "cancelled"
        [erased] = [event["data"] for event in client.events() if event["type"] == "DatasetErased"]
        assert erased["jobs"] == [job_id]
        assert holding(folder / "state", mark) == set()


def test_no_training_is_started_between_the_look_at_the_jobs_and_the_event(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is held up just before it is decided: a start waits for it, and is refused then."""
    asked, answered = threading.Event(), threading.Event()
    with ThreadedDaemon(config_of(folder)) as daemon:
        client, handler = daemon.client, daemon.daemon.handler
        client.patch("/settings", {"changes": QUICK}).ok()
        client.add_model(make_tiny_llama(folder / "tiny"))
        client.add_dataset(marked_rows("any"), "secret")
        handle = handler.handle

        async def held_up(command: Any, **given: Any) -> Any:
            if isinstance(command, EraseDataset):
                asked.set()
                await anyio.to_thread.run_sync(answered.wait, 3)
            return await handle(command, **given)

        monkeypatch.setattr(handler, "handle", held_up)
        erasing = threading.Thread(target=lambda: client.post("/erasures/secret", {}).ok())
        erasing.start()
        assert asked.wait(120)
        body = {"model_id": "tiny", "dataset_id": "secret", "preset_name": "quick_test", "consent": True}
        assert client.post("/start", body).status == 404
        answered.set()
        erasing.join()
        assert client.get("/jobs").ok() == []


def test_neither_a_reset_nor_its_undo_nor_a_restore_brings_back_what_was_erased(folder: Path) -> None:
    mark, state = f"mark{secrets.token_hex(8)}", folder / "state"
    with ThreadedDaemon(config_of(folder)) as daemon:
        client = daemon.client
        client.add_dataset(marked_rows(mark), "secret")
        client.add_dataset(marked_rows("other"), "other")
        before = int(client.events()[-1]["seq"])
        backup = client.post("/backup", {"with_artefacts": True}).ok()["backup_id"]
        # The backup that a reset makes holds the contents, and then they are erased.
        client.post("/reset", {"preserve_user_data": False}).ok()
        assert holding(state, mark) == set()
        client.post("/erasures/secret", {}).ok()

        undone = client.post("/reset/undo").ok()
        assert [one["dataset_id"] for one in client.get("/datasets").ok()] == ["other"]
        assert [one for one in undone["left_alone"] if "secret" in one and "erased" in one]
        client.post("/datasets/other/check", {}).ok()
        for body in ({"seq": before}, {"backup_id": backup}, {"seq": before, "only": ["datasets", "consent"]}):
            done = client.post("/restores", body).ok()
            assert [one for one in done["left_alone"] if "secret" in one and "erased" in one], done
            assert [one["dataset_id"] for one in client.get("/datasets").ok()] == ["other"]
            assert holding(state, mark) == set()

        client.post("/reset", {"preserve_user_data": False}).ok()
        client.post("/reset/undo").ok()
        assert [one["dataset_id"] for one in client.get("/datasets").ok()] == ["other"]
        assert holding(state, mark) == set()
