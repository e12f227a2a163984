"""btmctl jobs: trainings, from submitted to done."""

import argparse

from btmctl import words
from btmctl.client import Document
from btmctl.commands import job_again, job_answer, job_delete, job_export, job_plot, job_set, ownership
from btmctl.errors import DONE, ServerRefused
from btmctl.output import Output
from btmctl.parser import Noun
from btmctl.session import Session
from btmctl.training import amount, forecast_fields, show_plan

WHICH = "id, beginning of an id, name, or last"


def command() -> Noun:
    noun = Noun("jobs", "A job is one training. It goes on without btmctl and without the daemon.")
    listing = noun.verb(
        "list",
        show_all,
        "List trainings, newest first.",
        ["btmctl jobs list", "btmctl jobs list --state failed", "btmctl jobs list --user ada --since yesterday"],
    )
    listing.add_argument("--user", metavar="U", help="only this user's, by name or number")
    listing.add_argument("--state", metavar="S", help="only those in this state, such as failed or needs_attention")
    listing.add_argument("--since", metavar="T", help="only those begun since then: yesterday, 2026-11-22")
    listing.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (50)")
    for name, run, text, example in (
        ("show", show, "Show one training: plan, attempts, checkpoints, measurements.", "btmctl jobs show last"),
        ("watch", watch_one, "Show a training live; Ctrl-C leaves it running.", "btmctl jobs watch last"),
        ("result", result, "Show what came of a training.", "btmctl jobs result last --answers"),
        ("logs", logs, "Print what the trainer wrote.", "btmctl jobs logs last | tail"),
        ("pause", pause, "Save a checkpoint and free the machine.", "btmctl jobs pause last"),
        ("resume", resume, "Go on with a paused or failed training.", "btmctl jobs resume last"),
        ("stop", stop, "End a training early and keep its best state.", "btmctl jobs stop last"),
        (
            "cancel",
            cancel,
            "End a training without a result. `stop` keeps what it has learned.",
            "btmctl jobs cancel last",
        ),
    ):
        verb = noun.verb(name, run, text, [example])
        verb.add_argument("job", metavar="J", help=WHICH)
        if name == "result":
            verb.add_argument("--answers", action="store_true", help="all sample answers before and after, in full")
    job_answer.add_verbs(noun)
    job_set.add_verbs(noun)
    job_delete.add_verbs(noun)
    job_again.add_verbs(noun)
    job_plot.add_verbs(noun)
    job_export.add_verbs(noun)
    ownership.add_verbs(noun, "job")
    return noun


