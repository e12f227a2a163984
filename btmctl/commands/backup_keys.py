"""The keys of the backups: btmctl backup key show-recovery, confirm-recovery, rotate, passphrase, renew, list."""

import argparse

from btmctl import words
from btmctl.client import Document
from btmctl.errors import DONE, Refused, UsageError
from btmctl.parser import Noun
from btmctl.session import Session
from btmctl.typed_secret import shown_line, typed_secret

ACTIONS = ("show-recovery", "confirm-recovery", "rotate", "passphrase", "renew", "list")


def add_verbs(noun: Noun) -> None:
    key = noun.verb(
        "key",
        run,
        "The keys that open the backups. show-recovery: a new recovery key to write down, shown once."
        " confirm-recovery: type it back. rotate: new keys for what comes. passphrase: set one that opens the backups"
        " too. renew: a new key file, where it is lost. list: what opens them.",
        [
            "btmctl backup key show-recovery",
            "btmctl backup key confirm-recovery",
            "btmctl backup key rotate",
            "btmctl backup key passphrase",
            "btmctl backup key renew --recovery-key",
        ],
    )
    key.add_argument("action", choices=ACTIONS, metavar="ACTION", help=", ".join(ACTIONS))
    secret = key.add_mutually_exclusive_group()
    secret.add_argument("--recovery-key", action="store_true", help="renew: the recovery key is typed")
    secret.add_argument("--passphrase", action="store_true", help="renew: the passphrase is typed")
    secret.add_argument("--anew", action="store_true", help="renew: no secret is left; begin with other keys")


def run(arguments: argparse.Namespace, session: Session) -> int:
    match arguments.action:
        case "show-recovery":
            return show_recovery(session)
        case "confirm-recovery":
            typed = shown_line(session, "Recovery key")
            return _tell(session.client.post("/backup-keys/recovery-key/confirm", {"recovery_key": typed}), session)
        case "rotate":
            return _tell(session.client.post("/backup-keys/rotate"), session)
        case "passphrase":
            typed = typed_secret(session, "Passphrase", twice=True)
            return _tell(session.client.post("/backup-keys/passphrase", {"passphrase": typed}), session)
        case "renew":
            return renew(arguments, session)
    return show_all(session)


def show_recovery(session: Session) -> int:
    output = session.output
    if session.client.get("/backup-keys")["recovery_key"] == "confirmed" and not session.confirm(
        "The recovery key that was written down will open nothing any more. Make a new one?",
        otherwise="--yes makes a new one.",
    ):
        raise Refused("The recovery key stays as it is.", "", "", code="declined")
    answer = session.client.post("/backup-keys/recovery-key")
    if output.as_json:
        output.document(answer)
        return DONE
    output.line(answer["recovery_key"], "bold")
    output.say("Write it down on paper. It opens every backup, and it is not shown again.")
    output.say(
        "btmctl backup key confirm-recovery takes it typed back, and then you know that you wrote it down right."
    )
    _tell_unreached(answer, session)
    return DONE


def renew(arguments: argparse.Namespace, session: Session) -> int:
    body: Document
    if arguments.anew:
        if not session.confirm(
            "Backups that were made so far may never be opened again. Begin with other keys?",
            otherwise="--yes begins with other keys.",
        ):
            raise Refused("The keys stay as they are.", "", "", code="declined")
        body = {"anew": True}
    elif arguments.recovery_key:
        body = {"recovery_key": shown_line(session, "Recovery key")}
    elif arguments.passphrase:
        body = {"passphrase": typed_secret(session, "Passphrase")}
    else:
        raise UsageError(
            "A new key file needs another secret that opens the backups.",
            "Without one, nobody can open them.",
            "btmctl backup key renew --recovery-key, or --passphrase; where none is left, --anew",
        )
    return _tell(session.client.post("/backup-keys/key-file", body), session)


def show_all(session: Session) -> int:
    output = session.output
    found = session.client.get("/backup-keys")
    if output.as_json:
        output.document(found)
        return DONE
    rows = [(one["kind"].replace("_", " "), words.moment(one["created_at"])) for one in found["slots"]]
    output.table(("what opens the backups", "since"), rows)
    if not found["slots"]:
        output.say("There are no keys yet; the first backup makes them.")
    if found["recovery_key"] == "shown":
        output.say("The recovery key was not typed back yet.", "yellow")
    return DONE


def _tell(answer: Document, session: Session) -> int:
    if session.output.as_json:
        session.output.document(answer)
        return DONE
    session.output.say(answer["message"], "green")
    _tell_unreached(answer, session)
    return DONE


def _tell_unreached(answer: Document, session: Session) -> None:
    for folder in answer["unreached"]:
        session.output.say(f"{folder} is out of reach; it gets this with its next backup.", "yellow")
