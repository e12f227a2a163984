"""The same key with the same request: done once, answered alike, by every operation that is sent with POST."""

import dis
import hashlib
import json
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from btmd.api.application import OPERATIONS
from btmd.api.idempotency import LONGEST_KEY, Key
from btmd.api.operation import Operation
from btmd.jobs.rerunning import Rerunning
from btmd.jobs.submission import Submission
from btmd.restoring.factory_reset import FactoryReset
from btmd.restoring.restore import Restoring
from tests.fixtures.daemon import ROOT, Answer, Client, ThreadedDaemon, config_of, rows
from tests.fixtures.short_folder import short_folder

COMPUTES = "it computes from what there is now, and records nothing"
SHOWS_TEXT = "it shows texts of a dataset, which are kept nowhere, and records nothing"
WITHOUT_KEY = {
    "/plans": COMPUTES,
    "/models/verdicts": COMPUTES,
    "/model-files": COMPUTES,
    "/datasets/{dataset_id}/personal-data": COMPUTES,
    "/datasets/{dataset_id}/check": SHOWS_TEXT,
    "/datasets/{dataset_id}/anonymise/preview": SHOWS_TEXT,
    "/datasets/{dataset_id}/preview": SHOWS_TEXT,
    "/datasets/mapping-preview": SHOWS_TEXT,
    "/jobs/{job_id}/chat": "a stream of what a model says, of which only is kept that there was a talk",
}
"""What is sent with POST and does not take the key, and why."""
SECRET = {"/backup-keys/recovery-key/confirm", "/backup-keys/passphrase", "/backup-keys/key-file"}
CHANGES = [one for one in OPERATIONS if one.method == "POST"]


def uses_key(one: Operation) -> bool:
    """Whether the handler does something with the key that it is given."""
    (name,) = (name for name, kind in one.arguments.given.items() if kind == Key)
    code = getattr(one.handler, "__code__")  # noqa: B009 - a Handler is any callable
    return name in code.co_cellvars or any(
        name in (step.argval if isinstance(step.argval, tuple) else (step.argval,))
        for step in dis.get_instructions(code)
        if step.opname.startswith("LOAD_FAST")
    )


@pytest.mark.parametrize("one", CHANGES, ids=lambda one: one.path)
def test_every_post_takes_the_key_or_says_why_not(one: Operation) -> None:
    assert one.arguments.takes_key != (one.path in WITHOUT_KEY)
    assert not one.arguments.takes_key or uses_key(one)


def test_the_list_of_exceptions_names_what_there_is() -> None:
    assert set(WITHOUT_KEY) <= {one.path for one in CHANGES}
    assert {one.path for one in OPERATIONS if one.secret} == SECRET


def test_the_openapi_document_names_the_header_where_it_counts(client: Client) -> None:
    paths = client.get("/openapi.json").ok()["paths"]
    for one in OPERATIONS:
        described = paths[ROOT + one.path.replace(":path", "")][one.method.lower()]
        headers = [given for given in described["parameters"] if given["in"] == "header"]
        assert [given["name"] for given in headers] == ["Idempotency-Key"] * one.arguments.takes_key, one.path
        assert all((given["required"], given["schema"]["maxLength"]) == (False, LONGEST_KEY) for given in headers)


def twice(client: Client, path: str, body: Any = None) -> dict[str, Any]:
    """The answer, given twice to the same key; only the first time anything was recorded."""
    first = client.post(path, body, idempotency_key=f"twice {path}").ok()
    head = client.events()[-1]["seq"]
    again = client.post(path, body, idempotency_key=f"twice {path}")
    assert again.ok() == first
    assert again.headers["idempotency-replayed"] == "true"
    assert client.events(head) == []
    another = client.post("/settings/undo", {"force": True}, idempotency_key=f"twice {path}")
    another.refused(422, "idempotency_mismatch")
    return dict(first)


