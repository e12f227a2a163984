"""btmctl chat: talk to a trained model, to the one it came from, or to both side by side."""

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from btmctl.client import Document
from btmctl.commands.jobs import WHICH, job_id
from btmctl.errors import DONE, FAILED, CommandError, UsageError
from btmctl.output import Output
from btmctl.parser import Single
from btmctl.session import Session

if TYPE_CHECKING:
    from btmctl.side_by_side import SideBySide


def command() -> Single:
    single = Single(
        "chat",
        run,
        "Talks to the model a training made. Without --prompt it goes on until an empty line or Ctrl-D.",
        ["btmctl chat last", 'btmctl chat last --both --prompt "Where is the socket?"'],
    )
    add = single.parser.add_argument
    add("job", metavar="J", help=WHICH)
    which = single.parser.add_mutually_exclusive_group()
    which.add_argument("--base", action="store_true", help="the model before training")
    which.add_argument("--both", action="store_true", help="both, side by side where the terminal is wide enough")
    add("--prompt", metavar="TEXT", help="ask this and leave")
    return single


def run(arguments: argparse.Namespace, session: Session) -> int:
    which = ["base", "tuned"] if arguments.both else ["base"] if arguments.base else ["tuned"]
    job = job_id(arguments.job, session)
    prompt = arguments.prompt
    if prompt is None and not sys.stdin.isatty():
        prompt = sys.stdin.read().strip()
    if prompt is not None:
        if not prompt.strip():
            raise UsageError("There is nothing to ask.", "The prompt is empty.", 'btmctl chat last --prompt "..."')
        return _once(job, which, prompt, session)
    if session.output.as_json:
        raise UsageError("A conversation cannot be one JSON document.", "", "btmctl chat J --prompt TEXT --json")
    return _conversation(job, which, session)


def _once(job: str, which: list[str], prompt: str, session: Session) -> int:
    messages = {one: [{"role": "user", "content": prompt}] for one in which}
    answers = _ask(job, messages, session)
    if session.output.as_json:
        session.output.document({"job_id": job, "prompt": prompt, "answers": answers})
    return DONE


def _conversation(job: str, which: list[str], session: Session) -> int:
    # Each model has a conversation of its own: one must not go on from the other's answers.
    messages: dict[str, list[Document]] = {one: [] for one in which}
    session.output.say("An empty line or Ctrl-D ends it.")
    while True:
        try:
            said = input("> ").strip()
        except EOFError:
            session.output.say()
            return DONE
        if not said:
            return DONE
        for one in which:
            messages[one].append({"role": "user", "content": said})
        for one, answered in _ask(job, messages, session).items():
            messages[one].append({"role": "assistant", "content": answered})


def _ask(job: str, messages: dict[str, list[Document]], session: Session) -> dict[str, str]:
    """Every model's answer to its own conversation, shown as it comes."""
    output = session.output
    if len(messages) > 1 and not output.as_json and output.is_terminal:
        from btmctl.side_by_side import LEAST_WIDTH, SideBySide

        if output.width >= LEAST_WIDTH:
            return _beside(job, messages, session, SideBySide(output, _height()))
    answers = {}
    for one, said in messages.items():
        if len(messages) > 1 and not output.as_json:
            output.line("before" if one == "base" else "after", "bold")
        answers[one] = answer(job, one, said, session)
    return answers


def _beside(job: str, messages: dict[str, list[Document]], session: Session, shown: "SideBySide") -> dict[str, str]:
    answers = {}
    for side, (one, said) in enumerate(messages.items()):
        session.output.progress(None, "The model is thinking...")
        words = []
        for word in _tokens(job, one, said, session):
            session.output.end_progress()
            words.append(word)
            shown.add(side, word)
        session.output.end_progress()
        answers[one] = "".join(words)
    shown.end()
    return answers


def _height() -> int:
    import shutil

    return shutil.get_terminal_size((80, 24)).lines


def _tokens(job: str, which: str, messages: list[Document], session: Session) -> Iterator[str]:
    for document in session.client.stream(f"/jobs/{job}/chat", {"messages": messages, "which": which}):
        if "error" in document:
            raise _failure(document)
        if "token" in document:
            yield str(document["token"])


def answer(job: str, which: str, messages: list[Document], session: Session) -> str:
    """Ask one model and print its words as they come (not with ``--json``). Returns the whole answer."""
    output = session.output
    if not output.as_json:
        output.progress(None, "The model is thinking...")
    pieces: list[str] = []
    for piece in _tokens(job, which, messages, session):
        pieces.append(piece)
        _print(piece, output)
    output.end_progress()
    if not output.as_json:
        output.raw("\n")
    return "".join(pieces)


def _print(token: str, output: Output) -> None:
    if not output.as_json:
        output.end_progress()
        output.raw(token)


def _failure(document: Document) -> CommandError:
    problem = document["error"]
    if isinstance(problem, dict):
        from btmctl.errors import ServerRefused

        return ServerRefused(problem, int(problem.get("status") or 500))
    return CommandError("The model did not answer.", str(problem), "btmctl jobs show J", code="chat", exit_code=FAILED)
