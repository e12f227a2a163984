"""A dataset's text: found nowhere but in its contents, and nowhere at all once it was erased, backups included."""

import io
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
import zstandard

from btmd.data.answers_file import open_sealed
from btmd.job_folder import JobFolder
from btmd.registry.inspector import Inspector
from btmd.restoring import dataset_erasure
from btmd.restoring.dataset_erasure import DatasetErasure
from tests.fixtures.daemon import QUICK, ROOT, Client, DaemonProcess, ThreadedDaemon, config_of, trainer_pid
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

SHORT = {"num_epochs": 1, "max_steps": 2, "eval_every": 0, "save_every": 1, "sample_answers": 2, "sample_tokens": 4}
ZSTD = b"\x28\xb5\x2f\xfd"


def marked_rows(mark: str, count: int = 40) -> bytes:
    return b"".join(
        json.dumps({"question": f"What is {number}, {mark}?", "answer": f"It is {number}, {mark}."}).encode() + b"\n"
        for number in range(count)
    )


def holding(folder: Path, mark: str) -> set[str]:
    """The files below ``folder``, by their first folder, in which the mark is read, compressed ones unpacked."""
    found = set()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            if data.startswith(ZSTD):
                data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()
            if mark.encode() in data or mark.encode() in str(path).encode():
                found.add(path.relative_to(folder).parts[0])
    return found


