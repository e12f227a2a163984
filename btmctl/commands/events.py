"""btmctl events: everything that happened, as it was recorded."""

import argparse
import json

from btmctl import words
from btmctl.client import Document
from btmctl.errors import DONE, ServerRefused, Unreachable
from btmctl.output import Output, cut
from btmctl.parser import Single
from btmctl.session import Session

UNAVAILABLE = 503


def command() -> Single:
    single = Single(
        "events",
        run,
        "Shows recorded events, oldest first; --follow waits for more.",
        [
            "btmctl events --type JobCompleted",
            "btmctl events --follow --after 1200",
            "btmctl events --stream settings --json",
        ],
    )
    add = single.parser.add_argument
    add("--follow", action="store_true", help="go on with new ones until Ctrl-C")
    add("--after", type=int, default=0, metavar="SEQ", help="only events with a greater number")
    add("--since", metavar="TIME", help="only events from this time on (2 hours ago, 2026-11-22 14:00, RFC 3339)")
    add("--type", metavar="TYPE", help="only this type, such as JobSubmitted")
    add("--stream", metavar="STREAM", help="only this stream, such as settings or job-abc")
    return single


def run(arguments: argparse.Namespace, session: Session) -> int:
    since_us = words.since_us(arguments.since, "btmctl events")
    query = {"type": arguments.type, "stream": arguments.stream, "since_us": since_us}
    after, client, output = arguments.after, session.client, session.output
    while True:
        try:
            for event in client.events(after, follow=arguments.follow, timeout_s=60, **query):
                if event is not None:
                    after = event["seq"]
                    show(event, output)
            if after == arguments.after:
                output.say("No event was recorded that fits.")
            return DONE
        except Unreachable:
            # Also one that was asked again and went away once more before it answered.
            if not arguments.follow:
                raise
        except ServerRefused as refused:
            # What a daemon that is just ending says.
            if not arguments.follow or refused.status != UNAVAILABLE:
                raise
        session.reconnect(output.progress_text)
        output.end_progress()


def show(event: Document, output: Output) -> None:
    """One event, as JSON or in one line."""
    if output.as_json:
        output.json_line(event)
        return
    data = {name: value for name, value in event["data"].items() if value not in (None, "", [], {})}
    actor = (event.get("actor") or {}).get("name") or (event.get("actor") or {}).get("uid", "")
    head = f"{event['seq']:>6}  {words.moment(event['recorded_at'])}  {event['stream']}  "
    text = json.dumps(data, ensure_ascii=False, separators=(", ", ": "))[1:-1]
    output.line(cut(f"{head}{event['type']}  by {actor}  {text}", output.width - 1))
