"""btmctl chat: talk to a trained model, to the one it came from, or to both side by side."""

import argparse
import sys

from btmctl.client import Document
from btmctl.commands.jobs import WHICH, job_id
from btmctl.errors import DONE, FAILED, CommandError, UsageError
from btmctl.output import Output
from btmctl.parser import Single
from btmctl.session import Session


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
    which.add_argument("--both", action="store_true", help="both, one after the other")
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
    output = session.output
    answers: Document = {}
    for one in which:
        if len(which) > 1 and not output.as_json:
            output.line("before" if one == "base" else "after", "bold")
        answers[one] = answer(job, one, [{"role": "user", "content": prompt}], session)
    if output.as_json:
        output.document({"job_id": job, "prompt": prompt, "answers": answers})
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
            if len(which) > 1:
                session.output.line("before" if one == "base" else "after", "bold")
            messages[one].append({"role": "user", "content": said})
            messages[one].append({"role": "assistant", "content": answer(job, one, messages[one], session)})


def answer(job: str, which: str, messages: list[Document], session: Session) -> str:
    """Ask one model and print its words as they come (not with ``--json``). Returns the whole answer."""
    output = session.output
    if not output.as_json:
        output.progress(None, "The model is thinking...")
    pieces: list[str] = []
    for document in session.client.stream(f"/jobs/{job}/chat", {"messages": messages, "which": which}):
        if "error" in document:
            raise _failure(document)
        if "token" in document:
            pieces.append(str(document["token"]))
            _print(pieces[-1], output)
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
