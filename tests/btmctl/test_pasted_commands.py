"""A refusal of a dataset ends in a command that works when it is pasted."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from btmctl.__main__ import main
from tests.fixtures.daemon import ThreadedDaemon, config_of
from tests.fixtures.short_folder import short_folder

TABLE = (
    "Anliegen;Loesung;Bem\nWo ist meine Rechnung von Mai?;Sie liegt im Postfach.;x\n"
    "Wie kündige ich den Vertrag?;Schreiben Sie uns einen Brief.;\nWann kommt der Techniker?;Er kommt am Dienstag.;y\n"
)


@pytest.fixture(scope="module")
def daemon() -> Iterator[ThreadedDaemon]:
    with short_folder() as folder, ThreadedDaemon(config_of(folder)) as running:
        yield running


@pytest.fixture(autouse=True)
def socket(daemon: ThreadedDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BTMD_SOCKET", str(daemon.config.socket_path))


def pasted(said: str, command: str) -> list[str]:
    """The arguments of the command in a refusal, which stands on one line however long it is."""
    [line] = [line for line in said.splitlines() if f"{command} " in line]
    words = shlex.split(line[line.index("btmctl ") :])
    return words[1:]


def test_the_likeliest_mapping_is_a_whole_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a table of ours.csv"
    path.write_text(TABLE)
    assert main(["datasets", "add", str(path), "--consent", "--purpose", "our desk", "--name", "desk"]) == 2
    arguments = pasted(capsys.readouterr().err, "btmctl datasets add")
    assert main([*arguments, "--json"]) == 0
    added = json.loads(capsys.readouterr().out)
    assert (added["name"], added["purpose"], added["rows"]) == ("desk", "our desk", 3)
    assert added["facts"]["columns_as"] == {"prompt": "Anliegen", "completion": "Loesung"}


def test_one_question_leads_to_the_next_until_it_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "words.csv"
    path.write_bytes("собака,пёс\nкошка,кот\nмышь,мышонок и ещё мышь\nптица,птенец\n".encode("cp1251"))
    arguments = ["datasets", "add", str(path), "--consent"]
    for _ in range(2):
        assert main(arguments) == 2
        arguments = pasted(capsys.readouterr().err, "btmctl datasets add")
    assert arguments[3:6] == ["--consent", "--encoding", "windows-1251"]
    assert "--no-header" in arguments
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 4
    # What is said of the file alone leaves the columns as they were.
    assert main(["datasets", "update", "words", "--encoding", "koi8-r", "--json"]) == 0
    updated = json.loads(capsys.readouterr().out)["dataset"]
    assert updated["mapping"]["file:header"] == "none"
    assert updated["facts"]["encoding"] == "koi8-r"
    hungarian = tmp_path / "hu.csv"
    hungarian.write_bytes("question;answer\nHol van?;A kikötőben áll, és erősen világít a tűz.\n".encode("cp1250"))
    assert main(["datasets", "add", str(hungarian), "--consent"]) == 0
    assert "csv, windows-1250 (guessed; --encoding names another)" in capsys.readouterr().out


def test_a_folder_of_both_kinds_is_asked_about_and_an_update_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "note.md").write_text("# A note\n\nIt says little.\n")
    assert main(["datasets", "add", str(folder), "--consent"]) == 0
    (folder / "rows.csv").write_text("question,answer\nWhy?,So.\n")
    capsys.readouterr()
    assert main(["datasets", "update", "mixed"]) == 2
    said = capsys.readouterr().err
    assert "more than one kind of data" in said
    assert main([*pasted(said, "btmctl datasets update"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["dataset"]["facts"]
    assert [one["name"] for one in facts["files"]] == ["rows.csv"]
    assert {"name": "note.md", "reason": "not a table"} in facts["skipped"]
    assert main(["datasets", "show", "mixed"]) == 0
    shown = capsys.readouterr().out
    assert "folder of 1 csv" in shown
    assert "note.md: not a table" in shown