def recovered(source: Path, key: Path, state: Path) -> Path:
    """A state folder rebuilt from a backup folder by the key file."""
    state.mkdir(mode=0o700)
    done = subprocess.run(
        [sys.executable, "-m", "btmctl", "recover", "--from", str(source), "--key", str(key)],
        env=os.environ | {"BTMD_STATE_DIR": str(state)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return state


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


def trained(client: Client, folder: Path, mark: str) -> str:
    """A finished training on marked rows, with sample answers."""
    client.patch("/settings", {"changes": QUICK}).ok()
    client.add_model(make_tiny_llama(folder / "tiny"))
    client.add_dataset(marked_rows(mark), "secret")
    job_id = client.start(dataset_id="secret", overrides=SHORT)
    client.wait_until(job_id, "completed")
    return job_id


def test_the_text_is_nowhere_but_in_the_contents_and_gone_after_an_erasure(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = f"mark{secrets.token_hex(8)}"
    monkeypatch.setattr(dataset_erasure, "LOOK_FOR_FOLDERS_S", 0.3)
    state, stick = folder / "state", folder / "stick"
    stick.mkdir()
    with ThreadedDaemon(config_of(folder)) as daemon:
        client = daemon.client
        job_id = trained(client, folder, mark)
        assert mark in client.get(f"/jobs/{job_id}/answers").body.decode()
        assert (state / "jobs" / job_id / "answers.json").stat().st_mode & 0o777 == 0o600
        for to in (None, str(stick)):
            client.post("/backup", {"with_artefacts": True, **({"to": to} if to else {})}).ok()
        client.post("/backup", {"kind": "config"}).ok()
        assert holding(state, mark) == {"content"}
        assert holding(stick, mark) == set()
        for path in (
            "/datasets",
            "/datasets/secret",
            "/jobs",
            f"/jobs/{job_id}",
            f"/jobs/{job_id}/logs",
            f"/result/{job_id}",
        ):
            assert mark not in client.get(path).body.decode()
        assert mark not in json.dumps(client.events())
        key = shutil.copy(state / "keys" / "key", folder / "key")
        # What the backups hold can be read, by whoever has the key, until it is erased.
        before = recovered(stick, Path(key), folder / "before")
        assert holding(before, mark) == {"content"}
        sealed = (before / "jobs" / job_id / "answers.json").read_bytes()
        assert mark.encode() in open_sealed(sealed, before / "answers-keys" / "secret")
        away = stick.rename(folder / "away")

        done = client.post("/erasures/secret", {}).ok()
        assert (done["jobs"], done["unreached"]) == ([job_id], [str(stick)])
        assert str(stick) in done["message"]
        client.get("/datasets/secret").refused(404, "dataset_not_found")
        client.get(f"/jobs/{job_id}/answers").refused(404, "not_found")
        assert holding(state, mark) == set()
        assert not (state / "answers-keys" / "secret").exists()
        assert (state / "jobs" / job_id / "result").is_dir()
        own = recovered(state / "backups", Path(key), folder / "own")
        assert holding(own, mark) == set()
        assert not (own / "jobs" / job_id / "answers.json").exists()

        away.rename(stick)
        end = time.monotonic() + 60
        while client.get("/erasures").ok()[0]["unreached"]:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert holding(recovered(stick, Path(key), folder / "after"), mark) == set()
        [erased] = client.get("/erasures").ok()
        assert (erased["dataset_id"], erased["jobs"], erased["done"]) == ("secret", [job_id], True)
        assert "DatasetErased" in {event["type"] for event in client.events()}
        # Who has the file may add it anew, under a key of its own.
        assert client.add_dataset(marked_rows(mark), "secret")["rows"] == 40


def test_while_a_training_runs_no_process_shows_the_text_and_an_erasure_ends_it(folder: Path) -> None:
    mark = f"mark{secrets.token_hex(8)}"
    with DaemonProcess(config_of(folder)) as daemon:
        client = daemon.client
        client.patch("/settings", {"changes": QUICK}).ok()
        client.add_model(make_tiny_llama(folder / "tiny"))
        client.add_dataset(marked_rows(mark), "secret")
        long = {**SHORT, "num_epochs": 1000, "max_steps": 20_000, "save_every": 50}
        job_id = client.start(dataset_id="secret", overrides=long)
        client.wait_for(job_id, lambda job: job["step"] >= 2)
        lines = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                lines += [(process / name).read_bytes() for name in ("cmdline", "environ")]
            except OSError:
                continue
        assert not any(mark.encode() in line for line in lines)
        pid = trainer_pid(daemon.config.jobs_dir, job_id)
        assert job_id in client.post("/erasures/secret", {}).ok()["jobs"]
        assert client.job(job_id)["state"] == "cancelled"
        end = time.monotonic() + 60
        while JobFolder(daemon.config.jobs_dir / job_id).is_alive():
            assert time.monotonic() < end, f"the trainer {pid} does not leave"
            time.sleep(0.05)
        assert holding(folder / "state", mark) == set()
    assert mark not in daemon.log.read_text()


def test_an_erasure_that_was_cut_off_is_finished_at_the_next_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = f"mark{secrets.token_hex(8)}"
    with ThreadedDaemon(config_of(folder)) as daemon:
        daemon.client.add_dataset(marked_rows(mark), "secret")
        daemon.client.add_dataset(marked_rows(mark, 20) + marked_rows("other", 5), "other")

        async def cut_off(self: DatasetErasure, *given: object) -> None:
            raise OSError(5, "the power went")

        monkeypatch.setattr(DatasetErasure, "_take_away", cut_off)
        with pytest.raises(Exception):  # noqa: B017, PT011 - the connection ends or a 500 comes, as for a crash
            daemon.client.post("/erasures/secret", {}).ok()
        monkeypatch.undo()
        assert holding(folder / "state", mark) == {"content"}
        again = {"content": daemon.client.upload(marked_rows(mark)), "file_name": "secret.jsonl"}
        daemon.client.post("/datasets", again).refused(409, "conflict")
    with ThreadedDaemon(config_of(folder)) as daemon:
        assert daemon.client.get("/erasures").ok()[0]["done"]
        daemon.client.post("/datasets/other/check", {}).ok()
        daemon.client.post("/erasures/other", {}).ok()
        assert holding(folder / "state", mark) == set()


@pytest.mark.parametrize("erased_meanwhile", [True, False])
def test_work_that_was_given_up_leaves_nothing_of_an_erased_dataset(
    folder: Path, monkeypatch: pytest.MonkeyPatch, erased_meanwhile: bool
) -> None:
    mark = f"mark{secrets.token_hex(8)}"
    reached = threading.Event()

    async def without_end(*given: object) -> None:
        reached.set()
        await anyio.sleep_forever()

    monkeypatch.setattr(Inspector, "difference", without_end)
    with ThreadedDaemon(config_of(folder)) as daemon:
        client = daemon.client
        client.add_dataset(marked_rows(mark), "secret")
        newer = {"content": client.upload(marked_rows(mark, 50)), "file_name": "secret.jsonl"}
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(client.path))
            body = json.dumps(newer).encode()
            head = f"POST {ROOT}/datasets/secret/versions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            connection.sendall(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            assert reached.wait(60)
            if erased_meanwhile:
                client.post("/erasures/secret", {}).ok()
                assert holding(folder / "state", mark) == set(), "the work was ended before the answer"
        if not erased_meanwhile:
            client.post("/erasures/secret", {}).ok()
        end = time.monotonic() + 10
        while holding(folder / "state", mark) and time.monotonic() < end:
            time.sleep(0.1)
        assert holding(folder / "state", mark) == set()


def test_a_dataset_that_was_removed_can_be_erased_from_the_backups(folder: Path) -> None:
    mark = f"mark{secrets.token_hex(8)}"
    with ThreadedDaemon(config_of(folder)) as daemon:
        client = daemon.client
        client.add_dataset(marked_rows(mark), "secret")
        client.post("/backup", {"with_artefacts": True}).ok()
        assert "erase" in client.send("DELETE", "/datasets/secret").ok()["message"]
        key = shutil.copy(folder / "state" / "keys" / "key", folder / "key")
        backups = folder / "state" / "backups"
        assert holding(recovered(backups, Path(key), folder / "before"), mark) == {"content"}
        client.post("/erasures/secret", {}).ok()
        assert holding(recovered(backups, Path(key), folder / "after"), mark) == set()
        client.post("/erasures/nothing", {}).refused(404, "dataset_not_found")
