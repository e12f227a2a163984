"""btmctl train: start a training."""

import argparse

from btmctl import training
from btmctl.errors import DONE
from btmctl.parser import Single
from btmctl.permission_question import post_or_ask
from btmctl.session import Session


def command() -> Single:
    single = Single(
        "train",
        run,
        "Starts a training. A person names a model and data; everything else is chosen, and can be changed.",
        [
            "btmctl train smol questions.jsonl --consent --watch",
            "btmctl train smol questions --preset quick_test --set num_epochs=2",
            "btmctl train smol questions --dry-run",
        ],
    )
    training.add_options(single.parser)
    single.parser.add_argument("--watch", action="store_true", help="show it live; Ctrl-C leaves it running")
    single.parser.add_argument("--dry-run", action="store_true", help="only show the plan")
    return single


def run(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    body = training.request(arguments, session)
    output.progress(None, "Measuring the data and the machine...")
    if arguments.dry_run:
        answer = post_or_ask(session, "/start", {**body, "dry_run": True})
        output.end_progress()
        if output.as_json:
            output.document(answer)
        else:
            training.show_plan(answer["plan"], output)
        return DONE
    started = post_or_ask(session, "/start", body)
    output.end_progress()
    if arguments.watch:
        from btmctl.watch import watch

        output.say(str(started["message"]))
        return watch(str(started["job_id"]), session, fail_with_job=True)
    if output.as_json:
        output.document(started)
        return DONE
    output.line(str(started["job_id"]))
    output.say(str(started["message"]))
    return DONE
