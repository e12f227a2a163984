"""btmctl models: models on this machine."""

import argparse

from btmctl import sources, words
from btmctl.client import Document
from btmctl.commands import ownership
from btmctl.errors import DAMAGED, DONE, UsageError
from btmctl.parser import Noun
from btmctl.session import Session

WAYS = {"lora_adaptation": "LoRA", "qlora_adaptation": "QLoRA", "fine_tuning": "full"}


def command() -> Noun:
    noun = Noun("models", "A model is a folder in Hugging Face form with safetensors, or a single GGUF file.")
    noun.verb("list", show_all, "List the models that were added.", ["btmctl models list"])
    add = noun.verb(
        "add",
        add_one,
        "Add a model; a GGUF file is converted once. Folders are used where they lie, or sent where they cannot be.",
        ["btmctl models add ~/models/SmolLM2-135M", "btmctl models add model.Q4_1.gguf --name smol"],
    )
    add.add_argument("path", metavar="PATH", help="a model folder or a GGUF file")
    add.add_argument("--name", metavar="NAME", help="what to call it (default: the name of the folder or file)")
    add.add_argument(
        "--convert", action="store_true", help="convert pickled weights (pytorch_model.bin) to safetensors, safely"
    )
    noun.verb(
        "discover",
        _discover,
        "Find models on this disk: the Hugging Face cache, usual folders, Ollama, LM Studio, llama.cpp.",
        ["btmctl models discover", "HF_HOME=/data/hf btmctl models discover"],
    )
    ranking = noun.verb(
        "recommend",
        _recommend,
        "Rank added and discovered models by what this machine can do with them.",
        ["btmctl models recommend", "btmctl models recommend --dataset faq"],
    )
    ranking.add_argument("--dataset", metavar="D", help="the dataset it is for: its longest rows count")
    fetching = noun.verb(
        "pull",
        _pull,
        "Fetch a model from a hub (HF_ENDPOINT), check every file and add it. Asks before the network is used.",
        ["btmctl models pull HuggingFaceTB/SmolLM2-135M-Instruct", "btmctl models pull ORG/NAME --to ~/models/name"],
    )
    fetching.add_argument("model", metavar="ORG/NAME", help="the model's id on the hub")
    fetching.add_argument("--to", metavar="DIR", help="where the files go (default: below ~/.local/share/btmd/models)")
    fetching.add_argument("--file", metavar="NAME", help="fetch this one file, a GGUF")
    _of_one(noun.verb("show", show, "Show what is known of one model.", ["btmctl models show smol"]))
    change = noun.verb(
        "set",
        set_values,
        "Set training values that plans for this model begin with; KEY= takes one away.",
        ["btmctl models set smol learning_rate=1e-4 lora_r=32", "btmctl models set smol lora_r="],
    )
    _of_one(change)
    change.add_argument("values", metavar="K=V", nargs="+", help="as with train --set")
    _of_one(
        noun.verb(
            "verify",
            verify,
            "Read every byte of a model's files; name those that are not as they were recorded the first time.",
            ["btmctl models verify smol"],
        )
    )
    _of_one(
        noun.verb(
            "remove",
            remove,
            "Forget a model; your own files stay, a converted or sent copy goes.",
            ["btmctl models remove smol"],
        )
    )
    ownership.add_verbs(noun, "model")
    return noun


def _of_one(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="M", help="id, beginning of an id, or name")


