"""btmctl: find the command's module, parse, run, and turn whatever goes wrong into three lines and an exit code."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from btmctl.errors import DONE, FAILED, INTERRUPTED, CommandError, UsageError
from btmctl.output import Output
from btmd import __version__

# One line a command, so that the overview needs none of the modules.
COMMANDS = {
    "quickstart": "train the demo model on the demo data, show answers before and after",
    "status": "is everything well, and what is running",
    "hardware": "this machine, and what it is good for",
    "train": "train a model on a dataset",
    "plan": "what a training would do, and why",
    "jobs": "list, watch, pause, resume, cancel trainings; results and logs",
    "queue": "who trains, who waits and for what; hold, release, move",
    "chat": "talk to a trained model, and to the one it came from",
    "models": "models on this machine",
    "datasets": "data to train on",
    "consent": "who allowed what with which dataset",
    "presets": "ready-made sets of training values",
    "config": "settings of the daemon",
    "access": "who may use the daemon, and as what",
    "restore": "bring an earlier state back, whole or in parts",
    "backup": "make, check, prove and delete backups",
    "reset": "back to the defaults, with or without user data; can be undone",
    "recover": "rebuild a lost or damaged database from backups",
    "audit": "is the log the one that was written, and who did what",
    "disk": "what takes room, and making some",
    "events": "everything that happened, as it was recorded",
    "notify": "be told of your trainings on the desktop or by speech",
    "daemon": "run the daemon, make it a service, or see how it is doing",
    "completion": "let bash or zsh complete commands, options, names and ids",
    "version": "versions of btmctl and of the daemon",
    "doctor": "is the installation well, and what to do where it is not",
    "help": "what a command does, or what to do about an error's code",
}
OTHER_WORDS = {
    **dict.fromkeys(("settings", "setting", "set", "get", "configure"), "config"),
    **dict.fromkeys(("data", "dataset", "add", "import"), "datasets"),
    **dict.fromkeys(("job", "watch", "result", "results", "stop", "cancel", "pause", "resume", "export"), "jobs"),
    **dict.fromkeys(("log", "logs", "history"), "events"),
    **dict.fromkeys(("users", "user", "roles", "share"), "access"),
    **dict.fromkeys(("install", "uninstall", "start", "restart", "run"), "daemon"),
    **dict.fromkeys(("finetune", "fine-tune", "tune", "learn"), "train"),
    **dict.fromkeys(("model", "download", "pull"), "models"),
    **dict.fromkeys(("ask", "talk", "generate", "infer"), "chat"),
    **dict.fromkeys(("undo", "rollback", "revert"), "restore"),
}
"""What people type for a command, by what it is called here."""
_WITH_VALUE = "--socket"
_FLAGS = ("--json", "--yes", "--debug")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["__complete"]:
        # A shell asks, with every press of Tab; it is told names or nothing.
        from btmctl.completion_names import answer

        return answer(given[1:], os.environ)
    output = Output(as_json="--json" in given)
    try:
        return _run(given, output)
    except CommandError as error:
        output.problem(error.what, error.why, error.hint or _way_on(error.code))
        if output.as_json:
            output.json_line(error.as_document())
        if "--debug" in given:
            raise
        return error.exit_code
    except KeyboardInterrupt:
        output.end_progress()
        output.say("Interrupted.")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); point it away, or the interpreter complains while closing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        if "--debug" in given:
            raise
        failure = CommandError(
            "btmctl itself failed.",
            f"{type(error).__name__}: {error}",
            "Run it again with --debug to see where.",
            code="internal_error",
            exit_code=FAILED,
        )
        output.problem(failure.what, failure.why, failure.hint)
        if output.as_json:
            output.json_line(failure.as_document())
        return failure.exit_code


def _way_on(code: str) -> str:
    """For an error that names no command: the one that has steps. Who just answered no needs none."""
    return "" if code == "declined" else f"btmctl help {code}"


def _run(given: list[str], output: Output) -> int:
    before, name, after = _split(given)
    if name is None:
        if "--version" in before:
            name, after = "version", []
        elif set(before) <= {"-h", "--help", *_FLAGS}:
            _overview(output)
            return DONE
        else:
            raise UsageError("No command was given.", "", "btmctl --help")
    if name not in COMMANDS:
        from btmctl.parser import nearest

        meant = OTHER_WORDS.get(name.lower())
        raise UsageError(
            f"btmctl does not know {name!r}.",
            f"It knows: {', '.join(COMMANDS)}.",
            f"btmctl {meant} --help" if meant else nearest(name, COMMANDS, "btmctl ") or "btmctl --help",
        )
    command: Any = importlib.import_module(f"btmctl.commands.{name}").command()
    options = argparse.Namespace(json=False, yes=False, socket=None, debug=False)
    try:
        parsed = command.parse(_with_options(after, before), options)
    except SystemExit as left:
        # argparse leaves like this after printing a help.
        return int(left.code or 0)
    from btmctl.session import Session

    session = Session(output, socket=parsed.socket, yes=parsed.yes)
    try:
        return int(parsed.run(parsed, session))
    finally:
        if session.daemon_version not in ("", __version__):
            from btmctl.skew import told_of_skew

            output.say(told_of_skew(session.daemon_version), "yellow")


def _split(given: list[str]) -> tuple[list[str], str | None, list[str]]:
    """The options that stand everywhere, wherever they stood; the command; and what follows it."""
    everywhere: list[str] = []
    others: list[str] = []
    words = iter(given)
    for word in words:
        if word == "--":
            others += [word, *words]
        elif word in _FLAGS or word.startswith(_WITH_VALUE + "="):
            everywhere.append(word)
        elif word == _WITH_VALUE:
            everywhere += [word, *([value] if (value := next(words, None)) is not None else [])]
        else:
            others.append(word)
    if others and not others[0].startswith("-"):
        return everywhere, others[0], others[1:]
    return [*everywhere, *others], None, []


def _with_options(after: list[str], everywhere: list[str]) -> list[str]:
    at = after.index("--") if "--" in after else len(after)
    return [*after[:at], *everywhere, *after[at:]]


def _overview(output: Output) -> None:
    output.line("usage: btmctl COMMAND [OPTIONS]", "bold")
    output.line()
    output.table(("command", "what it does"), list(COMMANDS.items()))
    output.line()
    output.line("Everywhere: --json, --yes, --socket PATH, --debug.")
    output.line("btmctl COMMAND --help shows its options and examples; btmctl help CODE what to do about an error.")


if __name__ == "__main__":
    sys.exit(main())