def show_all(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    since_us = words.since_us(arguments.since, "btmctl jobs list")
    query = {"state": arguments.state, "user": arguments.user, "since_us": since_us}
    found = session.client.listed("/jobs", most=arguments.limit, **query)
    if output.as_json:
        output.document(found)
        return DONE
    if not found:
        _say_that_there_are_none(session, all(value is None for value in query.values()))
        return DONE
    output.table(
        ("job", "state", "done", "loss", "model", "dataset", "started", "name"),
        [
            (
                job["job_id"],
                job["state"],
                _share(job),
                words.figure(job.get("held_out_loss") or job.get("loss")),
                job["model_id"],
                job["dataset_id"],
                words.moment(job.get("created_at")),
                job.get("name"),
            )
            for job in found
        ],
    )
    if len(found) == arguments.limit:
        output.say(f"No more than {arguments.limit} are listed; --limit N lists N.")
    return DONE


def _say_that_there_are_none(session: Session, any_at_all: bool) -> None:
    if not any_at_all:
        session.output.say("No training fits.")
        return
    from btmctl import places, private_daemon

    session.output.say("No trainings yet. btmctl train MODEL DATASET starts one.")
    elsewhere = session.client.socket_path != places.quickstart_socket(session.environment)
    if elsewhere and private_daemon.has_state(session.environment):
        session.output.say("Those of the quickstart are with a daemon of its own, which answers while no other runs.")


def show(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    job = session.client.get(f"/jobs/{arguments.job}")
    if output.as_json:
        output.document(job)
        return DONE
    output.fields(
        [
            ("job", job["job_id"]),
            ("name", job.get("name")),
            ("state", job["state"]),
            ("model", job["model_id"]),
            ("dataset", f"{job['dataset_id']} ({job.get('dataset_version', '')})"),
            ("preset", job.get("preset")),
            ("submitted", words.moment(job.get("created_at"))),
            ("ended", words.moment(job.get("ended_at"))),
            ("priority", job.get("priority") or ""),
            ("waiting", job.get("waits_for")),
            ("goes on from", (job.get("plan") or {}).get("from_job")),
            ("repeats", (job.get("plan") or {}).get("rerun_of")),
            ("result", job.get("model_path")),
            ("step", f"{job.get('step')} of {job.get('total_steps')}" if job.get("total_steps") else ""),
            *[(f"forecast {name}", said) for name, said in forecast_fields(job)],
            *[(f"took {one['quantity']}", _outcome(one)) for one in _newest_scores(job)],
            ("held-out before", words.figure(job.get("held_out_before"))),
            ("held-out best", words.figure(job.get("held_out_best"))),
            ("why", job.get("text")),
            ("answer by", words.moment(job.get("answer_by"))),
            ("try", job.get("hint")),
        ]
    )
    _warnings(job, output)
    _parts(job, output)
    for title, key in (("On the way", "account"), ("Changed against the plan", "changed")):
        if job.get(key):
            output.line()
            output.line(title, "bold")
        for sentence in job.get(key) or []:
            output.paragraph(sentence, indent="  ")
    if job.get("plan"):
        output.line()
        show_plan(job["plan"], output)
    return DONE


def _newest_scores(job: Document) -> list[Document]:
    """The score of the last forecast of each quantity."""
    return list({one["quantity"]: one for one in job.get("scores") or []}.values())


PAIR_FIGURES = ("margin", "accuracy")


def _outcome(score: Document) -> str:
    took = words.span(score["outcome"]) if score["quantity"] == "time" else amount(score["outcome"])
    said = score["forecast"]
    held = said["low"] <= score["outcome"] <= said["high"]
    return took if held else f"{took} (outside the range)"


def _warnings(job: Document, output: Output) -> None:
    """What is wrong now; what was and is over is in --json."""
    present = [one for one in job.get("warnings") or () if not one.get("withdrawn_at")]
    if present:
        output.line()
        output.line("Warnings", "bold")
    for one in present:
        output.paragraph(one["text"], indent="  ")
        output.paragraph(one["advice"], indent="    ")


def _parts(job: Document, output: Output) -> None:
    for title, key, columns in (
        ("Attempts", "attempts", ("attempt", "why", "started_at", "ended", "text")),
        ("Measurements", "evaluations", ("step", "when", "loss", "margin", "accuracy", "tokens")),
        ("Checkpoints", "checkpoints", ("name", "step", "best", "held_out_loss", "size_bytes")),
        ("Notices", "notices", ("code", "text")),
    ):
        rows = job.get(key) or []
        # Only pairs of answers have these.
        shown = [name for name in columns if name not in PAIR_FIGURES or any(row.get(name) for row in rows)]
        if rows:
            output.line()
            output.line(title, "bold")
            output.table(
                [name.replace("_", " ") for name in shown], [[_cell(name, row) for name in shown] for row in rows]
            )


def _cell(name: str, row: Document) -> str:
    value = row.get(name)
    if name.endswith("_at"):
        return words.moment(value)
    if name == "size_bytes":
        return words.size(value)
    return words.figure(value, 5) if isinstance(value, float) else words.value(value)


def watch_one(arguments: argparse.Namespace, session: Session) -> int:
    from btmctl.watch import watch

    return watch(job_id(arguments.job, session), session)


def result(arguments: argparse.Namespace, session: Session) -> int:
    from btmctl.watch import show_result

    job = job_id(arguments.job, session)
    document = session.client.get(f"/result/{job}")
    if session.output.as_json:
        answers = session.client.get(f"/jobs/{job}/answers") if arguments.answers else None
        session.output.document({**document, "answers": answers} if arguments.answers else document)
        return DONE
    show_result(document, session.output)
    samples = _answers(job, session, asked=arguments.answers)
    for sample in samples if arguments.answers else samples[:FIRST_ANSWERS]:
        show_sample(sample, session.output, longest=None if arguments.answers else FIRST_LETTERS)
    if not arguments.answers and samples:
        session.output.line()
        session.output.say(f"btmctl jobs result {job} --answers shows all {len(samples)} answers, in full.")
    return DONE


FIRST_ANSWERS = 3
FIRST_LETTERS = 240
"""So much of an answer is shown before somebody asks for all of it."""


def _answers(job: str, session: Session, *, asked: bool) -> list[Document]:
    """Answers before and after; where nobody asked for them, none is no problem."""
    try:
        return list(session.client.get(f"/jobs/{job}/answers").get("samples") or [])
    except ServerRefused:
        if asked:
            raise
        return []


def show_sample(sample: Document, output: Output, longest: int | None = None) -> None:
    """A held-out question with what the model said before and after, ``longest`` letters of each."""
    output.line()
    output.paragraph(_first(str(sample["prompt_text"]), longest))
    for label, key in (("data", "expected"), ("before", "base"), ("after", "tuned")):
        if sample.get(key) is not None:
            output.paragraph(f"{label}: {_first(str(sample[key]), longest)}", indent="  ")


def _first(text: str, longest: int | None) -> str:
    return text if longest is None or len(text) <= longest else text[:longest].rstrip() + "…"


def logs(arguments: argparse.Namespace, session: Session) -> int:
    text = session.client.text(f"/jobs/{arguments.job}/logs")
    if session.output.as_json:
        session.output.document({"log": "".join(text)})
        return DONE
    wrote = False
    for piece in text:
        session.output.raw(piece)
        wrote = True
    if not wrote:
        session.output.say("The trainer has written nothing.")
    return DONE


def pause(arguments: argparse.Namespace, session: Session) -> int:
    return _ask(arguments, session, "pause")


def resume(arguments: argparse.Namespace, session: Session) -> int:
    return _ask(arguments, session, "resume")


def stop(arguments: argparse.Namespace, session: Session) -> int:
    return _ask(arguments, session, "stop")


def cancel(arguments: argparse.Namespace, session: Session) -> int:
    return _ask(arguments, session, "cancel")


def _ask(arguments: argparse.Namespace, session: Session, what: str) -> int:
    answer = session.client.post(f"/jobs/{arguments.job}/{what}")
    if session.output.as_json:
        session.output.document(answer)
    else:
        session.output.say(str(answer.get("message") or f"Job {arguments.job}: {answer.get('state', what)}."))
    return DONE


def job_id(given: str, session: Session) -> str:
    """The full id of the job meant."""
    return str(session.client.get(f"/jobs/{given}")["job_id"])


def _share(job: Document) -> str:
    if job["state"] == "completed":
        return "100 %"
    total = job.get("total_steps") or 0
    return f"{100 * (job.get('step') or 0) / total:.0f} %" if total else ""
