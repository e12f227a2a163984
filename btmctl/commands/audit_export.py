"""btmctl audit export: the events of a span as a file that a stranger can verify."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import btmd
from btmctl import words
from btmctl.client import Document
from btmctl.errors import DONE, ConnectionLost, Refused, ServerRefused, UsageError
from btmctl.parser import Noun
from btmctl.session import Session

if TYPE_CHECKING:
    from btmctl.exported_files import Target

VERIFIER = os.path.join(os.path.dirname(btmd.__file__), "audit", "verify_audit.py")
_LONGEST_LINE_BYTES = 1 << 20


def add_verbs(noun: Noun) -> None:
    export = noun.verb(
        "export",
        run,
        "Write events as lines that can be verified without btmd, by a program of one file that needs nothing but"
        " Python and comes with btmd. Sealed with the store's key, where backups have made one.",
        [
            "btmctl audit export --out log.jsonl --with-verifier",
            'btmctl audit export --since "2026-11-01 00:00" --until "2026-11-30 23:59" --out november.jsonl',
            "btmctl audit export --since 1200 | gzip > newest.jsonl.gz",
        ],
    )
    add = export.add_argument
    when = "by when it was recorded: 2 hours ago, 2026-11-22 14:00, RFC 3339, or an event's number"
    add("--since", metavar="T", help=f"from this event on (default: the first), {when}")
    add("--until", metavar="T", help=f"to this event (default: the newest), {when}")
    add("--out", metavar="F", help="the file, or a folder to put it in (default: standard output)")
    add("--with-verifier", action="store_true", help="put a copy of the verifier beside the file")


def run(arguments: argparse.Namespace, session: Session) -> int:
    query = {name: words.at(text) for name in ("since", "until") if (text := getattr(arguments, name)) is not None}
    if arguments.out is None:
        if arguments.with_verifier:
            raise UsageError("There is nothing to put the verifier beside.", "It goes beside the file.", "--out F")
        for piece in _pieces(session, query, {}):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return DONE
    target = file_for(arguments.out, "audit.jsonl", session)
    told: Document = {}
    verifier = os.path.join(os.path.dirname(target.path), os.path.basename(VERIFIER))
    aside = target.aside
    try:
        with open(aside, "xb") as file:
            for piece in _pieces(session, query, told):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, target.path)
        if arguments.with_verifier:
            import shutil

            shutil.copyfile(VERIFIER, verifier)
    except OSError as problem:
        why = f"{problem.strerror or problem}. Nothing was left behind."
        raise Refused(f"{target.shown} could not be written.", why, "--out OTHER", code="not_written") from None
    finally:
        if os.path.exists(aside):
            os.unlink(aside)
    _tell(told, target.path, verifier if arguments.with_verifier else VERIFIER, session)
    return DONE


def file_for(out: str, name: str, session: Session) -> "Target":
    """Where one file goes: ``out`` itself, or a folder that is there (or ends in a slash) and gets it as ``name``.

    Raises UsageError, Refused.
    """
    from btmctl.exported_files import Target

    expanded = os.path.expanduser(out)
    inside = os.path.isdir(expanded) or expanded.endswith(os.sep)
    target = Target(os.path.abspath(os.path.join(expanded, name) if inside else expanded), is_folder=False)
    target.require_room(0)
    if target.in_the_way() and not session.confirm(
        f"{target.shown} would be overwritten. Go on?", otherwise="--yes overwrites; --out names another place."
    ):
        raise Refused("Nothing was written.", f"{target.shown} is there already.", "--out OTHER", code="declined")
    return target


def _pieces(session: Session, query: Document, told: Document) -> Iterator[bytes]:
    """The bytes as they come; ``told`` gets the closing line. Raises ServerRefused, ConnectionLost."""
    tail, done, output = b"", 0, session.output
    for piece in session.client.download("/audit/export", **query):
        done += len(piece)
        output.progress_text(f"{words.size(done)} exported")
        tail = (tail + piece)[-_LONGEST_LINE_BYTES:]
        yield piece
    output.end_progress()
    try:
        closing = json.loads(tail.rstrip(b"\n").rpartition(b"\n")[2])
    except ValueError:
        closing = {}
    if "error" in closing:
        raise ServerRefused(closing["error"], int(closing["error"].get("status") or 500))
    if closing.get("line") != "end":
        raise ConnectionLost("The daemon went away before it was done.", hint="btmctl status shows whether it runs.")
    told.update(closing)


def _tell(told: Document, path: str, verifier: str, session: Session) -> None:
    import shlex

    output, seal = session.output, told["seal"]
    words_of_it = ["python3", verifier, path, *(["--public-key", seal["public_key"]] if seal else [])]
    command = " ".join(map(shlex.quote, words_of_it))
    if output.as_json:
        names = ("store_id", "first_seq", "last_seq", "events", "last_hash", "head_seq", "head_epoch", "head_hash")
        facts = {name: told[name] for name in names}
        public_key = seal["public_key"] if seal else None
        output.document({"path": path, **facts, "public_key": public_key, "verifier": verifier, "command": command})
        return
    output.line(f"{words.exactly(told['events'])} events, {told['first_seq']} to {told['last_seq']}, are in {path}.")
    if seal is None:
        output.say(
            "It has no seal: there is no key yet, or it cannot be opened. `btmctl backup create` makes one. Keep the"
            " newest event's hash elsewhere: btmctl audit verify shows it.",
            "yellow",
        )
    output.line("To verify it, with btmd or without:")
    output.line(command)
