"""btmctl config, restore and audit against a real daemon."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from btmctl.__main__ import main
from btmctl.session import Session
from tests.fixtures.daemon import ThreadedDaemon, config_of, rows
from tests.fixtures.short_folder import short_folder

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def daemon() -> Iterator[ThreadedDaemon]:
    with short_folder() as folder, ThreadedDaemon(config_of(folder)) as running:
        yield running


@pytest.fixture
def run(daemon: ThreadedDaemon, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--socket", str(daemon.config.socket_path)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def value(run: Run, key: str, *more: str) -> object:
    code, out, _ = run("config", "list", "--json", *more)
    assert code == 0
    return {one["key"]: one["value"] for one in json.loads(out)}[key]


def test_a_change_is_seen_undone_and_unset(run: Run) -> None:
    assert run("config", "set", "training.seed=7", "checkpoints.keep=3", "--why", "a trial")[0] == 0
    assert run("config", "set", "training.seed=8")[0] == 0
    code, out, _ = run("config", "history", "training.seed")
    assert code == 0
    assert "training.seed: 7 -> 8" in out
    assert "training.seed: default -> 7" in out
    assert '"a trial"' in out
    assert run("config", "diff", "--from", "0")[1].splitlines() == [
        "checkpoints.keep: default -> 3",
        "training.seed: default -> 8",
    ]
    assert "training.seed" in run("config", "blame", "training.seed")[1]
    code, _, err = run("config", "undo")
    assert (code, "training.seed is now 7." in err) == (0, True)
    assert value(run, "training.seed") == 7
    assert run("config", "unset", "training.seed", "checkpoints.keep")[0] == 0
    assert run("config", "diff")[2] == "Nothing differs.\n"
    assert value(run, "training.seed", "--at", "now") == 42


def test_an_old_state_is_looked_at_by_number(run: Run) -> None:
    number = json.loads(run("config", "set", "training.seed=5", "--json")[1])["number"]
    run("config", "unset", "training.seed")
    assert value(run, "training.seed", "--at", str(number)) == 5
    assert run("config", "diff", "--from", str(number), "--to", "now")[1] == "training.seed: 5 -> default\n"


@pytest.mark.parametrize(
    ("arguments", "code", "helps"),
    [
        (("config", "diff", "--from", "someday"), 2, "2 hours ago"),
        (("config", "list", "--at", "3 years hence"), 2, "2 hours ago"),
        (("config", "diff", "--to", "2099-01-01"), 2, "now"),
        (("config", "history", "training.sed"), 2, "training.seed"),
        (("config", "unset", "training.sed"), 2, "training.seed"),
        (("config", "undo", "999999"), 5, "btmctl config history"),
    ],
)
def test_refusals_say_what_helps(run: Run, arguments: tuple[str, ...], code: int, helps: str) -> None:
    found, out, err = run(*arguments)
    assert (found, out) == (code, "")
    assert helps in err


def test_the_schema_lists_every_setting(run: Run) -> None:
    found = json.loads(run("config", "schema", "--json")[1])
    assert {"key", "type", "default", "unit", "minimum", "maximum", "meaning", "needs_restart"} <= set(found[0])
    assert "training.seed" in run("config", "schema")[1]


def test_a_restore_shows_what_it_would_do_and_is_taken_back(run: Run) -> None:
    then = json.loads(run("config", "set", "training.seed=70", "--json")[1])["number"]
    run("config", "set", "training.seed=71")
    code, out, err = run("restore", "--seq", str(then), "--dry-run")
    assert (code, out) == (0, "settings: training.seed: 71 -> 70\n")
    assert f"--seq {then} --expect" in err
    code, out, err = run("restore", "--seq", str(then), "--only", "settings")
    assert (code, "--yes" in err) == (6, True)
    assert value(run, "training.seed") == 71
    code, out, err = run("restore", "--seq", str(then), "--yes")
    assert code == 0
    assert value(run, "training.seed") == 70
    undo = taking_back(err)
    assert json.loads(run(*undo, "--yes", "--json")[1])["changes"][0]["after"] == 71
    assert value(run, "training.seed") == 71


def taking_back(printed: str) -> list[str]:
    """The command that a restore printed, without the program's name."""
    line = next(line for line in printed.splitlines() if line.endswith(" takes it back."))
    return line.removesuffix(" takes it back.").split()[1:]


def test_consent_that_was_brought_back_goes_again_by_the_printed_command_and_nothing_else_does(
    run: Run, daemon: ThreadedDaemon
) -> None:
    client = daemon.client
    client.add_dataset(rows(20), "agreed")
    then = client.events()[-1]["seq"]
    client.send("DELETE", "/consents/agreed").ok()
    run("config", "set", "training.seed=77")
    code, _, err = run("restore", "--seq", str(then), "--only", "consent", "--yes")
    assert (code, client.get("/datasets/agreed").ok()["scopes"]) == (0, ["train", "backup"])
    run("config", "set", "training.seed=78")
    assert run(*taking_back(err), "--yes")[0] == 0
    assert (client.get("/datasets/agreed").ok()["scopes"], value(run, "training.seed")) == ([], 78)


