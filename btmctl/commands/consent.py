"""btmctl consent: who allowed what with which dataset."""

import argparse

from btmctl import words
from btmctl.client import Document
from btmctl.errors import DONE, Refused, UsageError
from btmctl.parser import Noun
from btmctl.session import Session


def command() -> Noun:
    noun = Noun("consent", "A dataset is used only for what somebody allowed: train, export, backup.")
    noun.verb("list", show_all, "List what is allowed with each dataset.", ["btmctl consent list"])
    grant = noun.verb(
        "grant",
        grant_one,
        "Allow the use of a dataset; it adds to what was allowed before.",
        [
            "btmctl consent grant questions --purpose 'our library'",
            "btmctl consent grant questions --scope train,export,backup",
        ],
    )
    grant.add_argument("dataset", metavar="D", help="id, beginning of an id, or name")
    grant.add_argument("--purpose", default="", metavar="TEXT", help="what it may be used for")
    grant.add_argument("--scope", default="train", metavar="WHAT", help="of train,export,backup (default: train)")
    revoke = noun.verb(
        "revoke",
        revoke_one,
        "Take back all that was allowed; trainings end with a checkpoint, and it says what was made.",
        ["btmctl consent revoke questions"],
    )
    revoke.add_argument("dataset", metavar="D", help="id, beginning of an id, or name")
    return noun


def show_all(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    found = session.client.listed("/consents")
    if output.as_json:
        output.document(found)
        return DONE
    if not found:
        output.say("No dataset was added yet. btmctl datasets add FILE adds one.")
        return DONE
    rows = [
        (
            one["dataset_id"],
            ", ".join(one["scopes"]) or "nothing",
            words.user(one["consent_by_uid"]),
            words.moment(one["consent_at"]),
            one["purpose"],
        )
        for one in found
    ]
    output.table(("dataset", "allowed", "by", "when", "purpose"), rows)
    return DONE


def grant_one(arguments: argparse.Namespace, session: Session) -> int:
    scopes = [one.strip() for one in arguments.scope.split(",") if one.strip()]
    body: Document = {"purpose": arguments.purpose, "scopes": scopes}
    answer = session.client.put(_address(arguments.dataset), body)
    if session.output.as_json:
        session.output.document(answer)
        return DONE
    purpose = f" for {answer['purpose']!r}" if answer["purpose"] else ""
    session.output.say(f"Allowed with {answer['name']}: {', '.join(answer['scopes'])}{purpose}.", "green")
    return DONE


def revoke_one(arguments: argparse.Namespace, session: Session) -> int:
    # Nobody is asked about a dataset that is not there.
    session.client.get(f"/datasets/{arguments.dataset}")
    question = f"Take back all that is allowed with {arguments.dataset}?"
    if not session.confirm(question, otherwise="--yes takes it back."):
        raise Refused("Nothing was taken back.", "", "", code="declined")
    answer = session.client.delete(_address(arguments.dataset))
    if session.output.as_json:
        session.output.document(answer)
    else:
        session.output.say(answer["message"])
    return DONE


def _address(dataset: str) -> str:
    if not dataset.strip() or "/" in dataset:
        raise UsageError("This names no dataset.", f"{dataset!r} is none.", "btmctl datasets list")
    return f"/consents/{dataset}"
