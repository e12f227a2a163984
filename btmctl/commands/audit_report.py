"""btmctl audit report: everything that the log tells of one training, in one document."""

import argparse
import json
import os
from typing import TYPE_CHECKING

from btmctl.client import WORK_S
from btmctl.commands.audit_export import file_for
from btmctl.errors import DONE, Refused
from btmctl.parser import Noun
from btmctl.session import Session

if TYPE_CHECKING:
    from btmctl.exported_files import Target


def add_verbs(noun: Noun) -> None:
    report = noun.verb(
        "report",
        run,
        "Write what the log tells of one training: who asked for it, model, data, consent, plan, settings, attempts,"
        " result, and who took it away, with the hashes of the events that say so. Markdown, or with --json the same"
        " as data. No text of any row is in it.",
        ["btmctl audit report last", "btmctl audit report k3q7zv2m5a --out report.md"],
    )
    report.add_argument("job", metavar="J", help="id, beginning of an id, name, or last; a deleted one's whole id")
    report.add_argument("--out", metavar="F", help="the file, or a folder to put it in (default: standard output)")


def run(arguments: argparse.Namespace, session: Session) -> int:
    output, out = session.output, arguments.out
    is_file = out is not None and not os.path.isdir(out) and not out.endswith(os.sep)
    # Before minutes are spent on reading the log.
    target = file_for(out, "", session) if is_file else None
    if not output.as_json:
        output.progress_text("Checking every event")
    # The whole log is read for it, and the result's files.
    found = session.client.get(f"/audit/jobs/{arguments.job}", timeout_s=WORK_S)
    output.end_progress()
    if out is None and output.as_json:
        output.document(found)
        return DONE
    from btmctl.audit_report import markdown

    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n" if output.as_json else markdown(found)
    if out is None:
        output.raw(text)
        return DONE
    kind = "json" if output.as_json else "md"
    return _write(text, target or file_for(out, f"audit-{found['job']['job_id']}.{kind}", session), session)


def _write(text: str, target: "Target", session: Session) -> int:
    try:
        with open(target.aside, "x", encoding="utf-8") as file:
            file.write(text)
        os.replace(target.aside, target.path)
    except OSError as problem:
        why = f"{problem.strerror or problem}. Nothing was left behind."
        raise Refused(f"{target.shown} could not be written.", why, "--out OTHER", code="not_written") from None
    finally:
        if os.path.exists(target.aside):
            os.unlink(target.aside)
    if session.output.as_json:
        session.output.document({"path": target.path, "size_bytes": len(text.encode())})
    else:
        session.output.line(target.path)
    return DONE
