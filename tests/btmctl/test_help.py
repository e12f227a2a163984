"""btmctl help: steps for every code that an error can have, made of commands that exist."""

import argparse
import ast
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

import btmctl
import btmd
from btmctl.__main__ import COMMANDS
from btmctl.commands import help as help_command
from btmctl.help_texts import GROUPS, codes, groups
from btmctl.own_installation import filled
from btmd.config import parser as btmd_parser
from btmd.monitoring.notice_texts import NOTICE_TEXTS
from btmd.trainer.failures import Reason
from tests.btmctl.conftest import Btmctl
from tests.btmctl.small_server import SmallServer

BTMD, BTMCTL = Path(btmd.__file__).parent, Path(btmctl.__file__).parent
OTHER_REASONS = {"killed", "hung", "crash_limit"}
"""Why trainings end that the trainer itself cannot tell."""
OTHER_PROGRAMS = {
    "chmod", "df", "file", "getent", "git", "head", "id", "journalctl", "loginctl", "ls", "make", "nvidia-smi",
    "ocrmypdf", "pipx", "python", "python3", "sed", "sh", "tail", "printenv", "sudo", "systemctl", "which",
}  # fmt: skip
OF_NOTICES = {"sleep_refused"}
"""What `status` says and no error does."""
LIKE_A_COMMAND = re.compile(r"`([^`]+)`")


def trees(folder: Path, holding: str) -> Iterator[ast.Module]:
    """The modules below a folder whose text holds this."""
    for path in folder.rglob("*.py"):
        text = path.read_text()
        if re.search(holding, text):
            yield ast.parse(text)


def class_values(found: ast.ClassDef) -> dict[str, str]:
    """What is assigned in a class: ``code = "x"``, or ``code, title = "x", "y"``."""
    values: dict[str, str] = {}
    for statement in found.body:
        if not isinstance(statement, (ast.Assign, ast.AnnAssign)) or statement.value is None:
            continue
        target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        given = statement.value.elts if isinstance(statement.value, ast.Tuple) else [statement.value]
        for name, value in zip(names, given, strict=False):
            if isinstance(name, ast.Name) and isinstance(value, ast.Constant) and isinstance(value.value, str):
                values[name.id] = value.value
    return values


@pytest.fixture(scope="module")
def server_codes() -> dict[str, str]:
    """The title of every error of the daemon's own tree, wherever in it the class stands, by its code."""
    classes: dict[str, tuple[set[str], dict[str, str]]] = {}
    for tree in trees(BTMD, r"(?m)^ +code\b[\w, :\[\]]*= "):
        for one in ast.walk(tree):
            if isinstance(one, ast.ClassDef):
                bases = {base.id for base in one.bases if isinstance(base, ast.Name)}
                classes[one.name] = (bases, class_values(one))
    ours = {"BtmdError"}
    while more := {name for name, (bases, _) in classes.items() if bases & ours} - ours:
        ours |= more
    found: dict[str, str] = {}
    for name in ours:
        values = classes[name][1]
        if "code" in values:
            found[values["code"]] = values.get("title", "")
    assert len(found) > 90
    return found


@pytest.fixture(scope="module")
def other_server_codes() -> set[str]:
    """Codes of answers that no class stands for: those of HTTP itself, and of the door."""
    found = {"method_not_allowed"}
    for path in (BTMD / "api").glob("*.py"):
        found |= set(re.findall(r'urn:btmd:error:(\w+)"', path.read_text()))
    return found


@pytest.fixture(scope="module")
def btmctl_codes() -> set[str]:
    """Every ``code=`` of btmctl, as an argument or as a default."""
    found = set()
    for tree in trees(BTMCTL, r"\bcode\b.*=\s*\""):
        for one in ast.walk(tree):
            if isinstance(one, ast.keyword) and one.arg == "code" and isinstance(one.value, ast.Constant):
                found.add(one.value.value)
            if isinstance(one, ast.arguments):
                defaults = zip(one.kwonlyargs, one.kw_defaults, strict=True)
                found |= {d.value for a, d in defaults if a.arg == "code" and isinstance(d, ast.Constant)}
    assert {"usage", "refused", "unreachable", "no_demo_model"} <= found
    return found


def test_every_code_has_steps_and_no_steps_are_for_none(
    server_codes: dict[str, str], other_server_codes: set[str], btmctl_codes: set[str]
) -> None:
    reasons = {*get_args(Reason), *OTHER_REASONS}
    known = {*server_codes, *other_server_codes, *btmctl_codes, *reasons, *OF_NOTICES}
    assert set(codes()) == known


def test_a_code_is_called_here_as_it_is_called_where_it_comes_up(server_codes: dict[str, str]) -> None:
    texts = codes()
    assert {code: texts[code].title for code, title in server_codes.items() if title} == {
        code: title for code, title in server_codes.items() if title
    }


def test_no_code_is_told_of_twice() -> None:
    assert sum(len(group) for group in groups().values()) == len(codes())
    assert len(groups()) == len(GROUPS)


@pytest.mark.parametrize("heading", groups())
def test_every_code_has_its_sentences_and_at_least_one_command_that_helps(heading: str) -> None:
    for code, text in groups()[heading].items():
        assert text.means.endswith("."), code
        assert text.why.endswith((".", ")")), code
        assert 1 <= len(text.steps) <= 6, code
        for step in text.steps:
            assert step.count("`") % 2 == 0, step
            assert step.endswith((".", ":", ")")), step
        if code not in ("declined", "needs_answer"):
            assert any(LIKE_A_COMMAND.search(step) for step in text.steps), code


