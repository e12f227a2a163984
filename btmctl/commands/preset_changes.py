"""Own presets: btmctl presets create, edit, delete, export, import, history, undo."""

import argparse
import os
import stat
import sys

from btmctl import words
from btmctl.client import Document
from btmctl.commands.settings_history import in_words
from btmctl.editor import edited, require_terminal
from btmctl.errors import DONE, CommandError, Refused, ServerRefused, UsageError
from btmctl.output import Output
from btmctl.parser import Noun, Parser
from btmctl.session import Session

LARGEST_BYTES = 64 * 1024


def add_verbs(noun: Noun) -> None:
    create = noun.verb(
        "create",
        create_one,
        "Make a preset of your own from another one.",
        [
            "btmctl presets create letters --from quick_test --set num_epochs=3",
            "btmctl presets create letters --from quick_test --set name='My letters'",
        ],
    )
    create.add_argument("key", metavar="KEY", help="small letters, digits, - and _")
    create.add_argument("--from", dest="source", metavar="KEY", required=True, help="the preset it begins as")
    create.add_argument(
        "--set", action="append", default=[], metavar="K=V", help="a value that differs from it (repeatable)"
    )
    _why(create)
    edit = noun.verb(
        "edit", edit_one, "Change a preset of your own in $EDITOR.", ["EDITOR=nano btmctl presets edit letters"]
    )
    edit.add_argument("key", metavar="KEY", help="its key")
    _why(edit)
    delete = noun.verb(
        "delete",
        delete_one,
        "Delete a preset of your own; undo brings it back.",
        ["btmctl presets delete letters"],
    )
    delete.add_argument("key", metavar="KEY", help="its key")
    _why(delete)
    export = noun.verb(
        "export",
        export_one,
        "Write a preset as a file that can be given away.",
        ["btmctl presets export letters --out letters.toml", "btmctl presets export quick_test"],
    )
    export.add_argument("key", metavar="KEY", help="its key or its name")
    export.add_argument("--out", metavar="F", help="the file (default: standard output)")
    taking = noun.verb(
        "import",
        import_one,
        "Take a preset from a file; its key stands in the file.",
        ["btmctl presets import letters.toml", "btmctl presets import letters.toml --yes"],
    )
    taking.add_argument("file", metavar="FILE", help="as presets export writes it")
    _why(taking)
    history = noun.verb(
        "history",
        show_history,
        "Show who changed a preset of your own, when, how and why, newest first.",
        ["btmctl presets history letters"],
    )
    history.add_argument("key", metavar="KEY", help="its key")
    undo = noun.verb(
        "undo",
        undo_one,
        "Take back the newest change of a preset, or change N; a deletion and an undo too.",
        ["btmctl presets undo letters", "btmctl presets undo letters 41"],
    )
    undo.add_argument("key", metavar="KEY", help="its key")
    undo.add_argument("number", nargs="?", type=int, metavar="N", help="its number in the history")
    undo.add_argument("--force", action="store_true", help="also when a value was changed again since")
    _why(undo)


def _why(parser: Parser) -> None:
    parser.add_argument("--why", metavar="TEXT", default="", help="the reason, kept with the change")


def create_one(arguments: argparse.Namespace, session: Session) -> int:
    body = {
        "made_from": arguments.source,
        "values": words.pairs(arguments.set, "--set"),
        "why": arguments.why,
        "must_be_new": True,
    }
    answer = session.client.put(_address(arguments.key), body)
    if not session.output.as_json:
        session.output.say(f"Made the preset {answer['preset']['key']}.", "green")
        session.output.say(f"btmctl train MODEL DATASET --preset {answer['preset']['key']} uses it.")
        return DONE
    session.output.document(answer)
    return DONE


def edit_one(arguments: argparse.Namespace, session: Session) -> int:
    """A mistake is told and can be mended; what somebody else changed meanwhile is not written over."""
    output, client = session.output, session.client
    require_terminal(session, "btmctl presets export, then import, work without one.")
    # Asked for first: it refuses what cannot be edited before anybody has typed anything.
    client.get(f"{_address(arguments.key)}/history")
    preset = client.get(_address(arguments.key))
    before = text = "".join(client.text(f"{_address(preset['key'])}/file"))
    while True:
        text = edited(text, f"{preset['key']}.toml", session)
        if text == before:
            output.say("Nothing was changed.")
            return DONE
        body = {
            "text": text,
            "source": f"{preset['key']}.toml",
            "why": arguments.why,
            "replace": True,
            "key": preset["key"],
            "expected_version": preset["version"],
        }
        try:
            return _tell(client.post("/preset-definitions", body), output)
        except CommandError as error:
            output.problem(error.what, error.why, error.hint)
            if not session.confirm("Edit it again?", otherwise="--yes"):
                return error.exit_code


