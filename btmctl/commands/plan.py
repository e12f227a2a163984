"""btmctl plan: what a training would do, and why."""

import argparse

from btmctl import training
from btmctl.errors import DONE
from btmctl.parser import Single
from btmctl.permission_question import post_or_ask
from btmctl.session import Session


def command() -> Single:
    single = Single(
        "plan",
        run,
        "Shows every value a training would use, where it came from and why; starts nothing.",
        ["btmctl plan smol questions.jsonl", "btmctl plan smol questions --preset quick_test --set num_epochs=2"],
    )
    training.add_options(single.parser)
    return single


def run(arguments: argparse.Namespace, session: Session) -> int:
    body = training.request(arguments, session)
    session.output.progress(None, "Measuring the data and the machine...")
    answer = post_or_ask(session, "/plans", body)
    session.output.end_progress()
    if session.output.as_json:
        session.output.document(answer)
    else:
        training.show_plan(answer, session.output)
    return DONE
