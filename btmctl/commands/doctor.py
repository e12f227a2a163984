"""btmctl doctor: is the installation well, what to do where it is not, and a bundle for a report."""

import argparse
from pathlib import Path

from btmctl import words
from btmctl.client import Document
from btmctl.doctor.examination import examine
from btmctl.doctor.finding import ATTENTION, BROKEN, OK, Finding, exit_code_of, worst
from btmctl.doctor.known import Known, look
from btmctl.doctor.packing import target_of, write
from btmctl.output import Output
from btmctl.parser import Single
from btmctl.session import Session

STYLES = {OK: "green", ATTENTION: "yellow", BROKEN: "red"}


def command() -> Single:
    single = Single(
        "doctor",
        run,
        "Checks the installation, with or without a daemon: Python, packages, GPU, folders, socket, daemon, backups,"
        " log, clock and limits. Says what is not well, why that matters, and the command that helps. Exit code 0:"
        " nothing is broken, 6: something is, 7: data is damaged, 9: somebody changed the log.",
        ["btmctl doctor", "btmctl doctor --json", "btmctl doctor --bundle", "btmctl doctor --bundle report.tar.gz"],
    )
    single.parser.add_argument(
        "--bundle",
        nargs="?",
        const="",
        metavar="FILE",
        help="also pack what a report of a fault needs, without names, paths and data of yours; nothing is sent",
    )
    return single


def run(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    # Refused before anything is looked at, where it could not be written.
    path = None if arguments.bundle is None else target_of(arguments.bundle)
    known = look(session)
    findings = examine(known, output.progress_text)
    output.end_progress()
    found: Document = {"state": worst(findings), "findings": [one.as_document() for one in findings]}
    if not output.as_json:
        _show(findings, output)
    if path is not None:
        found["bundle"] = {"path": str(path), "files": _bundle(path, known, findings, output)}
    if output.as_json:
        output.document(found)
    return exit_code_of(findings)


def _bundle(path: Path, known: Known, findings: list[Finding], output: Output) -> list[Document]:
    """Tell what goes in, then write it; returns the list."""
    from btmctl.doctor.bundle import gather

    output.progress_text("Taking out what is personal")
    members = gather(known, findings)
    output.end_progress()
    if not output.as_json:
        output.line()
        output.paragraph(f"Into {path} goes, without names, paths and data of yours:")
        rows = [(one.name, words.size(len(one.content)), one.about) for one in members]
        output.table(("file", "size", "what it holds"), rows)
    write(members, path)
    output.say(f"Written to {path}, which only you can read. Nothing was sent; look through it before you pass it on.")
    return [one.as_document for one in members]


def _show(findings: list[Finding], output: Output) -> None:
    widest = max(len(one.about) for one in findings)
    for one in findings:
        output.pieces([(f"{one.state:9}  ", STYLES[one.state]), (f"{one.about:{widest}}  ", ""), (one.what, "")])
        if one.why:
            output.paragraph(f"why: {one.why}", indent="           ")
        if one.remedy:
            # A command that is broken into lines cannot be pasted.
            output.line(f"           try: {one.remedy}", "cyan")
    output.line()
    counted = {state: sum(one.state == state for one in findings) for state in (BROKEN, ATTENTION)}
    if not any(counted.values()):
        output.line("All is well.", "green")
    else:
        output.line(f"{counted[BROKEN]} broken, {counted[ATTENTION]} to attend to, {len(findings)} looked at.")
        output.line("To ask somebody for help, give them the file that btmctl doctor --bundle writes.")