def delete_one(arguments: argparse.Namespace, session: Session) -> int:
    # Asked for first: it refuses one that comes with btmd before anybody has answered anything.
    session.client.get(f"{_address(arguments.key)}/history")
    if not session.confirm(f"Delete the preset {arguments.key}?", otherwise="--yes deletes it; undo brings it back."):
        raise Refused("Nothing was deleted.", "", "", code="declined")
    answer = session.client.delete(_address(arguments.key), why=arguments.why or None)
    if session.output.as_json:
        session.output.document(answer)
    else:
        session.output.say(answer["message"])
    return DONE


def export_one(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    text = "".join(session.client.text(f"{_address(arguments.key)}/file"))
    if arguments.out is None:
        if output.as_json:
            output.document({"text": text})
        else:
            output.raw(text)
        return DONE
    _write_new(arguments.out, text, session)
    if output.as_json:
        output.document({"file": os.path.abspath(arguments.out)})
    else:
        output.say(f"Wrote {arguments.out}; btmctl presets import takes it on another machine.", "green")
    return DONE


def _write_new(path: str, text: str, session: Session) -> None:
    if os.path.lexists(path) and not session.confirm(f"Write over {path}?", otherwise="--yes writes over it."):
        raise Refused("Nothing was written.", "", "", code="declined")
    beside = f"{path}.{os.getpid()}.new"
    try:
        with open(beside, "x", encoding="utf-8") as file:
            file.write(text)
        os.replace(beside, path)
    except OSError as problem:
        if os.path.exists(beside):
            os.unlink(beside)
        raise UsageError(f"{path} cannot be written.", problem.strerror or "", "--out takes another path.") from None


def import_one(arguments: argparse.Namespace, session: Session) -> int:
    body = {
        "text": _read(arguments.file),
        "source": os.path.basename(arguments.file)[:255],
        "why": arguments.why,
        "replace": session.yes,
    }
    try:
        answer = session.client.post("/preset-definitions", body)
    except ServerRefused as refused:
        if refused.code != "preset_exists":
            raise
        if not session.confirm(f"{refused.what}. Put this one in its place?", otherwise="--yes puts it in its place."):
            raise Refused("Nothing was imported.", "", "", code="declined") from None
        answer = session.client.post("/preset-definitions", {**body, "replace": True})
    if session.output.as_json or answer["number"] is None or answer["preset"]["version"] > 1:
        return _tell(answer, session.output)
    session.output.say(f"Took the preset {answer['preset']['key']}.", "green")
    return DONE


def _read(path: str) -> str:
    try:
        # A pipe that nobody writes to would be waited for without end.
        with sys.stdin.buffer if path == "-" else open(path, "rb", opener=_without_waiting) as file:
            if path != "-" and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError(f"{path} is no preset.", "It is no regular file.", "- reads from standard input.")
            data = file.read(LARGEST_BYTES + 1)
        if len(data) > LARGEST_BYTES:
            raise UsageError(f"{path} is no preset.", f"It is larger than {LARGEST_BYTES // 1024} kB.", "")
        return data.decode()
    except UnicodeDecodeError:
        raise UsageError(
            f"{path} is no preset.", "It is not UTF-8 text.", "btmctl presets export writes one."
        ) from None
    except OSError as problem:
        hint = "btmctl presets export KEY --out FILE writes one."
        raise UsageError(f"{path} cannot be read.", problem.strerror or "", hint) from None


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def show_history(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    found = session.client.listed(f"{_address(arguments.key)}/history")
    if output.as_json:
        output.document(found)
        return DONE
    for change in found:
        said = f'  "{change["why"]}"' if change["why"] else ""
        by = change["actor"]["name"] or change["actor"]["uid"]
        output.line(f"{change['number']:>6}  {words.moment(change['wall_at'])}  {change['what']} by {by}{said}")
        for one in change["changes"]:
            output.line("        " + in_words(one))
    return DONE


def undo_one(arguments: argparse.Namespace, session: Session) -> int:
    body = {"number": arguments.number, "why": arguments.why, "force": arguments.force}
    answer = session.client.post(f"{_address(arguments.key)}/undo", body)
    if not session.output.as_json:
        session.output.say(f"Took back change {answer['undone']['number']}.")
        if answer["preset"] is None:
            session.output.say(f"The preset {arguments.key} is not there any more.")
            return DONE
    return _tell(answer, session.output)


def _tell(answer: Document, output: Output) -> int:
    if output.as_json:
        output.document(answer)
        return DONE
    preset = answer["preset"]
    if answer["number"] is None:
        output.say("That changes nothing.")
    elif len(answer["changed"]) > 5:
        output.say(f"The preset {preset['key']} is there.", "green")
    else:
        for name in answer["changed"]:
            output.say(f"{preset['key']}: {name} is now {words.value(preset[name])}.")
    return DONE


def _address(key: str) -> str:
    if not key.strip() or "/" in key:
        raise UsageError("This cannot be a preset's key.", f"{key!r} names none.", "btmctl presets list --all")
    return f"/preset-definitions/{key}"
