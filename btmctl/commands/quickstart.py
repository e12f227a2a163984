"""btmctl quickstart: train a small real model on demo data and show what that changed."""

import argparse
import os
import shlex
import sys
import time
from hashlib import sha256
from pathlib import Path

from btmctl import demo_model, places, private_daemon, sources, words
from btmctl.client import Client, Document
from btmctl.errors import DONE, FAILED, INTERRUPTED, CommandError, Unreachable
from btmctl.output import Output
from btmctl.parser import Single
from btmctl.session import Session

DATASET_NAME = "btmd-demo"
PURPOSE = "the quickstart's own demonstration"
PRESET = "quick_test"
OVERRIDES: Document = {"num_epochs": 4, "learning_rate": 1e-3, "held_out_limit": 0, "sample_tokens": 32}
SHOWN_ANSWERS = 3


def command() -> Single:
    single = Single(
        "quickstart",
        run,
        "Trains a small chat model on facts about btmd, in a few minutes, and shows its answers before and after.",
        ["btmctl quickstart", "btmctl quickstart --model ~/models/some-chat-model"],
    )
    single.parser.add_argument("--model", metavar="PATH", help="train this model folder or GGUF file instead")
    single.parser.add_argument(
        "--set", action="append", default=[], metavar="K=V", help="change one value of the training (repeatable)"
    )
    return single


def run(arguments: argparse.Namespace, session: Session) -> int:
    from importlib.resources import as_file

    from btmd import demo

    output = session.output
    began = time.monotonic()
    _say(output, "Finding a daemon")
    session.use(_daemon(session))
    _say(output, "Getting the model ready (a GGUF file is converted once)")
    model = _model(arguments.model, session)
    _say(output, "Adding the demo data: thirty facts about btmd, each asked in five ways; a sixth way is held out")
    with as_file(demo.dataset()) as path:
        name = _dataset_name(path)
        # The demo's facts are btmd's own: what comes of them may be taken away.
        scopes = ["train", "export"]
        dataset = sources.add_dataset(str(path), session, consent=True, purpose=PURPOSE, name=name, scopes=scopes)
    _say(output, "Training")
    body = {"model_id": model["model_id"], "dataset_id": dataset["dataset_id"], "preset_name": PRESET}
    overrides: Document = {**OVERRIDES, "sample_answers": len(demo.held_out_questions())}
    overrides |= words.pairs(arguments.set, "--set")
    started = session.client.post("/start", {**body, "overrides": overrides, "consent": True})
    ended = _watched(str(started["job_id"]), session)
    if ended is None:
        return INTERRUPTED
    if ended["state"] != "completed":
        raise CommandError(
            ended["status"],
            ended["status_message"],
            f"btmctl jobs show {started['job_id']}",
            code="quickstart_failed",
            exit_code=FAILED,
        )
    report = _report(str(started["job_id"]), session.client, time.monotonic() - began)
    if output.as_json:
        output.document(report)
    else:
        _show(report, output)
    return DONE


def _daemon(session: Session) -> Client:
    """The running daemon, or one of our own."""
    try:
        return session.find_client(start_private=False)
    except Unreachable:
        if places.named_socket(session.socket_option, session.environment):
            raise
        client = private_daemon.start(session.environment, session.output.progress_text)
        session.output.end_progress()
        return client


def _model(given: str | None, session: Session) -> Document:
    if given:
        return sources.model(given, session)
    for known in session.client.listed("/models"):
        if known.get("name") == demo_model.NAME:
            return dict(known)
    path = demo_model.find(session.environment) or demo_model.fetch(session.environment, session.output)
    return sources.add_model(path, session, name=demo_model.NAME)


def _dataset_name(path: Path) -> str:
    # A later version brings other data; the earlier one stays registered under its own name.
    return f"{DATASET_NAME}-{sha256(path.read_bytes()).hexdigest()[:8]}"


def _watched(job_id: str, session: Session) -> Document | None:
    from btmctl.watch import MessageView, follow, view_for

    output = session.output
    view = MessageView(output) if output.as_json else view_for(output)
    return follow(job_id, session, view)


def _report(job_id: str, client: Client, seconds: float) -> Document:
    job = client.get(f"/jobs/{job_id}")
    samples: list[Document] = client.get(f"/jobs/{job_id}/answers")["samples"]
    before, after = job["held_out_before"], job["held_out_after"]
    shown = samples[:: max(1, len(samples) // SHOWN_ANSWERS)][:SHOWN_ANSWERS]
    return {
        "job_id": job_id,
        "model_id": job["model_id"],
        "dataset_id": job["dataset_id"],
        "held_out_loss_before": before,
        "held_out_loss_after": after,
        "loss_fell_percent": round(100 * (before - after) / before, 1),
        "questions": len(samples),
        "right_before": _right(samples, "base"),
        "right_after": _right(samples, "tuned"),
        "answers": [{key: sample[key] for key in ("prompt_text", "expected", "base", "tuned")} for sample in shown],
        "seconds": round(seconds, 1),
    }


def _right(samples: list[Document], which: str) -> float:
    """The share of questions whose answer holds the right fact."""
    from btmd import demo

    fact_of = {question.question: question.fact for question in demo.held_out_questions()}
    return round(demo.score((fact_of[sample["prompt_text"]], sample[which] or "") for sample in samples), 4)


def _show(report: Document, output: Output) -> None:
    from btmctl.commands.jobs import show_sample

    output.line("Before and after", "bold")
    output.table(
        ("on questions it never saw", "before", "after", ""),
        [
            (
                "held-out loss",
                words.figure(report["held_out_loss_before"]),
                words.figure(report["held_out_loss_after"]),
                f"{-report['loss_fell_percent']:+.1f} %",
            ),
            (
                "right facts",
                f"{report['right_before']:.0%}",
                f"{report['right_after']:.0%}",
                f"of {report['questions']} questions",
            ),
        ],
    )
    for sample in report["answers"]:
        show_sample(sample, output)
    job, model = report["job_id"], report["model_id"]
    output.line()
    output.line("Next", "bold")
    output.fields(
        [
            ("first", _activation(os.environ.get("PATH", ""))),
            ("talk to it", f"btmctl chat {job} --both"),
            ("your own data", f"btmctl train {model} FILE.jsonl --watch"),
            ("see why it did what", f"btmctl jobs show {job}"),
        ]
    )


def _activation(path: str) -> str:
    """What has the shell find btmctl, where it would not: `make quickstart` runs it from its environment."""
    import shutil

    activate = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "activate")
    if shutil.which("btmctl", path=path) is not None or not os.path.exists(activate):
        return ""
    inside = os.path.relpath(activate)
    return f". {shlex.quote(activate if inside.startswith('..') else inside)}"


def _say(output: Output, text: str) -> None:
    output.say(f"{text}...", "bold")
