"""What holds for every command: three lines on errors, exit codes, nothing but JSON on standard output."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from btmctl.__main__ import COMMANDS, OTHER_WORDS, main
from btmctl.output import Output
from btmctl.training import amount
from btmd.domain.units import format_bytes
from tests.btmctl.conftest import Btmctl
from tests.btmctl.small_server import Request, SmallServer, chunked, reply

HEAVY = ("rich", "torch", "transformers", "fastapi", "sqlmodel", "anyio", "msgspec", "pydantic", "http", "asyncio")


def test_a_missing_daemon_is_told_in_three_lines_with_exit_code_3(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BTMD_SOCKET", "/nonexistent/btmd.sock")
    assert main(["status"]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [line.split(":")[0].strip() for line in captured.err.splitlines()] == ["error", "why", "try"]
    assert "/nonexistent/btmd.sock" in captured.err


def test_a_named_socket_is_the_only_one_tried(capsys: pytest.CaptureFixture[str], server: SmallServer) -> None:
    server.answers("GET", "/status", {"status": "operational"})
    assert main(["status", "--socket", "/nonexistent/btmd.sock"]) == 3
    assert server.seen == []


@pytest.mark.parametrize(
    ("line", "helps"),
    [
        (["jbos"], "btmctl jobs"),
        (["settings", "set", "a=b"], "btmctl config --help"),
        (["Stop"], "btmctl jobs --help"),
        (["jobs", "lst"], "btmctl jobs list"),
        (["jobs"], "btmctl jobs --help"),
        (["train", "only-a-model"], "btmctl train --help"),
        (["jobs", "list", "--nonsense"], "btmctl jobs list --help"),
        (["--nonsense"], "btmctl --help"),
        (["config", "set", "seed"], "key=value"),
        (["train", "m", "d", "--set", "epochs"], "key=value"),
        (["events", "--since", "someday"], "RFC 3339"),
        (["jobs", "show", ""], "btmctl jobs list"),
        (["jobs", "cancel", ""], "btmctl jobs list"),
        (["jobs", "result", ""], "btmctl jobs list"),
        (["models", "show", ""], "btmctl models list"),
    ],
)
def test_wrong_usage_is_exit_code_2_with_the_command_that_helps(btmctl: Btmctl, line: list[str], helps: str) -> None:
    code, out, err = btmctl(*line)
    assert code == 2
    assert out == ""
    assert helps in err
    assert len(err.splitlines()) <= 3


def test_other_words_lead_to_commands_that_there_are() -> None:
    assert set(OTHER_WORDS.values()) <= set(COMMANDS)
    assert not set(OTHER_WORDS) & set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_with_examples(btmctl: Btmctl, name: str) -> None:
    code, out, err = btmctl(name, "--help")
    assert code == 0
    assert err == ""
    verbs = re.findall(r"^    (\w+)", out.partition("commands:")[2], re.MULTILINE)
    for verb in [verb for verb in verbs if verb != "COMMAND"]:
        code, help_text, _ = btmctl(name, verb, "--help")
        assert code == 0
        assert f"btmctl {name} {verb}" in help_text
        assert "examples:" in help_text
    assert "examples:" in out or verbs


def test_an_empty_list_says_where_the_quickstarts_trainings_are(
    btmctl: Btmctl, server: SmallServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers("GET", "/jobs", [])
    assert "quickstart" not in btmctl("jobs", "list")[2]
    monkeypatch.setattr("btmctl.private_daemon.has_state", lambda environment: True)
    assert "daemon of its own" in btmctl("jobs", "list")[2]
    assert "fits" in btmctl("jobs", "list", "--state", "failed", "--since", "yesterday")[2]


def test_common_options_stand_before_or_after_the_command(btmctl: Btmctl, server: SmallServer) -> None:
    server.answers("GET", "/jobs", [])
    for line in (["--json", "jobs", "list"], ["jobs", "--json", "list"], ["jobs", "list", "--json"]):
        code, out, _ = btmctl(*line)
        assert (code, json.loads(out)) == (0, [])


def test_a_refusal_as_json_is_the_problem_document(btmctl: Btmctl, server: SmallServer) -> None:
    problem = {
        "type": "urn:btmd:error:job_not_found",
        "title": "There is no such job",
        "status": 404,
        "detail": "There is no job x.",
        "code": "job_not_found",
        "hint": "`btmctl jobs list`",
    }
    server.answers("GET", "/jobs/x", problem, 404)
    code, out, err = btmctl("jobs", "show", "x", "--json")
    assert code == 5
    assert json.loads(out) == problem
    assert "There is no job x." in err


def test_what_could_steer_a_terminal_is_made_visible(btmctl: Btmctl, server: SmallServer) -> None:
    model = {"model_id": "m", "name": "m", "source": "/x/\x1b]0;owned\x07\x1b[2J", "facts": {}}
    server.answers("GET", "/models", [model])
    code, out, _ = btmctl("models", "list")
    assert code == 0
    assert "\x1b" not in out
    assert "\\x1b]0;owned" in out


def test_names_of_others_steer_no_terminal_wherever_they_stand() -> None:
    out, err = Terminal(), Terminal()
    output = Output(stdout=out, stderr=err, environment={"NO_COLOR": "1", "TERM": "dumb"})
    name = "an\x1b[2J\x9b1A\u202ename"
    output.table(("what", name), [("loss", name)])
    output.fields([(name, name)])
    output.line(name)
    output.paragraph(name)
    output.raw(name + "\n")
    output.say(name)
    output.question(name)
    output.problem(name, name, name)
    for shown in (out.getvalue(), err.getvalue()):
        assert all(letter == "\n" or letter.isprintable() for letter in shown)
    assert out.getvalue().count("an\\x1b[2J\\x9b1A\\x202ename") == 7


def test_an_error_of_our_own_is_no_traceback(btmctl: Btmctl, server: SmallServer) -> None:
    server.answers("GET", "/jobs", [{"unexpected": 1}])
    code, _, err = btmctl("jobs", "list")
    assert code == 1
    assert "Traceback" not in err
    assert "--debug" in err
    with pytest.raises(KeyError):
        btmctl("jobs", "list", "--debug")
    server.answers("GET", "/jobs/x", ["not a job"])
    code, out, err = btmctl("jobs", "result", "x", "--json")
    assert (code, json.loads(out)["code"]) == (1, "internal_error")
    assert "Traceback" not in err


def test_a_reader_that_leaves_early_is_no_error(server: SmallServer) -> None:
    lines = [b"x" * 1000 + b"\n"] * 2000
    server.does("GET", "/jobs/last/logs", lambda request: chunked(request, lines, media_type="text/plain"))
    command = f"{sys.executable} -m btmctl jobs logs last --socket {server.socket_path} | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "x" * 1000 + "\n"


def test_status_imports_nothing_heavy(server: SmallServer) -> None:
    server.answers("GET", "/status", {"status": "operational", "hardware": {"available_memory_gb": 1.0}})
    program = (
        "import sys; from btmctl.__main__ import main; code = main(sys.argv[1:]);"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "status", "--socket", server.socket_path],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr.strip()) == (0, "[]")


def test_status_names_the_daemon_it_reached(btmctl: Btmctl, server: SmallServer) -> None:
    server.answers("GET", "/status", {"status": "operational", "hardware": {"available_memory_gb": 1.0}})
    _, out, _ = btmctl("status")
    assert server.socket_path in out
    _, out, _ = btmctl("status", "--json")
    assert json.loads(out)["socket"] == server.socket_path


def test_events_are_followed_across_a_lost_connection(server: SmallServer, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[str] = []

    def event(seq: int) -> bytes:
        document = {"seq": seq, "type": "T", "stream": "s", "recorded_at": "2026-11-22T14:00:00Z", "data": {}}
        return b"id: %d\ndata: %s\n\n" % (seq, json.dumps(document).encode())

    def route(request: Request) -> None:
        asked.append(request.query["after"][0])
        match len(asked):
            case 1 | 4:
                chunked(request, [event(len(asked))], media_type="text/event-stream", complete=False)
            case 2:
                # Gone once more, before it said anything.
                return
            case 3:
                problem = {
                    "title": "The event log cannot be written",
                    "detail": "It is closed.",
                    "code": "store_failed",
                }
                reply(request, problem, 503)
            case _:
                raise SystemExit

    server.does("GET", "/events", route)
    program = subprocess.Popen(
        [sys.executable, "-m", "btmctl", "events", "--follow", "--json", "--socket", server.socket_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    seen = [json.loads(program.stdout.readline())["seq"] for _ in range(2)]
    program.send_signal(2)
    program.communicate(timeout=30)
    assert seen == [1, 4]
    assert asked[:4] == ["0", "1", "1", "1"]
    assert program.returncode == 130


def test_events_of_a_kind_that_there_are_none_of_are_not_passed_over_in_silence(
    btmctl: Btmctl, server: SmallServer
) -> None:
    server.answers("GET", "/events", [])
    code, out, err = btmctl("events", "--type", "SettingChagned", "--json")
    assert (code, out) == (0, "")
    assert "No event was recorded that fits." in err


def test_the_quickstart_folder_is_only_looked_at_when_no_socket_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from btmctl import places

    environment = {"XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "/r"}
    assert places.candidates(None, environment) == [
        "/r/btmd/btmd.sock",
        "/s/btmd/btmd.sock",
        "/run/btmd/btmd.sock",
        "/r/btmd-quickstart/btmd.sock",
    ]
    assert places.candidates("/named", environment) == ["/named"]
    assert places.candidates(None, {**environment, "BTMD_SOCKET": "/env"}) == ["/env"]
    assert places.candidates("/named", {**environment, "BTMD_SOCKET": "/env"}) == ["/named"]
    assert places.candidates(None, {**environment, "BTMD_STATE_DIR": "/own"})[0] == "/own/btmd.sock"


class Terminal(io.StringIO):
    """Takes what is written, and says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_long_texts_are_broken_between_words_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    out, err = Terminal(), Terminal()
    output = Output(stdout=out, stderr=err, environment={"NO_COLOR": "1"})
    output.fields([("for", "A preset that shows quickly whether model and data suit each other."), ("path", "/" * 60)])
    output.problem("It cannot be done.", "The answer to this is longer than a line of the terminal.", "")
    assert out.getvalue().splitlines() == [
        "for   A preset that shows quickly",
        "      whether model and data suit each",
        "      other.",
        "path  " + "/" * 60,
    ]
    assert err.getvalue().splitlines()[1:] == [
        "  why: The answer to this is longer than",
        "       a line of the terminal.",
    ]


