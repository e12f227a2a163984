"""btmctl disk: what takes room, and making some."""

import argparse

from btmctl import words
from btmctl.client import Document
from btmctl.errors import DONE
from btmctl.output import Output
from btmctl.parser import Single
from btmctl.session import Session

MOST_JOBS = 15
KINDS = {
    "left-overs": "half-written files of trainings that were interrupted",
    "caches": "what was measured of datasets, and is measured again when needed",
    "cancelled": "checkpoints of cancelled trainings",
    "completed": "checkpoints of completed trainings, but for the best of each",
    "failed": "checkpoints of failed trainings, which then cannot be resumed from them",
}
"""In the order in which they are shown; the daemon knows them by the same names."""


def command() -> Single:
    single = Single(
        "disk",
        run,
        "Shows what takes room; `clean` removes what nothing needs. Results, and data, never go.",
        ["btmctl disk", "btmctl disk clean", "btmctl disk clean --only left-overs,caches --yes"],
    )
    add = single.parser.add_argument
    add("action", nargs="?", choices=("show", "clean"), default="show", help="what to do (show)")
    add("--only", metavar="KINDS", help=f"clean only these, with commas: {', '.join(KINDS)}")
    add("--all", action="store_true", help="show every training")
    return single


def run(arguments: argparse.Namespace, session: Session) -> int:
    return clean(arguments, session) if arguments.action == "clean" else show(arguments, session)


def show(arguments: argparse.Namespace, session: Session) -> int:
    output, found = session.output, session.client.get("/disk")
    if output.as_json:
        output.document(found)
        return DONE
    budget = found["budget_bytes"]
    output.fields(
        [
            ("free", f"{words.size(found['free_bytes'])} of {words.size(found['total_bytes'])}"),
            ("trainings", words.size(found["jobs_bytes"])),
            ("budget", f"{words.size(budget)} (disk.budget_gb)" if budget else "none (disk.budget_gb)"),
            *[(one["name"], words.size(one["size_bytes"])) for one in found["parts"]],
        ]
    )
    shown = found["jobs"] if arguments.all else found["jobs"][:MOST_JOBS]
    if shown:
        output.line()
        output.table(
            ("job", "state", "takes", "checkpoints", "result", "ended", "name"),
            [
                (
                    job["job_id"],
                    job["state"],
                    words.size(job["total_bytes"]),
                    f"{job['checkpoints']}, {words.size(job['checkpoints_bytes'])}" if job["checkpoints"] else "",
                    words.size(job["result_bytes"]) if job["result_bytes"] else "",
                    words.moment(job.get("ended_at")),
                    job["name"],
                )
                for job in shown
            ],
        )
    if len(shown) < len(found["jobs"]):
        output.say(f"and {len(found['jobs']) - len(shown)} smaller ones: btmctl disk --all")
    if found["datasets"]:
        output.line()
        output.table(
            ("dataset", "takes"), [(one["dataset_id"], words.size(one["size_bytes"])) for one in found["datasets"]]
        )
    output.line()
    _removable(found["removable"], output)
    if found["removable"]:
        output.say("btmctl disk clean removes that; btmctl jobs delete J removes a training with its result.")
    return DONE


def clean(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    asked: Document = {} if arguments.only is None else {"only": [one.strip() for one in arguments.only.split(",")]}
    would = session.client.post("/disk/clean", {**asked, "dry_run": True})
    if not would["removed"]:
        if output.as_json:
            output.document(would)
        else:
            output.say("There is nothing to remove.")
        return DONE
    if not output.as_json:
        _removable(would["removed"], output)
    if not session.confirm("Remove it?", otherwise="--yes removes it without asking."):
        output.say("Nothing was removed.")
        return DONE
    done = session.client.post("/disk/clean", asked)
    if output.as_json:
        output.document(done)
    else:
        output.say(f"{words.size(done['freed_bytes'])} were freed.")
    return DONE


def _removable(listed: list[Document], output: Output) -> None:
    if not listed:
        output.say("There is nothing that could go.")
        return
    kinds = [(kind, [one for one in listed if one["kind"] == kind]) for kind in KINDS]
    output.table(
        ("could go", "takes", "what"),
        [
            (kind, words.size(sum(one["size_bytes"] for one in ones)), f"{_trainings(kind, ones)}{KINDS[kind]}")
            for kind, ones in kinds
            if ones
        ],
    )
    output.say(f"together {words.size(sum(one['size_bytes'] for one in listed))}")


def _trainings(kind: str, ones: list[Document]) -> str:
    if kind == "caches":
        return ""
    return f"{ones[0]['job_id']}: " if len(ones) == 1 else f"{len(ones)} trainings: "
