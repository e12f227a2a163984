"""btmctl audit report and export, typed against a daemon on a store that an earlier release left."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio.from_thread
import pytest

from btmctl.__main__ import main
from btmctl.audit_report import markdown
from btmctl.commands.audit_export import VERIFIER
from btmd.command_handler import CommandHandler
from btmd.domain.commands import DECIDERS
from btmd.domain.use import RecordExport, RecordTalk
from tests.docs.place import recipes
from tests.fixtures.daemon import ROOT_DIR, Client, ThreadedDaemon, config_of
from tests.fixtures.short_folder import short_folder
from tests.store.given import ACTOR

OLD_STORE = Path(__file__).parents[1] / "fixtures" / "old_stores" / "before_settings_history.sql"
JOB = "wrn4yb5iwb"
DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def daemon() -> Iterator[ThreadedDaemon]:
    with short_folder() as folder:
        (folder / "state").mkdir(mode=0o700)
        with closing(sqlite3.connect(folder / "state" / "btmd.db", isolation_level=None)) as connection:
            connection.executescript(OLD_STORE.read_text())
            connection.execute("PRAGMA journal_mode=WAL")
        result = folder / "state" / "jobs" / JOB / "result"
        result.mkdir(parents=True)
        (result / "adapter_model.safetensors").write_bytes(b"test")
        with ThreadedDaemon(config_of(folder)) as running:
            anyio.from_thread.run(take_away_and_talk, running, token=running._token)
            yield running


async def take_away_and_talk(daemon: ThreadedDaemon) -> None:
    handler = CommandHandler(daemon.daemon.store, DECIDERS)
    files = ({"path": "a.gguf", "size_bytes": 4, "sha256": DIGEST},)
    await handler.handle(RecordExport(JOB, "e" * 32, "gguf", "q8_0", 1000, files), actor=ACTOR)
    await handler.handle(RecordTalk(JOB, "tuned", 1000, 1, 12, True), actor=ACTOR)


@pytest.fixture
def typed(daemon: ThreadedDaemon, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Typed:
    monkeypatch.setenv("BTMD_SOCKET", str(daemon.config.socket_path))

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        captured = capfdbinary.readouterr()
        return code, captured.out.decode(), captured.err.decode()

    return run


@pytest.fixture(scope="module")
def found(daemon: ThreadedDaemon) -> dict[str, Any]:
    return dict(daemon.client.get(f"/audit/jobs/{JOB}").ok())


def test_a_report_tells_of_a_job_from_its_start_to_who_took_it_away(
    found: dict[str, Any], daemon: ThreadedDaemon
) -> None:
    assert found["job"]["asked"]["event"] == 10
    assert found["model"]["fingerprint"].startswith("be01c143")
    assert found["dataset"]["versions"][0]["rows_sha256"] == found["dataset"]["rows_sha256"]
    assert found["consent"]["when_asked"] == {"scopes": ["train"], "purpose": "", "event": 9}
    assert {one["key"]: one["value"] for one in found["settings"]}["training.seed"] == 4711
    assert found["plan"]["values"]["learning_rate"]["reason"] == "The preset's learning rate."
    assert [(one["attempt"], one["ended"]) for one in found["attempts"]] == [(1, "JobCompleted")]
    assert found["attempts"][0]["at"] < found["attempts"][0]["ended_at"]
    assert (found["result"]["type"], found["result"]["verdict"]["kind"]) == ("JobCompleted", "unchanged")
    assert [one["sha256"] for one in found["result"]["files"]] == [DIGEST]
    assert [(one["by"]["name"], one["files"][0]["sha256"]) for one in found["exports"]] == [("somebody", DIGEST)]
    assert found["chats"] == {"messages": 1, "by": {"somebody": 1}}
    assert (found["ticks"]["count"], found["ticks"]["first"]["event"], found["ticks"]["last"]["event"]) == (3, 26, 28)
    assert (found["log"]["verdict"], found["log"]["checked"]) == ("ok", found["log"]["head_seq"])
    # What it stands on is in the log, with these hashes.
    recorded = exported(daemon.client)
    assert all(recorded[one["event"]] == one["hash"] for one in found["events"])
    assert {2, 4, 6, 7, 8, 9, 10, 11, 29} <= {one["event"] for one in found["events"]}


def exported(client: Client) -> dict[int, str]:
    lines = [json.loads(line) for line in client.get("/audit/export").body.splitlines()]
    return {line["seq"]: line["hash"] for line in lines[1:-1]}


def test_the_document_stands_for_itself(found: dict[str, Any]) -> None:
    text = markdown(found)
    for said in (
        f"# Audit report of the training {JOB}",
        DIGEST,
        "training.seed",
        "As you asked.",
        "somebody (uid 1000)",
    ):
        assert said in text
    assert not re.search(r"https?://|!\[|<\w", text), "nothing of it lies elsewhere"


def test_a_deleted_job_still_has_its_report(typed: Typed, daemon: ThreadedDaemon, tmp_path: Path) -> None:
    daemon.client.send("DELETE", "/jobs/yjs4j562kd").ok()
    code, out, _ = typed("audit", "report", "yjs4j562kd", "--out", str(tmp_path), "--json")
    written = tmp_path / "audit-yjs4j562kd.json"
    assert (code, json.loads(out)["path"]) == (0, str(written))
    found = json.loads(written.read_text())
    assert (found["job"]["name"], found["result"]["type"]) == ("given up", "JobCancelled")
    assert "deleted" in found["result"]["files_missing"]
    assert "JobDeleted" in [one["type"] for one in found["events"]]
    assert typed("audit", "report", "yjs4j562kd", "--out", str(written))[0] == 6, "it is there already"
    assert typed("audit", "report", "nonsense")[0] == 5


def test_what_somebody_typed_does_not_change_the_document(found: dict[str, Any]) -> None:
    forged = "| `# <b>x</b>\n\n# Forged"
    job = {**found["job"], "name": forged, "description": forged, "preset": forged}
    consent = {**found["consent"], "when_asked": {"scopes": ["train"], "purpose": forged, "event": 9}}
    text = markdown({**found, "job": job, "consent": consent})
    outside = re.sub(r"(?<!\\)`[^`\n]*`", "", text)
    assert not re.search(r"^# Forged|[^\\]<b>", outside, re.MULTILINE)
    assert text.count("\n# ") == 0


def test_the_page_is_done_as_it_is_printed(daemon: ThreadedDaemon, tmp_path: Path) -> None:
    steps = [step for found in recipes("audit.md").values() for step in found]
    assert len(steps) > 7
    daemon.client.post("/backup", {}).ok()
    (tmp_path / "run").write_text("set -e\n" + "\n".join(step.replace(" last ", f" {JOB} ") for step in steps))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {
        **os.environ,
        "BTMD_SOCKET": str(daemon.config.socket_path),
        "PATH": path,
        "PYTHONPATH": str(ROOT_DIR),
    }
    done = subprocess.run(["bash", "run"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ACCEPTED: ") == 2
    assert "sealed with the key that you gave" in done.stdout
    assert "5 events, 1 to 5, are in " in done.stdout
    assert (tmp_path / "verify_audit.py").read_bytes() == Path(VERIFIER).read_bytes()
    assert f"# Audit report of the training {JOB}" in (tmp_path / "report.md").read_text()


def test_lines_go_to_standard_output_and_what_cannot_be_is_refused(typed: Typed, tmp_path: Path) -> None:
    code, out, _ = typed("audit", "export", "--since", "4", "--until", "5")
    assert (code, [json.loads(line).get("seq") for line in out.splitlines()]) == (0, [None, 4, 5, None])
    assert typed("audit", "export", "--with-verifier")[0] == 2
    assert typed("audit", "export", "--since", "whenever")[0] == 2
    given = ("--since", "2020-01-01", "--until", "2020-01-02", "--out", str(tmp_path / "x"))
    assert typed("audit", "export", *given)[0] == 2
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
