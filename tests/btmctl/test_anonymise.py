"""btmctl datasets anonymise, and the question of train, against a real daemon."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from btmctl.__main__ import main
from btmctl.output import Output
from tests.fixtures.daemon import ThreadedDaemon, config_of
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def daemon() -> Iterator[ThreadedDaemon]:
    with short_folder() as folder, ThreadedDaemon(config_of(folder)) as running:
        yield running


@pytest.fixture
def run(daemon: ThreadedDaemon, capsys: pytest.CaptureFixture[str]) -> Run:
    def typed(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--socket", str(daemon.config.socket_path)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return typed


def tickets(tmp_path: Path, count: int = 30) -> Path:
    file = tmp_path / "tickets.csv"
    lines = [f"Erika Gabler,Frage {number} zu Tarif {number + 3}?,Gern {number}." for number in range(count)]
    lines[4] = "Erika Gabler,Mail an e.gabler@example.org?,Ja gern Frau Gabler."
    lines[9] = "Otto Quandt,Otto Quandt ist unter 0171 7654321 erreichbar.,Danke K-123456."
    file.write_text("customer,question,answer\n" + "\n".join(lines) + "\n")
    return file


def test_a_preview_shows_and_a_run_makes_a_version(run: Run, tmp_path: Path) -> None:
    assert run("datasets", "add", str(tickets(tmp_path)), "--consent")[0] == 0
    code, out, err = run("datasets", "anonymise", "tickets", "--preview")
    assert code == 0
    assert "Mail an >>e.gabler@example.org<<?" in out
    assert "[PHONE_1]" in out
    assert "Names of people are not found" in out
    names = tmp_path / "names.txt"
    names.write_text("Frau Gabler\n\n")
    _, out, _ = run("datasets", "anonymise", "tickets", "--preview", "--list", str(names))
    assert "no recogniser is installed. --list" not in out
    assert "Names of people are found only where your own lists" in out
    options = ("--pattern", r"CUSTOMER=K-\d{6}", "--list", str(names), "--column", "customer=NAME")
    code, out, err = run("datasets", "anonymise", "tickets", *options, "--json")
    assert code == 0
    kinds = json.loads(out)["changes"]["kinds"]
    assert {kind: one["different"] for kind, one in kinds.items()} == {"email": 1, "phone": 1, "customer": 1, "name": 2}
    versions = json.loads(run("datasets", "versions", "tickets", "--json")[1])
    assert [one["made"] for one in versions] == ["anonymise", "add"]
    code, _, err = run("datasets", "anonymise", "tickets")
    assert (code, "Nothing was found" in err) == (0, True)


def test_a_preview_of_a_folder_names_its_files(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Output, "width", 60)
    folder = tmp_path / "letters"
    folder.mkdir()
    for number in (1, 2):
        text = f"Letter {number} has come. Whoever has a question writes to office{number}@example.org at any time."
        (folder / f"letter{number}.txt").write_text(text + "\n")
    assert run("datasets", "add", str(folder), "--consent")[0] == 0
    _, out, _ = run("datasets", "anonymise", "letters", "--preview")
    assert "e-mail addresses  in 2 rows (letter1.txt, " in out
    assert "\nletter2.txt, " in out
    assert all(len(line) <= 60 for line in out.splitlines()), out


def test_what_cannot_be_done_is_refused_with_the_way_on(run: Run, tmp_path: Path) -> None:
    run("datasets", "add", str(tickets(tmp_path)), "--consent")
    assert run("datasets", "anonymise", "tickets", "--pattern", "nothing")[0] == 2
    assert run("datasets", "anonymise", "tickets", "--pattern", "X=(")[0] == 2
    assert run("datasets", "anonymise", "tickets", "--list", str(tmp_path / "none.txt"))[0] == 5
    code, _, err = run("datasets", "anonymise", "tickets", "--column", "buyer=NAME")
    assert (code, "no column buyer" in err) == (2, True)
    assert run("datasets", "anonymise", "none")[0] == 5


def test_train_asks_for_personal_data_and_refuses_without_a_terminal(
    run: Run, daemon: ThreadedDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.client.add_model(make_tiny_llama(tmp_path / "tiny"))
    run("datasets", "add", str(tickets(tmp_path)), "--consent")
    train = ("train", "tiny", "tickets", "--preset", "quick_test")
    code, out, _ = run(*train, "--dry-run")
    assert (code, "e-mail addresses in 1 row" in " ".join(out.split())) == (0, True)
    code, _, err = run(*train)
    assert (code, "--accept-personal-data" in " ".join(err.split())) == (6, True)

    answers: list[str] = []

    def answer(given: str) -> None:
        monkeypatch.setattr("btmctl.session.Session.can_ask", property(lambda self: True))
        monkeypatch.setattr("btmctl.session.Session.ask", lambda self, question: answers.append(question) or given)

    answer("n")
    assert run(*train)[0] == 6
    assert "as it is" in answers[-1]
    assert accepted(daemon) == []
    answer("y")
    code, out, _ = run(*train)
    assert code == 0
    daemon.client.post(f"/cancel/{out.split()[0]}").ok()
    code, out, _ = run(*train, "--accept-personal-data")
    assert code == 0
    daemon.client.post(f"/cancel/{out.split()[0]}").ok()
    assert [one["data"]["kinds"] for one in accepted(daemon)] == [{"email": 1, "phone": 1}] * 2
    assert "personal data accepted: tickets" in run("audit", "log")[1]


def accepted(daemon: ThreadedDaemon) -> list[dict[str, Any]]:
    return [one for one in daemon.client.events() if one["type"] == "PersonalDataAccepted"]