def test_the_command_that_a_preview_names_does_what_it_showed(run: Run) -> None:
    then = json.loads(run("config", "set", "training.seed=60", "--json")[1])["number"]
    run("config", "set", "training.seed=61")
    asked = ("restore", "--seq", str(then), "--only", "settings", "--mode", "merge")
    assert "--prefer current keeps" in run(*asked, "--dry-run")[2]
    printed = run(*asked, "--prefer", "restored", "--dry-run")[2].splitlines()[-1]
    assert run(*printed.removesuffix(" does it.").split()[1:])[0] == 0
    assert value(run, "training.seed") == 60
    asked = ("restore", "--at", "now")
    assert "does it" not in run(*asked, "--dry-run")[2]
    assert "Nothing was changed" in run(*asked)[2]


@pytest.mark.parametrize(
    "arguments",
    [
        ("restore", "--seq", "-1"),
        # A variable of a script that is empty does not mean everything.
        ("restore", "--seq", "0", "--only", "", "--yes"),
        ("restore", "--seq", "0", "--expect", "x"),
        ("config", "undo", "0"),
        ("config", "confirm", "0"),
        ("restore", "--seq", "9" * 30),
        ("restore", "--seq", "9" * 5000),
        ("restore", "--backup", ""),
        ("config", "set", "training.seed=1", "--confirm", "0s"),
        ("config", "set", "training.seed=1", "--confirm", "8d"),
        ("config", "set", "training.seed=1", "--confirm", "9" * 5000 + "d"),
    ],
)
def test_impossible_numbers_are_refused_in_words_for_the_command_line(run: Run, arguments: tuple[str, ...]) -> None:
    code, _, err = run(*arguments)
    assert (code, "openapi" in err) == (2, False)


def test_a_restore_is_refused_when_something_changed_since_the_preview(run: Run) -> None:
    then = json.loads(run("config", "set", "training.seed=80", "--json")[1])["number"]
    run("config", "set", "training.seed=81")
    assert run("restore", "--seq", str(then), "--expect", str(then))[0] == 6
    assert run("restore", "--seq", str(then), "--expect", str(then), "--force")[0] == 0
    assert value(run, "training.seed") == 80
    assert run("restore")[0] == 2
    assert run("restore", "--backup", "none", "--yes")[0] == 5


def test_the_audit_checks_the_log_and_says_who_did_what(run: Run) -> None:
    code, out, _ = run("audit", "verify")
    assert code == 0
    assert "as they were written" in out
    run("config", "set", "training.seed=90", "--why", "audited")
    code, out, _ = run("audit", "log", "--limit", "1")
    assert (code, '-> 90, "audited"' in out) == (0, True)
    assert json.loads(run("audit", "log", "--user", "nobody-here", "--json")[1]) == []


def test_a_change_waits_to_be_confirmed(run: Run) -> None:
    code, _, err = run("config", "set", "training.seed=95", "--confirm", "10m")
    assert (code, "btmctl config confirm" in err) == (0, True)
    assert "taken back at" in run("config", "history", "--limit", "1")[1]
    assert run("config", "confirm")[0] == 0
    assert run("config", "confirm")[0] == 6
    assert run("config", "set", "training.seed=96", "--confirm", "soon")[0] == 2
    assert value(run, "training.seed") == 95


def editor(folder: Path, *scripts: str) -> str:
    """An editor that runs the next sed script each time it is called."""
    for number, script in enumerate(scripts):
        (folder / f"script-{number}").write_text(script)
    program = folder / "editor"
    program.write_text(
        f'#!/bin/sh\ncd {folder} && next=$(ls script-* | head -1) && sed -i -f "$next" "$1" && rm "$next"\n'
    )
    program.chmod(0o700)
    return str(program)


def test_settings_are_edited_as_one_change(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("config", "set", "chat.idle_s=50", "chat.temperature=1")
    monkeypatch.setattr(Session, "can_ask", True)
    wrong, right = "s/^idle_s = .*/idle_s = -1/", "s/^idle_s = .*/idle_s = 70/;s/^temperature/# temperature/"
    monkeypatch.setenv("EDITOR", editor(tmp_path, wrong, right))
    monkeypatch.delenv("VISUAL", raising=False)
    code, _, err = run("config", "edit", "--yes", "--why", "by hand")
    assert (code, "chat.idle_s cannot be -1" in err) == (0, True)
    assert (value(run, "chat.idle_s"), value(run, "chat.temperature")) == (70, 0)
    assert json.loads(run("config", "history", "--limit", "1", "--json")[1])[0]["why"] == "by hand"
    monkeypatch.setenv("EDITOR", "false")
    assert run("config", "edit")[0] == 6
    monkeypatch.setattr(Session, "can_ask", False)
    assert run("config", "edit")[0] == 6
