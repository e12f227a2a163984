"""btmctl NOUN share and give, of jobs, datasets, models and presets: whose they are."""

import argparse
from functools import partial

from btmctl.client import Document
from btmctl.errors import DONE, Refused, UsageError
from btmctl.parser import Noun
from btmctl.session import Session

METAVARS = {"job": "J", "dataset": "D", "model": "M", "preset": "KEY"}
WHICH = {
    "job": "id, beginning of an id, name, or last",
    "dataset": "id, beginning of an id, or name",
    "model": "id, beginning of an id, or name",
    "preset": "its key",
}


def add_verbs(noun: Noun, kind: str) -> None:
    line = f"btmctl {kind}s"
    sharing = noun.verb(
        "share",
        partial(share, kind),
        "Let another user, or a group, see and use what is inside; without one, show whose it is and who sees it.",
        [f"{line} share NAME ada", f"{line} share NAME @lab", f"{line} share NAME ada --stop"],
    )
    sharing.add_argument("thing", metavar=METAVARS[kind], help=WHICH[kind])
    sharing.add_argument("subject", metavar="USER|@GROUP", nargs="?", help="a user, or a group with an @ before it")
    sharing.add_argument("--stop", action="store_true", help="end the sharing with them")
    sharing.add_argument("--why", metavar="TEXT", default="", help="the reason, kept with the change")
    giving = noun.verb(
        "give",
        partial(give, kind),
        "Make it another user's: theirs to change, share and end from then on.",
        [f"{line} give NAME ada"],
    )
    giving.add_argument("thing", metavar=METAVARS[kind], help=WHICH[kind])
    giving.add_argument("user", metavar="USER", help="whose it is from then on")
    giving.add_argument("--why", metavar="TEXT", default="", help="the reason, kept with the change")


def share(kind: str, arguments: argparse.Namespace, session: Session) -> int:
    if arguments.subject is None:
        if arguments.stop:
            raise UsageError("With whom?", "--stop needs the user or group.", f"btmctl {kind}s share NAME USER --stop")
        return _tell(session.client.get(f"/owners/{kind}", thing_id=arguments.thing), session)
    path = f"/owners/{kind}/shares"
    if arguments.stop:
        return _tell(session.client.delete(path, thing_id=arguments.thing, subject=arguments.subject), session)
    body: Document = {"thing_id": arguments.thing, "subject": arguments.subject, "why": arguments.why}
    return _tell(session.client.post(path, body), session)


def give(kind: str, arguments: argparse.Namespace, session: Session) -> int:
    question = f"The {kind} {arguments.thing} is not yours any more then. Give it to {arguments.user}?"
    if not session.confirm(question, otherwise="--yes gives it away."):
        raise Refused("Nothing was changed.", "", "", code="declined")
    body: Document = {"thing_id": arguments.thing, "to": arguments.user, "why": arguments.why}
    return _tell(session.client.put(f"/owners/{kind}", body), session)


def _tell(answer: Document, session: Session) -> int:
    output = session.output
    if output.as_json:
        output.document(answer)
        return DONE
    if "message" in answer:
        output.say(str(answer["message"]))
    output.fields([("owner", str(answer["owner"])), ("shared with", ", ".join(answer["shared_with"]) or "nobody")])
    return DONE
