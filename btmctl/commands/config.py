"""btmctl config: the daemon's settings."""

import argparse

from btmctl import words
from btmctl.errors import DONE
from btmctl.parser import Noun
from btmctl.session import Session


def command() -> Noun:
    noun = Noun("config", "Every setting has a type, a range and a default; every change is recorded.")
    noun.verb(
        "list", show_all, "List all settings with their values.", ["btmctl config list", "btmctl config list --json"]
    )
    noun.verb("get", show, "Show one setting.", ["btmctl config get training.seed"]).add_argument("key", metavar="KEY")
    change = noun.verb(
        "set",
        change_some,
        "Change settings; all of them or none.",
        [
            "btmctl config set training.seed=7",
            'btmctl config set checkpoints.keep=1 disk.reserve_gb=2 --why "small disk"',
        ],
    )
    change.add_argument("changes", nargs="+", metavar="KEY=VALUE")
    change.add_argument("--why", metavar="TEXT", default="", help="the reason, kept with the change")
    return noun


def show_all(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    settings = session.client.get("/settings")
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
    answer = session.client.patch("/settings", {"changes": changes, "why": arguments.why})
    if output.as_json:
        output.document(answer)
        return DONE
    for key in changes:
        setting = session.client.get(f"/settings/{key}")
        output.say(f"{key} is now {words.value(setting['value'])}.")
        if setting.get("needs_restart"):
            output.say("It takes effect when the daemon starts the next time.", "yellow")
    return DONE


def _checked(changes: list[str]) -> list[str]:
    words.pairs(changes, "config set")
    return changes
