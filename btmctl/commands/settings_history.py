"""The history of the settings: btmctl config history, diff, blame, undo, schema."""

import argparse

from btmctl import words
from btmctl.client import Document
from btmctl.errors import DONE
from btmctl.output import Output
from btmctl.parser import Noun
from btmctl.session import Session


def add_verbs(noun: Noun) -> None:
    history = noun.verb(
        "history",
        show_history,
        "Show who changed what, when and why, newest first.",
        ["btmctl config history", "btmctl config history training.seed", "btmctl config history --limit 5 --json"],
    )
    history.add_argument("key", nargs="?", metavar="K", help="only this setting")
    history.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many changes (default: 50)")
    diff = noun.verb(
        "diff",
        show_difference,
        "Show what differs between two moments; without --from, what differs from the defaults.",
        ["btmctl config diff", "btmctl config diff --from 'yesterday 18:00' --to now", "btmctl config diff --from 41"],
    )
    diff.add_argument("--from", dest="since", metavar="T", type=words.at, default="0", help="a time, or an event")
    diff.add_argument("--to", metavar="T", type=words.at, default="now", help="a time, or an event (default: now)")
    blame = noun.verb(
        "blame", show_blame, "Show who set each value.", ["btmctl config blame", "btmctl config blame training.seed"]
    )
    blame.add_argument("key", nargs="?", metavar="K", help="only this setting")
    undo = noun.verb(
        "undo",
        undo_change,
        "Take back the newest change, or change N of the history; an undo can be undone.",
        ["btmctl config undo", "btmctl config undo 41"],
    )
    undo.add_argument("number", nargs="?", type=words.change_number, metavar="N", help="its number in the history")
    undo.add_argument("--why", metavar="TEXT", default="", help="the reason, kept with the change")
    undo.add_argument("--force", action="store_true", help="also when a setting was changed again since")
    confirm = noun.verb(
        "confirm",
        confirm_change,
        "Keep a change that was made with --confirm.",
        ["btmctl config confirm", "btmctl config confirm 41"],
    )
    confirm.add_argument(
        "number", nargs="?", type=words.change_number, metavar="N", help="its number (default: the newest that waits)"
    )
    noun.verb("schema", show_schema, "Show what can be set, to what.", ["btmctl config schema --json"])


def show_history(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    found = session.client.listed("/history", most=arguments.limit, key=arguments.key)
    if output.as_json:
        output.document(found)
        return DONE
    if not found:
        output.say("Nothing was changed yet.")
    for change in found:
        said = f'  "{change["why"]}"' if change["why"] else ""
        by = change["actor"]["name"] or change["actor"]["uid"]
        waits = f"  (taken back at {words.moment(change['confirm_by'])})" if change.get("confirm_by") else ""
        output.line(f"{change['number']:>6}  {words.moment(change['wall_at'])}  by {by}{said}{waits}")
        for one in change["changes"]:
            output.line("        " + in_words(one))
    return DONE


def show_difference(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    found = session.client.get("/history/diff", to=arguments.to, **{"from": arguments.since})
    if output.as_json:
        output.document(found)
        return DONE
    if not found["changes"]:
        output.say("Nothing differs.")
    for one in found["changes"]:
        output.line(in_words(one))
    return DONE


def show_blame(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    found = session.client.get("/history/blame", key=arguments.key)
    if output.as_json:
        output.document(found)
        return DONE
    rows = []
    for one in found:
        by = one["set_by"]
        who = (by["number"], words.moment(by["wall_at"]), by["actor"]["name"], by["why"]) if by else ("", "", "", "")
        rows.append((one["key"], words.value(one["value"]), *who))
    output.table(("setting", "value", "change", "when", "who", "why"), rows)
    return DONE


def undo_change(arguments: argparse.Namespace, session: Session) -> int:
    body = {"number": arguments.number, "why": arguments.why, "force": arguments.force}
    answer = session.client.post("/settings/undo", body)
    if not session.output.as_json:
        session.output.say(f"Took back change {answer['undone']['number']}.")
    return tell_changed(answer, session.output)


def confirm_change(arguments: argparse.Namespace, session: Session) -> int:
    answer = session.client.post("/settings/confirm", {"number": arguments.number})
    if session.output.as_json:
        session.output.document(answer)
    else:
        session.output.say(answer["message"], "green")
    return DONE


def show_schema(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    found = session.client.get("/settings/schema")
    if output.as_json:
        output.document(found)
        return DONE
    rows = [
        (one["key"], words.value(one["default"]), one["allowed"], "yes" if one["needs_restart"] else "", one["meaning"])
        for one in found
    ]
    output.table(("setting", "default", "allowed", "restart", "meaning"), rows)
    return DONE


def tell_changed(answer: Document, output: Output) -> int:
    """What a change did."""
    if output.as_json:
        output.document(answer)
        return DONE
    if answer["number"] is None:
        output.say("That changes nothing.")
    for setting in answer["settings"]:
        default = " again, its default" if setting["is_default"] and setting["key"] in answer["changed"] else ""
        output.say(f"{setting['key']} is now {words.value(setting['value'])}{default}.")
        if setting["needs_restart"] and setting["key"] in answer["changed"]:
            output.say("It takes effect when the daemon starts the next time.", "yellow")
    return DONE


def in_words(one: Document) -> str:
    """A setting's change in a line."""
    before, after = (words.value(one[end]) if one[end] is not None else "default" for end in ("before", "after"))
    return f"{one['key']}: {before} -> {after}"
