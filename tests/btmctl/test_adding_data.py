"""Folders and tables of any shape through btmctl into a real daemon: what is meant is asked at a terminal."""

import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from btmctl.__main__ import main
from tests.fixtures.daemon import ThreadedDaemon, config_of
from tests.fixtures.documents import docx, pdf
from tests.fixtures.short_folder import short_folder

SECRET = "zebra-in-pyjamas"
PROSE = "A sentence that somebody wrote, number {} of many."


@pytest.fixture(scope="module")
def daemon() -> Iterator[ThreadedDaemon]:
    with short_folder() as folder, ThreadedDaemon(config_of(folder)) as running:
        yield running


@pytest.fixture(autouse=True)
def socket(daemon: ThreadedDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BTMD_SOCKET", str(daemon.config.socket_path))


def contents(daemon: ThreadedDaemon) -> bytes:
    root = daemon.config.content_dir
    return b"".join(file.read_bytes() for file in root.rglob("*") if file.is_file())


def handouts(folder: Path) -> Path:
    (folder / "lessons" / ".git").mkdir(parents=True)
    (folder / "lessons" / ".git" / "x.txt").write_text("no")
    (folder / "lessons" / "one.docx").write_bytes(docx("# Plants", "They are green."))
    (folder / "lessons" / "two.txt").write_text("Animals run.\n")
    (folder / "scan.pdf").write_bytes(pdf([]))
    (folder / "film.mp4").write_bytes(b"x")
    (folder / ".hidden.txt").write_text(SECRET)
    (folder / "empty.md").touch()
    os.symlink("/etc/passwd", folder / "link.txt")
    os.mkfifo(folder / "pipe.txt")
    return folder


def test_a_folder_becomes_a_dataset_and_says_what_it_left_out(
    daemon: ThreadedDaemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = handouts(tmp_path / "biology")
    assert main(["datasets", "add", str(folder), "--consent", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["facts"]
    assert facts["rows_kept"] == 2
    assert {one["name"]: one["reason"][:12] for one in facts["skipped"]} == {
        ".hidden.txt": "hidden",
        "empty.md": "empty",
        "film.mp4": "no kind of f",
        "link.txt": "a link",
        "pipe.txt": "not an ordin",
        "scan.pdf": "The PDF has ",
    }
    assert main(["datasets", "show", "biology"]) == 0
    shown = capsys.readouterr()
    assert "scan.pdf" in shown.out
    assert "changed" not in shown.err
    # A second time nothing is sent and nothing is new.
    assert main(["datasets", "add", str(folder), "--consent"]) == 0
    (folder / "lessons" / "three.md").write_text("# Stones\n\nThey lie.\n")
    assert main(["datasets", "show", "biology"]) == 0
    assert "has changed" in capsys.readouterr().err
    assert main(["datasets", "update", "biology", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changes"]["rows_added"] == 1
    assert SECRET.encode() not in contents(daemon)


def test_what_is_unclear_is_refused_with_a_mapping_that_works_and_is_kept_for_updates(
    daemon: ThreadedDaemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text("lhs;rhs\n" + "".join(f"{PROSE.format(n)};{PROSE.format(n)} {SECRET}\n" for n in range(9)))
    assert main(["datasets", "add", str(table), "--consent"]) == 2
    said = capsys.readouterr().err
    assert "--map prompt=lhs --map completion=rhs" in said
    assert SECRET not in said
    content = table.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    daemon.client.send("PUT", f"/contents/{sha256}", content).ok()
    refused = daemon.client.post("/datasets", {"content": sha256, "file_name": "x.csv"}).refused(422, "unknown_layout")
    assert refused["suggestions"][0] == {"prompt": "lhs", "completion": "rhs"}
    assert SECRET not in json.dumps(refused)
    assert main(["datasets", "add", str(table), "--consent", "--map", "prompt=lhs", "--map", "completion=rhs"]) == 0
    capsys.readouterr()
    with table.open("a") as more:
        more.write("Another question?;And another answer.\n")
    assert main(["datasets", "update", "pairs", "--json"]) == 0
    updated = json.loads(capsys.readouterr().out)
    assert updated["dataset"]["mapping"] == {"prompt": "lhs", "completion": "rhs"}
    assert updated["changes"]["rows_added"] == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_at_a_terminal_the_suggestions_are_shown_with_rows_and_one_is_chosen(
    daemon: ThreadedDaemon, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "tickets.jsonl"
    rows = [
        {"ticket_id": n // 2, "author": "Ann" if n % 2 else f"Guest {n}", "body": f"{PROSE.format(n)} {SECRET}"}
        for n in range(20)
    ]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr("sys.stdin", Terminal("y\nour desk\n1\n"))
    monkeypatch.setattr("btmctl.session.Session.can_ask", True)
    assert main(["datasets", "add", str(table)]) == 0
    said = capsys.readouterr()
    assert "--map conversation=ticket_id --map role=author --map content=body" in said.err
    assert f"user: {PROSE.format(0)} {SECRET}" in said.err
    assert "one message a row, put together" in said.out
    monkeypatch.setattr("sys.stdin", Terminal("\n"))
    assert main(["datasets", "add", str(table), "--consent", "--name", "other"]) == 2
    assert "other" not in {one["name"] for one in daemon.client.get("/datasets").ok()}


def test_roles_and_columns_are_named_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "chat.csv"
    table.write_text("c,who,said,at,junk\n1,desk,Because.,2,x\n1,caller,Why?,1,x\n1,log,closed,3,x\n")
    mapped = ["--map", "conversation=c", "--map", "role=who", "--map", "content=said", "--map", "order=at"]
    roles = ["--role", "desk=assistant", "--role", "log=drop", "--map", "drop=junk"]
    assert main(["datasets", "add", str(table), "--consent", "--json", *mapped, *roles]) == 0
    added = json.loads(capsys.readouterr().out)
    assert added["facts"]["turns_total"] == 2
    assert added["mapping"]["role:desk"] == "assistant"
    for wrong in (["--map", "prompt"], ["--role", "=user"], ["--map", "text=a", "--map", "text=b"]):
        assert main(["datasets", "add", str(table), "--consent", *wrong]) == 2


def test_a_pipe_and_a_device_are_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    for path in (str(tmp_path / "pipe.jsonl"), "/dev/zero"):
        assert main(["datasets", "add", path, "--consent"]) == 5
        assert "ordinary file" in capsys.readouterr().err
