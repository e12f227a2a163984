"""btmctl access: who may use the daemon, and as what."""

import argparse

from btmctl.client import Document
from btmctl.errors import DONE, UsageError
from btmctl.parser import Noun
from btmctl.session import Session

ROLES = ("viewer", "trainer", "admin")


def command() -> Noun:
    noun = Noun("access", "A role is given to a user, or to a group with an @ before its name: viewer, trainer, admin.")
    noun.verb("list", show_all, "List who was granted what.", ["btmctl access list"])
    grant = noun.verb(
        "grant",
        grant_one,
        "Give a user or a group a role, in the place of the one they had.",
        ["btmctl access grant ada trainer", "btmctl access grant @staff viewer --why 'they want to watch'"],
    )
    grant.add_argument("subject", metavar="USER|@GROUP")
    grant.add_argument("role", metavar="ROLE", help=", ".join(ROLES))
    grant.add_argument("--why", metavar="TEXT", default="", help="the reason, kept with the change")
    revoke = noun.verb("revoke", revoke_one, "Take the role away.", ["btmctl access revoke ada"])
    revoke.add_argument("subject", metavar="USER|@GROUP")
    revoke.add_argument("--why", metavar="TEXT", default="", help="the reason, kept with the change")
    return noun


def show_all(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    found = session.client.get("/access")
    if output.as_json:
        output.document(found)
        return DONE
    if not found:
        output.say("Nobody was granted anything: only the user that runs the daemon, and root, get in.")
        return DONE
    output.table(("who", "number", "role"), [(one["subject"], one["kernel_id"], one["role"]) for one in found])
    return DONE


def grant_one(arguments: argparse.Namespace, session: Session) -> int:
    if arguments.role not in ROLES:
        raise UsageError(f"{arguments.role!r} is no role.", f"There are: {', '.join(ROLES)}.", "btmctl access --help")
    body = {"role": arguments.role, "why": arguments.why}
    return _tell(session.client.put(_address(arguments.subject), body), session)


def revoke_one(arguments: argparse.Namespace, session: Session) -> int:
    return _tell(session.client.delete(_address(arguments.subject), why=arguments.why or None), session)


def _tell(answer: Document, session: Session) -> int:
    if session.output.as_json:
        session.output.document(answer)
        return DONE
    session.output.say("Recorded." if answer["number"] is not None else "That changes nothing.")
    session.output.say(answer["message"])
    return DONE


def _address(subject: str) -> str:
    if not subject.strip("@ ") or "/" in subject:
        raise UsageError("This names nobody.", f"{subject!r} is no user and no group.", "btmctl access list")
    return f"/access/{subject}"
