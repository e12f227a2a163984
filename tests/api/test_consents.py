"""Consents over the socket: granted, taken back, and nothing trained without."""

import json
import threading
from pathlib import Path
from typing import Any

import anyio.to_thread

from btmd.jobs.submission import Submission
from tests.fixtures.daemon import Answer, Client, ThreadedDaemon, rows


def grant(client: Client, dataset: str, **body: Any) -> Answer:
    return client.send("PUT", f"/consents/{dataset}", json.dumps(body).encode(), content_type="application/json")


def revoke(client: Client, dataset: str) -> Answer:
    return client.send("DELETE", f"/consents/{dataset}")


def test_consent_is_granted_added_to_and_taken_back(client: Client) -> None:
    client.add_dataset(rows(20), "letters", consent=False)
    listed = {one["dataset_id"]: one for one in client.get("/consents").ok()}
    assert (listed["letters"]["scopes"], listed["letters"]["consent_by_uid"]) == ([], None)
    grant(client, "letters", purpose="our library").ok()
    answer = grant(client, "lett", scopes=["backup"]).ok()
    assert (answer["scopes"], answer["purpose"]) == (["train", "backup"], "our library")
    assert answer["consent_at"]
    grant(client, "letters", scopes=["sell"]).refused(422, "invalid_value")
    grant(client, "none").refused(404, "dataset_not_found")
    assert revoke(client, "letters").ok()["unfinished_jobs"] == []
    assert client.get("/datasets/letters").ok()["scopes"] == []
    before = client.events()[-1]["seq"]
    assert "Nothing was allowed" in revoke(client, "letters").ok()["message"]
    assert client.events(before) == []


def test_nothing_is_trained_without_and_a_revocation_names_what_it_concerns(
    client: Client, daemon: ThreadedDaemon, tiny: Path
) -> None:
    client.add_model(tiny)
    client.add_dataset(rows(20), "answers", consent=False)
    asked = {"model_id": "tiny", "dataset_id": "answers", "preset_name": "quick_test"}
    client.post("/start", asked).refused(409, "consent_missing")
    grant(client, "answers").ok()
    job_id = client.start(**asked)
    done = revoke(client, "answers").ok()
    assert (done["unfinished_jobs"], job_id in done["message"]) == ([job_id], True)
    client.post("/start", asked).refused(409, "consent_missing")
    client.wait_until(job_id, "cancelled")


def test_a_queued_job_does_not_start_and_a_running_one_ends_with_a_checkpoint(
    client: Client, daemon: ThreadedDaemon, tiny: Path
) -> None:
    client.add_model(tiny)
    client.add_dataset(rows(40), "running")
    client.add_dataset(rows(41), "queued")
    overrides = {"num_epochs": 1000, "max_steps": 20_000, "eval_every": 5000, "save_every": 20, "sample_answers": 0}
    running = client.start(dataset_id="running", overrides=overrides)
    queued = client.start(dataset_id="queued", overrides=overrides)
    client.wait_for(running, lambda job: job["step"] >= 3)
    revoke(client, "queued").ok()
    assert client.wait_until(queued, "cancelled")["attempt"] == 0
    revoke(client, "running").ok()
    ended = client.wait_until(running, "cancelled")
    assert ended["step"] >= 3
    assert "consent" in client.get(f"/result/{running}").ok()["performance_summary"]
    # The checkpoint stays, and nobody goes on from it, also when the use is allowed again.
    assert any((daemon.config.jobs_dir / running / "checkpoints").iterdir())
    grant(client, "running").ok()
    client.post(f"/jobs/{running}/resume").refused(409, "job_ended")
    client.post(f"/jobs/{queued}/resume").refused(409, "job_ended")


def test_only_what_may_be_backed_up_goes_into_a_backup(client: Client) -> None:
    client.add_dataset(rows(30), "stays here", scopes=("train",))
    client.post("/backup", {"with_artefacts": True}).ok()
    before = _artefacts(client)
    grant(client, "stays-here", scopes=["backup"]).ok()
    client.post("/backup", {"with_artefacts": True}).ok()
    assert _artefacts(client) - before == {"stays-here"}
    revoke(client, "stays-here").ok()
    client.post("/backup", {"with_artefacts": True}).ok()
    assert _artefacts(client) == before


def _artefacts(client: Client) -> set[str]:
    newest = client.get("/backups").ok()[0]["backup_id"]
    return {one["owner"] for one in client.get(f"/backups/{newest}").ok()["contents"] if one["kind"] == "dataset"}


def test_consent_that_is_taken_back_while_a_plan_is_made_is_gone(
    client: Client, daemon: ThreadedDaemon, tiny: Path, monkeypatch: Any
) -> None:
    client.add_model(tiny)
    client.add_dataset(rows(20), "late", consent=True)
    prepare, planned, revoked = Submission.prepare, threading.Event(), threading.Event()

    async def slow(self: Submission, *arguments: Any) -> Any:
        found = await prepare(self, *arguments)
        planned.set()
        await anyio.to_thread.run_sync(revoked.wait, 60)
        return found

    monkeypatch.setattr(Submission, "prepare", slow)
    answers: list[Answer] = []
    asked = {"model_id": "tiny", "dataset_id": "late", "preset_name": "quick_test"}
    starting = threading.Thread(target=lambda: answers.append(client.post("/start", asked)))
    starting.start()
    assert planned.wait(60)
    revoke(client, "late").ok()
    revoked.set()
    starting.join()
    answers[0].refused(409, "consent_missing")
