"""btmctl presets: ready-made sets of training values."""

import argparse
import os

from btmctl import words
from btmctl.commands import ownership, preset_changes
from btmctl.errors import DONE, ServerRefused
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
    best = noun.verb(
        "recommend",
        recommend,
        "Say what each preset would mean on this machine, for one model if it is named, and which suits best.",
        ["btmctl presets recommend", "btmctl presets recommend --model smollm2"],
    )
    best.add_argument("--model", metavar="M", help="id, name or folder of a model")
    preset_changes.add_verbs(noun)
    ownership.add_verbs(noun, "preset")
    return noun


def show_all(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    client = session.client
    found = client.listed("/preset-definitions") if arguments.all else client.get("/presets")
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


def recommend(arguments: argparse.Namespace, session: Session) -> int:
    output, client = session.output, session.client
    model = arguments.model
    if model and model.startswith((".", os.sep, "~")):
        model = os.path.abspath(os.path.expanduser(model))
    best = client.get(f"/presets/{model}") if model else None
    try:
        found = client.get("/presets", model_id=model)
    except ServerRefused as refused:
        # A model that is not here is told of by its name alone, as a guess.
        if refused.code != "model_not_found":
            raise
        found = client.get("/presets")
    if output.as_json:
        output.document({"best": best, "presets": found})
        return DONE
    if best is not None:
        output.paragraph(f"For {model}: {best['name']} ({best['key']}). {best['verdict']}")
        if not best["trainable"]:
            # What the presets would take would only seem to be about this model.
            return DONE
        output.line()
    rows = [(preset["key"], preset["training_type"], preset["verdict"]) for preset in found]
    output.table(("key", "type", "on this machine"), rows, wrap=True)
    return DONE


def show(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    preset = session.client.get(f"/preset-definitions/{arguments.key}")
    if output.as_json:
        output.document(preset)
        return DONE
    output.fields((name.replace("_", " "), words.value(value)) for name, value in preset.items())
    return DONE
