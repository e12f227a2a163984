"""btmctl jobs delete: a training with all of its files."""

import argparse

from btmctl import words
from btmctl.errors import DONE
from btmctl.parser import Noun
from btmctl.session import Session

WHICH = "id, beginning of an id, name, or last"


def add_verbs(noun: Noun) -> None:
    verb = noun.verb(
        "delete",
        delete,
        "Delete an ended training with its checkpoints and its result. Its history stays in the log.",
        ["btmctl jobs delete last", "btmctl jobs delete k3q7 --yes", "btmctl disk"],
    )
    verb.add_argument("job", metavar="J", help=WHICH)
    verb.add_argument("--force", action="store_true", help="even if a waiting training or a model needs its files")


def delete(arguments: argparse.Namespace, session: Session) -> int:
    output, client = session.output, session.client
    path = f"/jobs/{arguments.job}"
    would = client.delete(path, dry_run="true")
    path = f"/jobs/{would['job_id']}"
    named = f"{would['job_id']} ({would['name']})" if would["name"] else would["job_id"]
    for need in would["needed_by"]:
        output.say(f"Its files are needed: {need}.", "yellow")
    question = (
        f"Delete the training {named}, {would['state']}, with all its files ({words.size(would['freed_bytes'])})?"
    )
    # What would be refused anyway needs no question.
    possible = would["state"] in ("completed", "failed", "cancelled") and (arguments.force or not would["needed_by"])
    if possible and not session.confirm(question, otherwise="--yes deletes it without asking."):
        output.say("Nothing was deleted.")
        return DONE
    done = client.delete(path, **({"force": "true"} if arguments.force else {}))
    if output.as_json:
        output.document(done)
    else:
        output.say(
            f"{named} was deleted, {words.size(done['freed_bytes'])} are free again. Its history stays in the log."
        )
    return DONE