def show_all(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    found = session.client.listed("/models")
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
        ways = one.get("compatibility") or ()
        fits = [WAYS.get(way["training_type"], way["training_type"]) for way in ways if way["fits"]]
        number = words.count(facts.get("parameters"))
        rows.append(
            (one["model_id"], number, facts.get("dtype"), size, ", ".join(fits) or "nothing", one.get("source"))
        )
    output.table(("model", "parameters", "dtype", "size", "fits here", "from"), rows)
    return DONE


def _discover(arguments: argparse.Namespace, session: Session) -> int:
    from btmctl.model_choice import discover_all

    return discover_all(arguments, session)


def _recommend(arguments: argparse.Namespace, session: Session) -> int:
    from btmctl.model_choice import recommend

    return recommend(arguments, session)


def _pull(arguments: argparse.Namespace, session: Session) -> int:
    from btmctl.model_pull import pull

    return pull(arguments, session)


def add_one(arguments: argparse.Namespace, session: Session) -> int:
    added = sources.add_model(arguments.path, session, name=arguments.name, convert=arguments.convert)
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


def set_values(arguments: argparse.Namespace, session: Session) -> int:
    settings: Document = {}
    for given in arguments.values:
        key, mark, value = given.partition("=")
        if not mark or not key:
            raise UsageError(f"{given!r} sets nothing.", "It must be KEY=VALUE.", "btmctl models set --help")
        settings[key] = value or None
    changed = session.client.patch(f"/models/{arguments.model}", {"settings": settings})
    if session.output.as_json:
        session.output.document(changed)
    else:
        _fields(changed, session)
    return DONE


def verify(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    found = session.client.run(f"/models/{arguments.model}/verify", {}, output.progress)
    output.end_progress()
    if output.as_json:
        output.document(found)
    elif found["verdict"] == "recorded":
        output.say(f"{found['files']} files ({words.size(found['size_bytes'])}) are recorded; later ones are compared.")
    elif found["verdict"] == "unchanged":
        output.say(
            f"All {found['files']} files ({words.size(found['size_bytes'])}) are as they were recorded.", "green"
        )
    if found["verdict"] != "changed":
        return DONE
    for what in ("changed", "missing", "added"):
        for name in found[what]:
            output.say(f"{what}: {name}", "red")
    output.problem(
        "The model is not the one that was recorded.",
        "Somebody changed its files, or the disk did.",
        f"If it was meant to be: btmctl models remove {found['model_id']}, then add it again.",
    )
    return DAMAGED


def remove(arguments: argparse.Namespace, session: Session) -> int:
    answer = session.client.delete(f"/models/{arguments.model}")
    if session.output.as_json:
        session.output.document(answer)
    else:
        session.output.say(answer["message"])
    return DONE


def _fields(model: Document, session: Session) -> None:
    facts = model.get("facts") or {}
    chat = "yes, with its own chat template" if facts.get("has_chat_template") else "no chat template"
    session.output.fields(
        [
            ("model", model["model_id"]),
            ("name", model.get("name") if model.get("name") != model["model_id"] else ""),
            ("from", model.get("source")),
            ("kept in", model.get("folder") if model.get("converted") else ""),
            ("architecture", facts.get("architecture")),
            ("parameters", words.count(facts.get("parameters"))),
            ("dtype", facts.get("dtype")),
            ("size", words.size(facts.get("size_bytes"))),
            ("context", f"{facts.get('context_length')} tokens"),
            ("chat", facts.get("template_problem") or chat),
            ("was quantised", facts.get("quantised")),
            ("licence", facts.get("license")),
            ("adapters on", ", ".join(facts.get("linear_layers") or ())),
            ("settings", ", ".join(f"{key}={_shown(value)}" for key, value in (model.get("settings") or {}).items())),
            *(
                (
                    WAYS.get(one["training_type"], one["training_type"]),
                    f"{'fits' if one['fits'] else 'no'}: {one['reason']}",
                )
                for one in model.get("compatibility") or ()
            ),
            ("verified", _verification(model.get("verification") or {})),
        ]
    )


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _verification(found: Document) -> str:
    if not found.get("verified_at"):
        return f"recorded {words.moment(found['recorded_at'])}" if found.get("recorded_at") else ""
    differing = [name for what in ("changed", "missing", "added") for name in found.get(what, ())]
    verdict = f"NOT as recorded: {', '.join(differing)}" if differing else "as recorded"
    return f"{words.moment(found['verified_at'])}: {verdict}"
