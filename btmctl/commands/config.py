"""btmctl config: the daemon's settings."""

import argparse

from btmctl import words
from btmctl.commands import settings_edit, settings_history
from btmctl.commands.settings_history import tell_changed
from btmctl.errors import DONE
from btmctl.parser import Noun
from btmctl.session import Session

WHICH = "a setting, as config list names it"


def command() -> Noun:
    noun = Noun("config", "Every setting has a type, a range and a default; every change is recorded.")
    listing = noun.verb(
        "list",
        show_all,
        "List all settings with their values, now or at a moment.",
        ["btmctl config list", "btmctl config list --at 'yesterday 18:00'", "btmctl config list --json"],
    )
    listing.add_argument("--at", metavar="T", type=words.at, help="as they were at this time, or after this event")
    noun.verb("get", show, "Show one setting.", ["btmctl config get training.seed"]).add_argument(
        "key", metavar="KEY", help=WHICH
    )
    change = noun.verb(
        "set",
        change_some,
        "Change settings; all of them or none.",
        [
            "btmctl config set training.seed=7",
            'btmctl config set checkpoints.keep=1 disk.reserve_gb=2 --why "small disk"',
            "btmctl config set training.threads=2 --confirm 10m",
        ],
    )
    change.add_argument("changes", nargs="+", metavar="KEY=VALUE", help="a setting and what it is to be")
    change.add_argument("--why", metavar="TEXT", default="", help="the reason, kept with the change")
    change.add_argument(
        "--confirm", metavar="TIME", type=words.duration_s, help="taken back after this (10m, 90s, 2h) unless confirmed"
    )
    unset = noun.verb("unset", unset_some, "Take defaults again.", ["btmctl config unset training.seed"])
    unset.add_argument("keys", nargs="+", metavar="KEY", help=WHICH)
    unset.add_argument("--why", metavar="TEXT", default="", help="the reason, kept with the change")
    editing = noun.verb(
        "edit", settings_edit.edit, "Change settings in $EDITOR, as one change.", ["EDITOR=nano btmctl config edit"]
    )
    editing.add_argument("--why", metavar="TEXT", default="", help="the reason, kept with the change")
    settings_history.add_verbs(noun)
    return noun


def show_all(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    settings = session.client.get("/settings", at=arguments.at)
    if output.as_json:
        output.document(settings)
        return DONE
    output.table(
        ("setting", "value", "", "meaning"),
        [
            (
                one["key"],
                words.value(one["value"]),
                f"{one.get('unit') or ''}{'' if one.get('is_default') else ' *'}".strip(),
                one["meaning"],
            )
            for one in settings
        ],
    )
    if not all(one["is_default"] for one in settings):
        output.say("* changed from its default")
    return DONE


def show(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    setting = session.client.get(f"/settings/{arguments.key}")
    if output.as_json:
        output.document(setting)
        return DONE
    output.line(words.value(setting["value"]))
    if output.is_terminal:
        default = "its default" if setting.get("is_default") else f"default: {words.value(setting['default'])}"
        output.say(f"{setting['meaning']} It is {setting['allowed']}; {default}.")
    return DONE


def change_some(arguments: argparse.Namespace, session: Session) -> int:
    # Sent as typed: the setting's own type decides what "1" or "yes" means.
    changes = {key: text for key, text in (one.split("=", 1) for one in _checked(arguments.changes))}
    output = session.output
    body = {"changes": changes, "why": arguments.why}
    if arguments.confirm is not None:
        body["confirm_s"] = arguments.confirm
    answer = session.client.patch("/settings", body)
    if answer.get("confirm_by") and not output.as_json:
        output.say(f"Taken back at {words.moment(answer['confirm_by'])}, unless: btmctl config confirm", "yellow")
    return tell_changed(answer, output)


def unset_some(arguments: argparse.Namespace, session: Session) -> int:
    changes = dict.fromkeys(arguments.keys)
    return tell_changed(session.client.patch("/settings", {"changes": changes, "why": arguments.why}), session.output)


def _checked(changes: list[str]) -> list[str]:
    words.pairs(changes, "config set", "btmctl config set training.seed=7")
    return changes
