"""btmctl queue: the trainings that wait, in the order of their turns."""

import argparse

from btmctl.client import Document
from btmctl.errors import DONE, UsageError
from btmctl.output import Output
from btmctl.parser import Noun
from btmctl.session import Session

WHICH = "id, beginning of an id, name, or last"


def command() -> Noun:
    noun = Noun(
        "queue",
        "Trainings wait here for their turn: interrupted ones first, then by priority, then in the order in which they "
        "were submitted. Those on different devices run side by side.",
    )
    noun.verb(
        "list",
        show,
        "List who trains and who waits, first in line first, and what each waits for.",
        ["btmctl queue list", "btmctl queue list --json"],
    )
    verb = noun.verb(
        "hold", hold, "Keep a waiting training from starting; it keeps its place.", ["btmctl queue hold J"]
    )
    verb.add_argument("job", metavar="J", help=WHICH)
    verb = noun.verb(
        "release", release, "Let a held training start when it is its turn.", ["btmctl queue release last"]
    )
    verb.add_argument("job", metavar="J", help=WHICH)
    verb = noun.verb(
        "move",
        move,
        "Put a waiting training elsewhere in line. It takes the priority of where it stands then.",
        ["btmctl queue move last --before k3q7zv2m5a", "btmctl queue move last --first"],
    )
    verb.add_argument("job", metavar="J", help=WHICH)
    where = verb.add_mutually_exclusive_group()
    where.add_argument("--before", metavar="K", help="right before this one")
    where.add_argument("--first", action="store_true", help="before all that wait")
    where.add_argument("--last", action="store_true", help="behind all that wait")
    return noun


def show(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    found = session.client.get("/queue")
    if output.as_json:
        output.document(found)
        return DONE
    running, waiting = found["running"], found["waiting"]
    if running:
        output.line("At work", "bold")
        output.table(
            ("job", "name", "state", "on", "model", "dataset"),
            [
                (one["job_id"], one["name"], one["state"], _device(one), one["model_id"], one["dataset_id"])
                for one in running
            ],
        )
    if not waiting:
        output.say("No training waits.")
        return DONE
    if running:
        output.line()
    _waiting(waiting, output)
    return DONE


def _waiting(waiting: list[Document], output: Output) -> None:
    output.line("Waiting", "bold")
    output.table(
        ("place", "job", "name", "priority", "why it waits"),
        [
            (one["position"], one["job_id"], one["name"], one["priority"], one["waits_for"] or "It starts now.")
            for one in waiting
        ],
        wrap=True,
    )


def _device(one: Document) -> str:
    device = str(one["device"])
    return f"GPU {device.removeprefix('cuda:')}" if device.startswith("cuda:") else device.upper()


def hold(arguments: argparse.Namespace, session: Session) -> int:
    return _told(session, session.client.post(f"/queue/{arguments.job}/hold"))


def release(arguments: argparse.Namespace, session: Session) -> int:
    return _told(session, session.client.post(f"/queue/{arguments.job}/release"))


def move(arguments: argparse.Namespace, session: Session) -> int:
    if arguments.before is not None:
        body: Document = {"before": arguments.before}
    elif arguments.first or arguments.last:
        body = {"to": "first" if arguments.first else "last"}
    else:
        raise UsageError(
            "Nothing says where the training goes.",
            "One of --before K, --first and --last does.",
            f"btmctl queue move {arguments.job} --first",
        )
    return _told(session, session.client.post(f"/queue/{arguments.job}/move", body))


def _told(session: Session, answer: Document) -> int:
    if session.output.as_json:
        session.output.document(answer)
    else:
        session.output.say(str(answer["message"]))
    return DONE
