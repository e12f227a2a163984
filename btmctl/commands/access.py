"""btmctl access: who may use the daemon, and as what."""

import argparse

from btmctl import words
from btmctl.client import Document
from btmctl.errors import DONE, UsageError
from btmctl.parser import Noun
from btmctl.session import Session

ROLES = ("viewer", "trainer", "admin")
LIMITS = ("running_jobs", "disk_gb", "priority")
WHO = "a user of this machine, or a group with an @ before it"


def command() -> Noun:
    noun = Noun("access", "A role is given to a user, or to a group with an @ before its name: viewer, trainer, admin.")
    noun.verb("list", show_all, "List who was granted what.", ["btmctl access list"])
    grant = noun.verb(
        "grant",
        grant_one,
        "Give a user or a group a role, in the place of the one they had.",
        ["btmctl access grant ada trainer", "btmctl access grant @staff viewer --why 'they want to watch'"],
    )
    grant.add_argument("subject", metavar="USER|@GROUP", help=WHO)
    grant.add_argument("role", metavar="ROLE", help=", ".join(ROLES))
    grant.add_argument("--why", metavar="TEXT", default="", help="the reason, kept with the change")
    limit = noun.verb(
        "limit",
        limit_one,
        "Limit what a user, or each user of a group, may have; access list shows the limits there are.",
        ["btmctl access limit ada running_jobs=1 disk_gb=200", "btmctl access limit ada disk_gb=none"],
    )
    limit.add_argument("subject", metavar="USER|@GROUP", help=WHO)
    limit.add_argument("values", nargs="+", metavar="K=V", help=f"{', '.join(LIMITS)}; none takes a limit away")
    limit.add_argument("--why", metavar="TEXT", default="", help="the reason, kept with the change")
    revoke = noun.verb("revoke", revoke_one, "Take the role away.", ["btmctl access revoke ada"])
    revoke.add_argument("subject", metavar="USER|@GROUP", help=WHO)
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
    rows = [(one["subject"], one["kernel_id"], one["role"] or "none", _limits(one["limits"])) for one in found]
    output.table(("who", "number", "role", "limits"), rows)
    return DONE


def grant_one(arguments: argparse.Namespace, session: Session) -> int:
    if arguments.role not in ROLES:
        raise UsageError(f"{arguments.role!r} is no role.", f"There are: {', '.join(ROLES)}.", "btmctl access --help")
    body = {"role": arguments.role, "why": arguments.why}
    return _tell(session.client.put(_address(arguments.subject), body), session)


def revoke_one(arguments: argparse.Namespace, session: Session) -> int:
    return _tell(session.client.delete(_address(arguments.subject), why=arguments.why or None), session)


def limit_one(arguments: argparse.Namespace, session: Session) -> int:
    example = "btmctl access limit ada running_jobs=1"
    values = words.pairs(arguments.values, "access limit", example)
    limits: dict[str, float | None] = {}
    for name, value in values.items():
        if name not in LIMITS:
            raise UsageError(f"{name!r} cannot be limited.", f"There are: {', '.join(LIMITS)}.", example)
        if value in (None, "none"):
            limits[name] = None
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            limits[name] = value
        else:
            raise UsageError(f"{name} cannot be {value!r}.", "It takes a number, or none for no limit.", example)
    body: Document = {"limits": limits, "why": arguments.why}
    return _tell(session.client.put(f"{_address(arguments.subject)}/limits", body), session)


def _limits(limits: Document) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in limits.items()) or "none"


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
