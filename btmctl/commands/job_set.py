"""btmctl jobs set: what can be changed of a training that was submitted."""

import argparse

from btmctl import words
from btmctl.errors import DONE, UsageError
from btmctl.parser import Noun
from btmctl.session import Session

EXAMPLE = "btmctl jobs set last priority=5"


def add_verbs(noun: Noun) -> None:
    verb = noun.verb(
        "set",
        change,
        "Change a training's priority: of those that wait, higher ones go first. What it trains with is fixed.",
        [EXAMPLE],
    )
    verb.add_argument("job", metavar="J", help="id, beginning of an id, name, or last")
    verb.add_argument("values", nargs="+", metavar="K=V", help="priority=N, a whole number from -100 to 100")


def change(arguments: argparse.Namespace, session: Session) -> int:
    values = words.pairs(arguments.values, "jobs set", EXAMPLE)
    unknown = next((key for key in values if key != "priority"), None)
    if unknown is not None:
        raise UsageError(
            f"{unknown} of a submitted training cannot be changed.",
            "Only its priority can; its plan is fixed.",
            EXAMPLE,
        )
    answer = session.client.patch(f"/jobs/{arguments.job}", values)
    if session.output.as_json:
        session.output.document(answer)
    else:
        session.output.say(str(answer["message"]))
    return DONE