def test_what_reads_backups_through_does_it_once_for_a_key(client: Client) -> None:
    backup_id = client.post("/backup", {"description": "read"}).ok()["backup_id"]
    assert twice(client, "/backups/verify")["backups"]
    assert twice(client, f"/backups/{backup_id}/verify")["ok"]
    assert twice(client, f"/backups/{backup_id}/drill")["proved"]
    # What it was asked of may be gone since.
    client.send("DELETE", f"/backup/{backup_id}").ok()
    path = f"/backups/{backup_id}/verify"
    assert client.post(path, idempotency_key=f"twice {path}").ok()["ok"]
    client.post(path, idempotency_key="another").refused(404, "backup_not_found")


def test_what_takes_something_away_does_it_once_for_a_key(client: Client, daemon: ThreadedDaemon) -> None:
    client.add_dataset(rows(), "goes")
    assert twice(client, "/erasures/goes", {})["dataset_id"] == "goes"
    client.patch("/settings", {"changes": {"backup.keep_last": 1, "backup.keep_daily": 0}}).ok()
    for _ in range(3):
        client.post("/backup").ok()
    assert client.post("/backups/prune", {"dry_run": True}, idempotency_key="looked").ok()["dry_run"]
    assert client.post("/backups/prune", {"dry_run": True}, idempotency_key="looked").ok()["deleted"]
    assert twice(client, "/backups/prune")["deleted"]
    left = daemon.config.cache_dir / "left"
    left.mkdir(parents=True)
    (left / "file").write_bytes(b"x" * 1000)
    assert twice(client, "/disk/clean", {"only": ["caches"]})["freed_bytes"] >= 1000
    (left / "file").parent.mkdir(exist_ok=True)
    (left / "file").write_bytes(b"x")
    twice(client, "/disk/clean", {"only": ["caches"]})
    assert (left / "file").exists(), "it was not done again"


def test_a_model_is_read_once_for_a_key(client: Client, tiny: Path) -> None:
    client.add_model(tiny)
    assert twice(client, "/models/tiny/verify")["files"]


def test_a_change_is_kept_once_for_a_key(client: Client) -> None:
    client.patch("/settings", {"changes": {"training.seed": 7}})
    changes = {"changes": {"training.seed": 8}, "confirm_s": 3600}
    client.send("PATCH", "/settings", json.dumps(changes).encode(), content_type="application/json").ok()
    assert twice(client, "/settings/confirm", {})["message"]
    client.post("/settings/confirm", {}).refused(409, "conflict")


def test_an_undone_reset_is_undone_once_for_a_key() -> None:
    with short_folder() as folder, ThreadedDaemon(config_of(folder)) as daemon:
        daemon.client.patch("/settings", {"changes": {"training.seed": 7}}).ok()
        twice(daemon.client, "/reset")
        looked = daemon.client.post("/reset/undo", {"dry_run": True}, idempotency_key="looked").ok()
        assert looked["dry_run"]
        assert twice(daemon.client, "/reset/undo")["changes"]
        assert daemon.client.get("/settings/training.seed").ok()["value"] == 7


def test_two_at_once_with_one_key_do_it_once(client: Client) -> None:
    client.post("/backup").ok()
    before = client.events()[-1]["seq"]
    answers: list[Answer] = []
    asking = [
        threading.Thread(target=lambda: answers.append(client.post("/backups/verify", idempotency_key="at once")))
        for _ in range(4)
    ]
    for one in asking:
        one.start()
    for one in asking:
        one.join()
    (told,) = {answer.body for answer in answers}
    read = len(json.loads(told)["backups"])
    assert [event["type"] for event in client.events(before)] == ["BackupVerified"] * read


def test_what_failed_is_tried_again(client: Client) -> None:
    for _ in range(2):
        answer = client.post("/settings/confirm", {"number": 10**9}, idempotency_key="nothing to keep")
        answer.refused(404, "change_not_found")
    client.post("/backups/verify", idempotency_key="k" * (LONGEST_KEY + 1)).refused(400, "bad_request")


