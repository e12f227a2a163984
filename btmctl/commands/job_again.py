"""btmctl jobs rerun and compare: a training once more, and two side by side."""

import argparse

from btmctl.errors import DONE
from btmctl.output import Output, cut
from btmctl.parser import Noun
from btmctl.session import Session

WHICH = "id, beginning of an id, name, or last"
WIDTH = 80
_TITLE_WIDTH = 26


def add_verbs(noun: Noun) -> None:
    again = noun.verb(
        "rerun",
        rerun,
        "Train once more with the same plan, seeds, data and model. It is refused where one of them has changed, and "
        "its result says whether it came out the same.",
        ["btmctl jobs rerun last", "btmctl jobs rerun k3q7zv2m5a --watch"],
    )
    again.add_argument("job", metavar="J", help=WHICH)
    again.add_argument("--name", metavar="TEXT", default="", help="what to call the new training")
    again.add_argument("--priority", type=int, metavar="N", default=0, help="higher goes first")
    again.add_argument("--dry-run", action="store_true", help="only say whether it can be repeated")
    again.add_argument("--watch", action="store_true", help="show it live; Ctrl-C leaves it running")
    beside = noun.verb(
        "compare",
        compare,
        "Show two trainings side by side: settings that differ, losses, verdicts, time and memory.",
        ["btmctl jobs compare k3q7zv2m5a last"],
    )
    beside.add_argument("job", metavar="J", help=WHICH)
    beside.add_argument("other", metavar="J", help="the other one")


def rerun(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    body = {"name": arguments.name, "priority": arguments.priority, "dry_run": arguments.dry_run}
    answer = session.client.post(f"/jobs/{arguments.job}/rerun", body)
    if output.as_json and not arguments.watch:
        output.document(answer)
        return DONE
    output.say(str(answer["message"]))
    for remark in answer["remarks"]:
        output.say(str(remark))
    if arguments.dry_run:
        return DONE
    if arguments.watch:
        from btmctl.watch import watch

        return watch(str(answer["job_id"]), session, fail_with_job=True)
    output.line(str(answer["job_id"]))
    return DONE


def compare(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    found = session.client.get(f"/jobs/{arguments.job}/comparison/{arguments.other}")
    if output.as_json:
        output.document(found)
        return DONE
    output.paragraph(str(found["summary"]))
    for title, key in (("What came of them", "figures"), ("Settings that differ", "settings")):
        output.line()
        output.line(title, "bold")
        if not found[key]:
            output.line("none")
            continue
        _table(found["job_ids"], found[key], output)
    return DONE


def _table(job_ids: list[str], rows: list[dict[str, object]], output: Output) -> None:
    """Three columns that fit the terminal, at most 80 columns; a star marks the better one."""
    width = min(WIDTH, output.width)
    title = min(_TITLE_WIDTH, max(len(str(row["title"])) for row in rows))
    room = max(8, (width - title - 4) // 2)
    cells = [(cut(str(row["title"]), title), *_values(row, room)) for row in rows]
    output.table(("", *(cut(one, room) for one in job_ids)), cells)


def _values(row: dict[str, object], room: int) -> list[str]:
    texts, better = row["texts"], row["better"]
    assert isinstance(texts, list)
    return [cut(f"{text} *" if better == at else str(text), room) for at, text in enumerate(texts)]
