"""Factory resets: what goes, what stays, the backup before, and everything back again."""

import errno
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from btmctl.__main__ import main
from btmd.store.connection import connect_reader
from btmd.store.verification import verify_log
from tests.fixtures.daemon import QUICK, Client, ThreadedDaemon, config_of, end_trainers, rows
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

Run = Callable[..., tuple[int, str, str]]
RESULT = {"result/adapter_config.json": b"{}", "result/adapter_model.safetensors": b"weights", "answers.json": b"[]"}


class Place:
    """A state folder with settings, a model, a dataset and an ended job with a result."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = make_tiny_llama(folder / "tiny")
        with ThreadedDaemon(config_of(folder)) as daemon:
            client = daemon.client
            client.patch("/settings", {"changes": {**QUICK, "training.seed": 4711}}).ok()
            client.send("PUT", "/access/nobody", b'{"role": "viewer"}', content_type="application/json").ok()
            mine = b'{"made_from": "quick_test", "values": {"num_epochs": 2}}'
            client.send("PUT", "/preset-definitions/mine", mine, content_type="application/json").ok()
            client.add_model(self.model)
            client.add_dataset(rows(20))
            self.job_id = client.start(overrides={"num_epochs": 1000, "max_steps": 20_000})
            self.refusal = client.post("/reset").refused(409, "jobs_under_way")
            self.preview = client.post("/reset", {"dry_run": True, "preserve_user_data": False}).ok()
            self.asked = main(["reset", "--yes", "--socket", str(daemon.config.socket_path)])
            self.seed = client.get("/settings/training.seed").ok()["value"]
            client.post(f"/jobs/{self.job_id}/cancel").ok()
            client.wait_for(self.job_id, lambda job: job["state"] == "cancelled")
        end_trainers(daemon.config.jobs_dir)
        job = daemon.config.jobs_dir / self.job_id
        for name, content in RESULT.items():
            (job / name).parent.mkdir(parents=True, exist_ok=True)
            (job / name).write_bytes(content)


@pytest.fixture(scope="module")
def made() -> Iterator[Place]:
    with short_folder() as folder:
        yield Place(folder)


@pytest.fixture
def folder(made: Place) -> Iterator[Path]:
    with short_folder() as path:
        for name in ("state", "config"):
            shutil.copytree(made.folder / name, path / name)
        yield path


def contents(folder: Path) -> dict[str, bytes]:
    found = (folder / "state" / "content").glob("[0-9a-f][0-9a-f]/*")
    return {path.name: path.read_bytes() for path in found}


def state_of(client: Client) -> dict[str, Any]:
    return {
        "settings": {one["key"]: one["value"] for one in client.get("/settings").ok()},
        "models": [one["model_id"] for one in client.get("/models").ok()],
        "datasets": [(one["name"], bool(one["scopes"])) for one in client.get("/datasets").ok()],
        "access": [(one["subject"], one["role"]) for one in client.get("/access").ok()],
        "presets": [one["key"] for one in client.get("/preset-definitions?origin=own").ok()],
        "jobs": [one["job_id"] for one in client.get("/jobs").ok()],
    }


def types(client: Client) -> list[str]:
    return [event["type"] for event in client.events()]


def test_a_reset_waits_for_no_training_and_names_it(made: Place) -> None:
    assert made.job_id in made.refusal["detail"]
    assert made.job_id in made.refusal["hint"]


def test_what_would_go_is_told_while_a_training_runs_too(made: Place) -> None:
    assert [one["job_id"] for one in made.preview["waits_for"]] == [made.job_id]
    assert "training.seed" in [one["subject"] for one in made.preview["changes"]]
    assert (made.asked, made.seed) == (6, 4711)


def test_files_of_ended_jobs_that_no_backup_holds_are_named(folder: Path, made: Place) -> None:
    job = folder / "state" / "jobs" / made.job_id
    shutil.rmtree(job / "checkpoints", ignore_errors=True)
    (job / "checkpoints" / "step-1").mkdir(parents=True)
    (job / "checkpoints" / "step-1" / "weights").write_bytes(b"x" * 1234)
    files = [path for path in job.rglob("*") if path.is_file() and not path.is_symlink()]
    apart = sum(len(content) for content in RESULT.values()) + 1234
    with ThreadedDaemon(config_of(folder)) as daemon:
        told = {one["what"]: one for one in ask_for_erasure(daemon.client)["not_held"]}
        in_backup = daemon.client.post("/backup", {"with_artefacts": True}).ok()["artefacts"]
    assert (told["checkpoints of jobs"]["count"], told["checkpoints of jobs"]["size_bytes"]) == (1, 1234)
    working = told["logs and working files of jobs"]
    assert working["size_bytes"] == sum(path.stat().st_size for path in files) - apart > 0
    assert in_backup >= len(RESULT)


def ask_for_erasure(client: Client) -> dict[str, Any]:
    return dict(client.post("/reset", {"preserve_user_data": False, "dry_run": True}).ok())


def test_with_user_data_kept_only_the_settings_go_back_and_it_can_be_undone(made: Place, folder: Path) -> None:
    with ThreadedDaemon(config_of(folder)) as daemon:
        client = daemon.client
        before, files = state_of(client), contents(folder)
        done = client.post("/reset").ok()
        assert (done["preserve_user_data"], done["backup_id"][:4] in done["message"]) == (True, True)
        after = state_of(client)
        assert after["settings"]["training.seed"] == 42
        assert after["access"] == []
        assert {**after, "settings": 0, "access": 0} == {**before, "settings": 0, "access": 0}
        (gone,) = [event for event in client.events() if event["type"] == "AccessRevoked"]
        assert gone["data"]["why"] == "factory reset"
        assert contents(folder) == files
        (backup,) = client.get("/backups").ok()
        assert (backup["backup_id"], backup["cause"]) == (done["backup_id"], "factory reset")
        assert backup["verified_at"], "the backup was read through"
        assert types(client)[-1] == "FactoryResetCompleted"
        # One transaction: nothing of it without the rest.
        mine = [event for event in client.events() if event["correlation_id"] == done["reset_id"]]
        assert [event["seq"] for event in mine] == list(range(done["undo_seq"] + 1, done["undo_seq"] + 1 + len(mine)))
        client.post("/restores", {"seq": done["undo_seq"], "only": ["settings", "access"]}).ok()
        assert state_of(client) == before
        client.post("/reset").ok()
        assert state_of(client) != before
        client.post("/reset/undo").ok()
        assert state_of(client) == before
        assert client.post("/reset/undo").refused(409, "conflict")["hint"]


def test_with_user_data_erased_nothing_of_it_stays_and_all_comes_back_from_the_backup(
    made: Place, folder: Path
) -> None:
    with ThreadedDaemon(config_of(folder)) as daemon:
        client = daemon.client
        before, files = state_of(client), contents(folder)
        assert files
        preview = client.post("/reset", {"preserve_user_data": False, "dry_run": True}).ok()
        not_held = {part["what"] for part in preview["not_held"]}
        assert not_held - {"checkpoints of jobs"} == {"logs and working files of jobs", "base models"}
        assert {part["what"] for part in preview["erased"]} == {
            "files of datasets",
            "folders of jobs, with their results",
        }
        assert preview["backup_bytes"] > sum(map(len, files.values()))
        assert state_of(client) == before
        client.post("/reset", {"preserve_user_data": False}).ok()
        after = state_of(client)
        assert (after["models"], after["datasets"], after["access"], after["presets"]) == ([], [], [], [])
        assert after["jobs"] == before["jobs"], "their history stays"
        assert after["settings"]["training.seed"] == 42
        assert contents(folder) == {}
        assert list((folder / "state" / "jobs").iterdir()) == []
        assert (made.model / "config.json").exists(), "the person's own files are never touched"
        assert "FactoryResetCompleted" in types(client)
    with ThreadedDaemon(config_of(folder)) as daemon:
        done = daemon.client.post("/reset/undo").ok()
        assert (done["problems"], done["files"]) == ([], len(files) + len(RESULT))
        assert state_of(daemon.client) == before
        assert contents(folder) == files
        job = folder / "state" / "jobs" / made.job_id
        assert {name: (job / name).read_bytes() for name in RESULT} == RESULT
    with ThreadedDaemon(config_of(folder)) as daemon:
        assert contents(folder) == files, "what came back is named by the log again"
        with closing(connect_reader(folder / "state" / "btmd.db")) as reader:
            assert verify_log(reader).ok


def test_without_room_for_the_backup_nothing_is_reset(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadedDaemon(config_of(folder)) as daemon:
        before, head = state_of(daemon.client), len(types(daemon.client))
        with monkeypatch.context() as full:
            full.setattr("btmd.restoring.factory_reset.free_bytes", lambda folder: 1000)
            refusal = daemon.client.post("/reset", {"preserve_user_data": False}).refused(409, "not_enough_disk")
            assert "MB" in refusal["detail"]
        assert (state_of(daemon.client), len(types(daemon.client))) == (before, head)


def test_without_a_backup_that_can_be_made_nothing_is_reset(folder: Path) -> None:
    with ThreadedDaemon(config_of(folder)) as daemon:
        before, files = state_of(daemon.client), contents(folder)
        (folder / "state" / "backups").write_text("not a folder")
        answer = daemon.client.post("/reset", {"preserve_user_data": False})
        assert answer.status == 503, answer.body
        assert (state_of(daemon.client), contents(folder)) == (before, files)
        assert "FactoryResetStarted" not in types(daemon.client)


def test_an_erasure_that_the_disk_refuses_is_told_and_finished_at_the_next_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    with ThreadedDaemon(config_of(folder)) as daemon:
        files = contents(folder)
        with monkeypatch.context() as read_only:
            read_only.setattr("btmd.restoring.factory_reset.erase", refuse)
            daemon.client.post("/reset", {"preserve_user_data": False}).refused(503, "state_read_only")
        assert contents(folder) == files
        assert "next start" in daemon.client.get("/health").ok()["problems"]["factory reset"]
        assert state_of(daemon.client)["datasets"] == []
        assert types(daemon.client)[-1] != "FactoryResetCompleted"
    with ThreadedDaemon(config_of(folder)) as daemon:
        assert contents(folder) == {}
        assert list((folder / "state" / "jobs").iterdir()) == []
        assert types(daemon.client).count("FactoryResetCompleted") == 1
        assert not daemon.client.get("/health").ok()["problems"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(daemon: ThreadedDaemon, *arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--socket", str(daemon.config.socket_path)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_on_the_command_line_it_is_told_before_and_asked_for(made: Place, folder: Path, run: Run) -> None:
    with ThreadedDaemon(config_of(folder)) as daemon:
        before = state_of(daemon.client)
        code, out, err = run(daemon, "reset", "--erase-user-data")
        assert (code, "--yes" in err) == (6, True)
        told = out + err
        for expected in ("training.seed", "facts", "base models", "from the disk: 1 folders of jobs"):
            assert expected in told
        code, out, _ = run(daemon, "reset", "--dry-run", "--json")
        assert (code, json.loads(out)["dry_run"]) == (0, True)
        assert run(daemon, "reset", "--preserve-user-data", "--undo")[0] == 2
        assert state_of(daemon.client) == before
        code, _, err = run(daemon, "reset", "--yes")
        assert (code, "--undo" in err) == (0, True)
        assert state_of(daemon.client)["settings"]["training.seed"] == 42
        daemon.client.patch("/settings", {"changes": {"training.seed": 43}}).ok()
        since = state_of(daemon.client)
        code, out, err = run(daemon, "reset", "--undo", "--dry-run")
        assert (code, "training.seed: 43 -> 4711" in out, "is undone" in err) == (0, True, False)
        assert json.loads(run(daemon, "reset", "--undo", "--dry-run", "--json")[1])["dry_run"] is True
        code, _, err = run(daemon, "reset", "--undo")
        assert (code, "--yes" in err) == (6, True)
        assert state_of(daemon.client) == since
        code, _, err = run(daemon, "reset", "--undo", "--yes")
        assert (code, "undone" in err) == (0, True)
        assert state_of(daemon.client) == before
        back = next(line for line in err.splitlines() if line.endswith(" takes it back."))
        assert run(daemon, *back.removesuffix(" takes it back.").split()[1:], "--yes")[0] == 0
        assert state_of(daemon.client) == since
