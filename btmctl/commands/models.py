"""btmctl models: models on this machine."""

import argparse

from btmctl import sources, words
from btmctl.client import Document
from btmctl.errors import DONE
from btmctl.parser import Noun
from btmctl.session import Session


def command() -> Noun:
    noun = Noun("models", "A model is a folder in Hugging Face form with safetensors, or a single GGUF file.")
    noun.verb("list", show_all, "List the models that were added.", ["btmctl models list"])
    add = noun.verb(
        "add",
        add_one,
        "Add a model; a GGUF file is converted once. Folders are used where they lie.",
        ["btmctl models add ~/models/SmolLM2-135M", "btmctl models add model.Q4_1.gguf --name smol"],
    )
    add.add_argument("path", metavar="PATH", help="a model folder or a GGUF file")
    add.add_argument("--name", metavar="NAME", help="what to call it (default: the name of the folder or file)")
    noun.verb("show", show, "Show what is known of one model.", ["btmctl models show smol"]).add_argument(
        "model", metavar="M", help="id, beginning of an id, or name"
    )
    return noun


def show_all(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    found = session.client.get("/models")
    if output.as_json:
        output.document(found)
        return DONE
    if not found:
        output.say("No model was added yet. btmctl models add PATH adds one.")
        return DONE
    rows = []
    for one in found:
        facts = one.get("facts") or {}
        size = words.size(facts.get("size_bytes"))
        rows.append(
            (one["model_id"], words.count(facts.get("parameters")), facts.get("dtype"), size, one.get("source"))
        )
    output.table(("model", "parameters", "dtype", "size", "from"), rows)
    return DONE


def add_one(arguments: argparse.Namespace, session: Session) -> int:
    added = sources.add_model(arguments.path, session, name=arguments.name)
    if session.output.as_json:
        session.output.document(added)
    else:
        session.output.say(f"Added {added['model_id']}.", "green")
        _fields(added, session)
    return DONE


def show(arguments: argparse.Namespace, session: Session) -> int:
    found = session.client.get(f"/models/{arguments.model}")
    if session.output.as_json:
        session.output.document(found)
    else:
        _fields(found, session)
    return DONE


def _fields(model: Document, session: Session) -> None:
    facts = model.get("facts") or {}
    chat = "yes, with its own chat template" if facts.get("has_chat_template") else "no chat template"
    session.output.fields(
        [
            ("model", model["model_id"]),
            ("name", model.get("name") if model.get("name") != model["model_id"] else ""),
            ("from", model.get("source")),
            ("converted to", model.get("folder") if model.get("converted") else ""),
            ("architecture", facts.get("architecture")),
            ("parameters", words.count(facts.get("parameters"))),
            ("dtype", facts.get("dtype")),
            ("size", words.size(facts.get("size_bytes"))),
            ("context", f"{facts.get('context_length')} tokens"),
            ("chat", chat),
            ("was quantised", facts.get("quantised")),
            ("licence", facts.get("license")),
        ]
    )
