"""btmctl jobs export: take what a training made away, written with the rights of who asks."""

import argparse
import os
from typing import TYPE_CHECKING

from btmctl import words
from btmctl.client import Document
from btmctl.errors import DONE, Refused
from btmctl.parser import Noun
from btmctl.session import Session

if TYPE_CHECKING:
    from btmctl.exported_files import Target

FORMATS = ("adapter", "merged", "gguf", "ollama", "card")
FOLDERS = ("adapter", "merged", "ollama")


def add_verbs(noun: Noun) -> None:
    export = noun.verb(
        "export",
        run,
        "Write what a training made as files of yours. Each is read again and compared with the trained model first.",
        [
            "btmctl jobs export last --format adapter",
            "btmctl jobs export last --format gguf --quant f16 --out ~/models",
            "btmctl jobs export last --format ollama",
        ],
    )
    add = export.add_argument
    add("job", metavar="J", help="id, beginning of an id, name, or last")
    add(
        "--format",
        choices=FORMATS,
        required=True,
        help="adapter: peft's files; merged: a whole model in safetensors; gguf: one file for llama.cpp and others; "
        "ollama: that with a Modelfile; card: the model card alone",
    )
    add("--out", metavar="DIR", help="a folder to put it in, or the new folder or file itself (default: here)")
    add("--quant", choices=("q8_0", "f16"), default="q8_0", help="numbers in a GGUF file (default: q8_0)")
    add("--system", metavar="TEXT", default="", help="of an Ollama model: what it is told before each conversation")


def run(arguments: argparse.Namespace, session: Session) -> int:
    from btmctl.exported_files import fetch, target_of

    kind, output = arguments.format, session.output
    body: Document = {"format": kind, "quant": arguments.quant, "system": arguments.system}
    prepared = session.client.post("/exports", {**body, "job_id": arguments.job, "dry_run": True})
    body["job_id"] = prepared["job_id"]
    for dataset in prepared["consent_needed"]:
        _allow(dataset, prepared["job_id"], session)
    target = target_of(_file_name(kind, prepared["name"], arguments.quant), arguments.out, is_folder=kind in FOLDERS)
    target.require_room(prepared["size_bytes"])
    replaced = target.in_the_way()
    if replaced and not session.confirm(
        f"{_listed(replaced)} of {target.shown} would be overwritten. Go on?",
        otherwise="--yes overwrites; --out names another place.",
    ):
        raise Refused("Nothing was written.", f"{target.shown} is there already.", "--out OTHER", code="declined")
    made = session.work("/exports", body)
    try:
        written = fetch(made, target, session)
    finally:
        session.client.delete(f"/exports/{made['export_id']}")
    _tell(made, target, written, session)
    if output.as_json:
        command = _ollama(made, target) if kind == "ollama" else None
        output.document({**made, "path": target.path, "written": written, **({"command": command} if command else {})})
    return DONE


def _allow(dataset: str, job: str, session: Session) -> None:
    """Nobody has allowed it yet: ask whether it may be. Raises Refused."""
    command = f"btmctl consent grant {dataset} --scope export"
    allowed = session.confirm(
        f"May what {job} learned from the dataset {dataset} be taken away? The answer is recorded with your name.",
        otherwise=f"{command} allows it.",
    )
    if not allowed:
        raise Refused("Nothing was exported.", "Nobody allowed it.", command, code="consent_missing")
    session.client.put(f"/consents/{dataset}", {"scopes": ["export"]})


def _file_name(kind: str, name: str, quant: str) -> str:
    if kind == "gguf":
        return f"{name}-{quant}.gguf"
    return f"{name}-card.md" if kind == "card" else f"{name}-{kind}"


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} others"


def _tell(made: Document, target: "Target", written: list[str], session: Session) -> None:
    output = session.output
    if output.as_json:
        return
    size = sum(one["size_bytes"] for one in made["files"])
    output.say(f"Written: {len(written)} {'file' if len(written) == 1 else 'files'}, {words.size(size)}.", "green")
    check = made.get("check")
    if check:
        output.say(
            f"Read again and compared: it finds the same next token the likeliest as the trained model at "
            f"{check['agreement']:.2f} % of {check['positions']:,} places in {check['prompts']} texts."
        )
    if made["format"] == "ollama":
        output.say("Ollama takes it up with:")
        output.line(_ollama(made, target))
        return
    output.line(target.path)


def _ollama(made: Document, target: "Target") -> str:
    """The whole line, ready to be pasted."""
    import shlex

    name = made.get("ollama_name") or made["name"]
    return shlex.join(["ollama", "create", str(name), "-f", os.path.join(target.path, "Modelfile")])