def test_values_stand_below_their_names_where_nothing_fits_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    out = Terminal()
    output = Output(stdout=out, stderr=Terminal(), environment={"NO_COLOR": "1"})
    output.fields([("rows that say something that is new", "95.7 (costs 4.1 points)")])
    assert out.getvalue().splitlines() == ["rows that say something that is new", "  95.7 (costs 4.1 points)"]


def test_a_hint_about_values_shows_the_command_that_was_typed(btmctl: Btmctl, server: SmallServer) -> None:
    assert "try: btmctl config set training.seed=7" in btmctl("config", "set", "seed")[2]
    assert "--limit: 'many' is no number." in btmctl("jobs", "list", "--limit", "many")[2]


def test_nobody_is_asked_about_a_dataset_that_is_not_there(btmctl: Btmctl, server: SmallServer) -> None:
    assert btmctl("consent", "revoke", "nothing")[0] == 5


def test_what_a_job_took_is_told_in_the_units_of_its_forecast() -> None:
    for size_bytes in (2048, 900 * 1024**2, 1.4 * 1024**3, 12.6 * 1024**3):
        assert amount(size_bytes) == format_bytes(size_bytes)


def test_json_at_a_terminal_steers_it_no_more_than_text_does() -> None:
    named = {"name": "an\x9b2Jescape\u202e \U0001f41d"}
    seen, piped = Terminal(), io.StringIO()
    for out in (seen, piped):
        output = Output(environment={}, stdout=out, stderr=io.StringIO())
        output.document(named)
        output.json_line(named)
    assert all(letter == "\n" or letter.isprintable() for letter in seen.getvalue())
    assert json.loads(seen.getvalue().splitlines()[-1]) == named
    assert "\x9b2J" in piped.getvalue()
