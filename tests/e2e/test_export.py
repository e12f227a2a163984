"""A training is taken away and talked with: with the own rights, with consent, recorded, and whole or not at all."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from btmctl.__main__ import main
from tests.fixtures.daemon import QUICK, Client, DaemonProcess, config_of, rows
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

Btmctl = Callable[..., tuple[int, str, str]]
SHORT = {"num_epochs": 1, "sample_answers": 0, "eval_every": 0, "lora_r": 4}


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    with short_folder() as folder, DaemonProcess(config_of(folder)) as running:
        running.client.patch("/settings", {"changes": QUICK}).ok()
        running.client.add_model(make_tiny_llama(folder / "tiny"))
        running.client.add_dataset(rows(24), scopes=("train",))
        yield running


@pytest.fixture(scope="module")
def job(daemon: DaemonProcess) -> str:
    job_id = daemon.client.start(overrides=SHORT, name="Our bees")
    daemon.client.wait_until(job_id, "completed")
    return job_id


@pytest.fixture
def client(daemon: DaemonProcess) -> Client:
    return daemon.client


@pytest.fixture
def btmctl(
    daemon: DaemonProcess, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Btmctl:
    monkeypatch.setenv("BTMD_SOCKET", str(daemon.config.socket_path))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def left(daemon: DaemonProcess) -> list[str]:
    """What exports have left in the state folder."""
    folder = daemon.config.exports_dir
    return sorted(os.listdir(folder)) if folder.exists() else []


def test_it_takes_consent_and_writes_what_was_asked_for(
    btmctl: Btmctl, daemon: DaemonProcess, job: str, tmp_path: Path
) -> None:
    client = daemon.client
    client.post("/exports", {"job_id": job, "format": "merged"}).refused(409, "consent_missing")
    # Without a terminal nobody is asked.
    code, _, said = btmctl("jobs", "export", job, "--format", "merged", "--json")
    assert (code, left(daemon), os.listdir(tmp_path)) == (6, [], [])
    assert "consent grant facts --scope export" in said
    assert btmctl("consent", "grant", "facts", "--scope", "export")[0] == 0
    code, out, said = btmctl("jobs", "export", job, "--format", "merged", "--json")
    assert code == 0, said
    told = json.loads(out)
    assert Path(told["path"]) == tmp_path / f"our-bees-{job}-merged"
    assert {one["path"] for one in told["files"]} == set(os.listdir(told["path"]))
    assert {"config.json", "model.safetensors", "README.md"} <= set(os.listdir(told["path"]))
    assert told["check"]["own_rows"] > 0
    assert left(daemon) == []
    (event,) = client.events(type="JobExported")
    assert event["data"]["files"] == told["files"]
    assert event["data"]["by_uid"] == os.getuid()
    assert [one["export_id"] for one in client.get(f"/exports?job_id={job}").ok()] == [told["export_id"]]
    # An export is for who asked for it, and only as long as it is there.
    client.get(f"/exports/{told['export_id']}/files/config.json").refused(404, "not_found")


def test_what_is_there_is_not_overwritten_unasked(btmctl: Btmctl, job: str, tmp_path: Path) -> None:
    btmctl("consent", "grant", "facts", "--scope", "export")
    target = tmp_path / f"our-bees-{job}-card.md"
    target.write_text("mine")
    code, _, said = btmctl("jobs", "export", job, "--format", "card")
    assert (code, target.read_text()) == (6, "mine")
    assert "--yes" in said
    code, out, _ = btmctl("jobs", "export", job, "--format", "card", "--yes")
    assert (code, out.strip()) == (0, str(target))
    card = target.read_text()
    assert card.startswith("---\nbase_model: tiny\n")
    for part in ("facts", "lora_adaptation", "held-out loss", "transformers", "licence"):
        assert part in card
    assert "said the bee" not in card
    other = tmp_path / "models"
    other.mkdir()
    code, out, _ = btmctl("jobs", "export", job, "--format", "card", "--out", "models")
    assert (code, out.strip()) == (0, str(other / target.name))


def test_paths_lead_nowhere_else(client: Client, job: str) -> None:
    asked = {"job_id": job, "format": "card"}
    made = client.post("/exports", asked, idempotency_key="card").ok()
    assert client.post("/exports", asked, idempotency_key="card").ok() == made
    address = f"/exports/{made['export_id']}/files"
    assert client.get(f"{address}/README.md").body.startswith(b"---")
    client.get(f"{address}/../../event-log.sqlite").refused(404, "not_found")
    client.get(f"{address}/%2e%2e/%2e%2e/keys").refused(404, "not_found")
    somebody = made["export_id"].rpartition("-")[0] + f"-{os.getuid() + 1}"
    client.get(f"/exports/{somebody}/files/README.md").refused(404, "not_found")
    client.send("DELETE", f"/exports/{made['export_id']}").ok()
    client.get(f"{address}/README.md").refused(404, "not_found")


def test_talking_is_recorded_without_a_word_of_it(btmctl: Btmctl, client: Client, job: str) -> None:
    before = client.events()[-1]["seq"]
    code, out, said = btmctl("chat", job, "--both", "--prompt", "Where is the honeycomb?", "--json")
    assert code == 0, said
    assert set(json.loads(out)["answers"]) == {"base", "tuned"}
    told = client.events(before)
    assert [(one["type"], one["data"]["which"]) for one in told] == [
        ("JobTalkedWith", "base"),
        ("JobTalkedWith", "tuned"),
    ]
    assert "honeycomb" not in json.dumps(told)


def test_its_report_tells_who_took_it_away_and_no_text_of_a_row(client: Client, job: str) -> None:
    answer = client.get(f"/audit/jobs/{job}")
    found = answer.ok()
    assert {file["path"] for file in found["result"]["files"]} >= {"adapter_model.safetensors", "training.json"}
    assert len(found["exports"]) == len(client.events(type="JobExported"))
    assert found["chats"]["messages"] == len(client.events(type="JobTalkedWith"))
    assert [one["type"] for one in found["consent"]["history"]] == ["ConsentGranted", "ConsentGranted"]
    assert (found["consent"]["when_asked"]["scopes"], found["consent"]["now"]["scopes"]) == (
        ["train"],
        ["train", "export"],
    )
    assert found["forecast"]["scores"]
    for text in ("said the bee", "plus", "honeycomb"):
        assert text not in answer.body.decode()


def test_taken_back_consent_ends_both(btmctl: Btmctl, daemon: DaemonProcess, job: str) -> None:
    client = daemon.client
    client.send("DELETE", "/consents/facts").ok()
    refusal = client.post("/exports", {"job_id": job, "format": "card", "dry_run": True}).refused(
        409, "consent_missing"
    )
    assert "consent grant facts --scope train,export" in refusal["hint"]
    question = {"messages": [{"role": "user", "content": "One?"}], "max_new_tokens": 2}
    client.post(f"/jobs/{job}/chat", question).refused(409, "consent_missing")
    assert left(daemon) == []
