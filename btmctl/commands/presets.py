"""btmctl presets: ready-made sets of training values."""

import argparse

from btmctl import words
from btmctl.commands import preset_changes
from btmctl.errors import DONE
from btmctl.parser import Noun
from btmctl.session import Session


def command() -> Noun:
    noun = Noun("presets", "A preset is a named set of training values; --set changes single ones.")
    listing = noun.verb(
        "list", show_all, "List the presets for this machine.", ["btmctl presets list", "btmctl presets list --all"]
    )
    listing.add_argument("--all", action="store_true", help="also those that this machine is too small for")
    noun.verb("show", show, "Show every value of one preset.", ["btmctl presets show quick_test"]).add_argument(
        "key", metavar="KEY", help="its key or its name"
    )
    preset_changes.add_verbs(noun)
    return noun


def show_all(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    found = session.client.get("/preset-definitions" if arguments.all else "/presets")
    if output.as_json:
        output.document(found)
        return DONE
    output.table(
        ("key", "name", "origin", "difficulty", "type", "time", "for"),
        [
            (
                preset.get("key"),
                preset["name"],
                preset.get("origin"),
                preset["difficulty"],
                preset["training_type"],
                preset["estimated_time"],
                preset.get("verdict") or ", ".join(preset["recommended_for"]),
            )
            for preset in found
        ],
    )
    return DONE


def show(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    preset = session.client.get(f"/preset-definitions/{arguments.key}")
    if output.as_json:
        output.document(preset)
        return DONE
    output.fields((name.replace("_", " "), words.value(value)) for name, value in preset.items())
    return DONE