def test_the_kept_hash_of_a_passphrase_cannot_be_guessed_from(client: Client, daemon: ThreadedDaemon) -> None:
    body = {"passphrase": "correct horse battery"}
    first = client.post("/backup-keys/passphrase", body, idempotency_key="hidden")
    assert client.post("/backup-keys/passphrase", body, idempotency_key="hidden").ok() == first.ok()
    other = client.post("/backup-keys/passphrase", {"passphrase": "another horse"}, idempotency_key="hidden")
    other.refused(422, "idempotency_mismatch")
    with closing(sqlite3.connect(daemon.config.database_path)) as connection:
        query = "SELECT request_hash, response FROM idempotency WHERE key = 'hidden'"
        ((kept, response),) = connection.execute(query).fetchall()
    asked = f"POST {ROOT}/backup-keys/passphrase?\n".encode() + json.dumps(body).encode()
    assert kept != hashlib.sha256(asked).hexdigest()
    assert b"horse" not in response


def test_a_recovery_key_is_not_kept_and_asking_again_says_that_it_was_done(
    client: Client, daemon: ThreadedDaemon
) -> None:
    shown = client.post("/backup-keys/recovery-key", idempotency_key="once").ok()["recovery_key"]
    before = client.events()[-1]["seq"]
    refused = client.post("/backup-keys/recovery-key", idempotency_key="once").refused(409, "conflict")
    assert "done already" in refused["detail"]
    assert client.events(before) == []
    for path in daemon.config.database_path.parent.glob(daemon.config.database_path.name + "*"):
        assert shown.encode() not in path.read_bytes()


def test_the_same_start_and_rerun_sent_twice_at_once_make_one_job(
    client: Client, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have found nothing kept with the key, and are at work, before either is done."""
    both = threading.Barrier(2)

    def meet(prepare: Any) -> Any:
        async def prepared(*given: Any, **named: Any) -> Any:
            found = await prepare(*given, **named)
            await anyio.to_thread.run_sync(both.wait, 60)
            return found

        return prepared

    monkeypatch.setattr(Submission, "prepare", meet(Submission.prepare))
    monkeypatch.setattr(Rerunning, "prepare", meet(Rerunning.prepare))
    client.patch("/settings", {"changes": {"queue.quiet_hours": "00:00-24:00"}}).ok()
    if not client.get("/models").ok():
        client.add_model(tiny)
    client.add_dataset(rows(20), "at-once", consent=True)
    asked = {"model_id": "tiny", "dataset_id": "at-once", "preset_name": "quick_test"}
    with ThreadPoolExecutor(2) as pool:
        ask = partial(client.post, "/start", asked, idempotency_key="start at once")
        first, second = (one.result().ok() for one in [pool.submit(ask) for _ in range(2)])
        assert first == second
        ask = partial(client.post, f"/jobs/{first['job_id']}/rerun", idempotency_key="rerun at once")
        third, fourth = (one.result().ok() for one in [pool.submit(ask) for _ in range(2)])
        assert third == fourth
    made = {one["job_id"] for one in client.get("/jobs").ok() if one["dataset_id"] == "at-once"}
    assert made == {first["job_id"], third["job_id"]}
    for job_id in made:
        client.post(f"/jobs/{job_id}/cancel").ok()


def test_the_same_restore_and_reset_sent_twice_at_once_are_answered_alike(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2)

    def meet(apply: Any) -> Any:
        async def applied(*given: Any, **named: Any) -> Any:
            await anyio.to_thread.run_sync(both.wait, 60)
            return await apply(*given, **named)

        return applied

    monkeypatch.setattr(Restoring, "_apply", meet(Restoring._apply))
    monkeypatch.setattr(FactoryReset, "reset", meet(FactoryReset.reset))
    client.patch("/settings", {"changes": {"training.seed": 4711}}).ok()
    with ThreadPoolExecutor(2) as pool:
        for path, body in (("/restores", {"seq": 0, "only": ["settings"]}), ("/reset", {})):
            ask = partial(client.post, path, body, idempotency_key=f"at once {path}")
            first, second = (one.result().ok() for one in [pool.submit(ask) for _ in range(2)])
            assert first == second