def test_every_command_in_the_steps_can_be_typed() -> None:
    steps = [filled(step) for one in codes().values() for step in one.steps]
    assert not [step for step in steps if "{" in step]
    commands = {command for step in steps for command in LIKE_A_COMMAND.findall(step)}
    assert len(commands) > 100
    for line in commands:
        program, *words = shlex.split(line)
        if program == "btmctl":
            name, *rest = words
            assert name in COMMANDS, line
            command = __import__(f"btmctl.commands.{name}", fromlist=["command"]).command()
            common = argparse.Namespace(json=False, yes=False, socket=None, debug=False)
            try:
                command.parse(rest, common)
            except SystemExit:
                assert "--help" in rest, line
        elif program == "btmd":
            btmd_parser().parse_args(words)
        else:
            assert Path(program).name in OTHER_PROGRAMS, line


def test_no_text_points_to_a_page_that_does_not_come_with_the_program() -> None:
    pointing = [
        (path.name, text)
        for folder in (BTMD, BTMCTL)
        for path in folder.rglob("*.py")
        for text in texts_of(ast.parse(path.read_text()))
        if re.search(r"\bdocs/\w+\.md", text)
    ]
    assert pointing == []
    named = {code for text in NOTICE_TEXTS.values() for code in re.findall(r"`btmctl help (\w+)`", text)}
    assert named == OF_NOTICES


def texts_of(tree: ast.Module) -> Iterator[str]:
    """All texts but those that say what the code is."""
    said = {id(one.value) for one in ast.walk(tree) if isinstance(one, ast.Expr)}
    for one in ast.walk(tree):
        if isinstance(one, ast.Constant) and isinstance(one.value, str) and id(one) not in said:
            yield one.value


def test_the_rule_for_a_machine_that_stays_awake_is_where_help_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "ada")
    [line] = [
        command
        for step in codes()["sleep_refused"].steps
        for command in LIKE_A_COMMAND.findall(filled(step))
        if command.startswith("sed ")
    ]
    done = subprocess.run(["sh", "-c", line.partition(" | ")[0]], capture_output=True, text=True, check=True)
    assert 'subject.user == "ada"' in done.stdout


def test_help_of_a_code_numbers_the_steps(btmctl: Btmctl) -> None:
    for asked in ("consent_missing", "urn:btmd:error:consent_missing", "Consent-Missing"):
        code, out, _ = btmctl("help", asked)
        assert code == 0
        assert out.startswith("consent_missing: Nobody has allowed the use of this data\n")
        assert "1. See what is allowed with each dataset: btmctl consent list\n" in out
        assert "\nWhy: " in out
    code, out, _ = btmctl("help", "consent_missing", "--json")
    found = json.loads(out)
    assert (found["code"], found["title"]) == ("consent_missing", "Nobody has allowed the use of this data")
    assert len(found["steps"]) >= 3


def test_a_mistyped_code_is_answered_with_the_nearest(btmctl: Btmctl) -> None:
    code, out, err = btmctl("help", "consent_mising")
    assert (code, out) == (5, "")
    assert "btmctl help consent_missing" in err
    assert "btmctl help jobs" in btmctl("help", "jbos")[2]
    code, out, _ = btmctl("help", "xyzzyxyzzy", "--json")
    assert (code, json.loads(out)["code"]) == (5, "not_found")


@pytest.mark.parametrize("topic", [["jobs"], ["jobs", "list"], ["status"], ["help"]])
def test_help_of_a_command_is_the_commands_own(btmctl: Btmctl, topic: list[str]) -> None:
    assert btmctl("help", *topic) == btmctl(*topic, "--help")
    found = json.loads(btmctl("help", *topic, "--json")[1])
    assert found == {"command": " ".join(["btmctl", *topic]), "help": btmctl(*topic, "--help")[1]}


def test_a_wrong_verb_is_told_as_where_it_is_typed(btmctl: Btmctl) -> None:
    assert btmctl("help", "jobs", "lst") == btmctl("jobs", "lst", "--help")


def test_help_alone_lists_commands_and_codes(btmctl: Btmctl) -> None:
    code, out, _ = btmctl("help")
    assert code == 0
    for text in (*COMMANDS, *codes(), *GROUPS.values()):
        assert text in out, text
    found = json.loads(btmctl("help", "--json")[1])
    assert set(found) == {"commands", "codes"}
    assert found["commands"] == COMMANDS
    assert {code for group in found["codes"].values() for code in group} == set(codes())


def test_an_error_without_a_hint_leads_to_its_steps(btmctl: Btmctl, server: SmallServer) -> None:
    problem = {"title": "The disk is full", "detail": "No room.", "code": "disk_full", "hint": ""}
    server.answers("GET", "/jobs", problem, 503)
    code, _, err = btmctl("jobs", "list")
    assert code == 6
    assert err.splitlines()[-1] == "  try: btmctl help disk_full"
    server.answers("GET", "/jobs", {**problem, "hint": "`btmctl disk`"}, 503)
    assert "btmctl help" not in btmctl("jobs", "list")[2]


def test_the_texts_are_read_only_when_help_is_asked_for(server: SmallServer) -> None:
    server.answers("GET", "/jobs", [])
    program = (
        "import sys; from btmctl.__main__ import main; code = main(sys.argv[1:]);"
        "print([name for name in sys.modules if 'help' in name or 'doctor' in name]); sys.exit(code)"
    )
    line = [sys.executable, "-c", program, "jobs", "list", "--json", "--socket", server.socket_path]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
    assert help_command.LEGEND
