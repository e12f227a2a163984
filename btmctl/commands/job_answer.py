"""btmctl jobs answer: what a training asks."""

import argparse

from btmctl.errors import DONE
from btmctl.parser import Noun
from btmctl.session import Session

WHICH = "id, beginning of an id, name, or last"


def add_verbs(noun: Noun) -> None:
    verb = noun.verb(
        "answer",
        answer,
        "Permit what a training asks, or not. With no it ends and keeps its best checkpoint.",
        ["btmctl jobs answer last yes", "btmctl jobs list --state needs_attention"],
    )
    verb.add_argument("job", metavar="J", help=WHICH)
    verb.add_argument("answer", choices=("yes", "no"), help="whether it may do what it asks")


def answer(arguments: argparse.Namespace, session: Session) -> int:
    told = session.client.post(f"/jobs/{arguments.job}/answer", {"yes": arguments.answer == "yes"})
    if session.output.as_json:
        session.output.document(told)
    else:
        session.output.say(str(told["message"]))
    return DONE
