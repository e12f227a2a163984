"""btmctl models discover and recommend: what lies on this disk, and what of it suits this machine."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from btmctl import words
from btmctl.client import Document
from btmctl.discovery import FoundModel, discover
from btmctl.errors import DONE, FAILED, CommandError
from btmctl.session import Session

MOST_SURVEYED = 200
_VERDICTS = {"fits": "fits", "slow": "slow here", "too_large": "too large", "no_template": "template cannot be learned"}


def discover_all(arguments: argparse.Namespace, session: Session) -> int:
    """List the models on this disk; the daemon is not needed for it."""
    output = session.output
    output.progress(None, "Looking for models")
    found, complete = discover(session.environment)
    output.end_progress()
    if output.as_json:
        output.document([model.as_document() for model in found])
        return DONE
    if not found:
        output.say("No model was found in the usual places. btmctl models pull ORG/NAME fetches one.")
        return DONE
    rows = [(one.name, one.place, one.kind, words.size(one.size_bytes), one.path) for one in found]
    output.table(("model", "where", "kind", "size", "path"), rows)
    if not complete:
        output.say("There is more than was looked at: name a folder to btmctl models add.")
    output.say("btmctl models add PATH adds one; btmctl models recommend says which suit this machine.")
    return DONE


def recommend(arguments: argparse.Namespace, session: Session) -> int:
    """Rank registered and discovered models by what this machine can do with them."""
    output = session.output
    client = session.client
    output.progress(None, "Looking for models")
    found, _ = discover(session.environment)
    looked_at = surveyed([model.path for model in found[:MOST_SURVEYED]]) if found else []
    output.end_progress()
    by_path = {model.path: model for model in found}
    usable = [{"name": by_path[one["path"]].name, **_only(one, "path", "facts")} for one in looked_at if one["facts"]]
    refused = [(by_path[one["path"]], one) for one in looked_at if not one["facts"]]
    body: Document = {"models": usable}
    if arguments.dataset:
        body["dataset_id"] = arguments.dataset
    judged = client.post("/models/verdicts", body)
    judged += [_refusal(model, one) for model, one in refused]
    if output.as_json:
        output.document(judged)
        return DONE
    if not judged:
        output.say("No model is known and none was found. btmctl models pull ORG/NAME fetches one.")
        return DONE
    rows = []
    for one in judged:
        verdict = _VERDICTS.get(one["verdict"], "cannot be used")
        rows.append((one["model_id"] or one["name"], words.count(one.get("parameters")), verdict, one["reason"]))
    output.table(("model", "parameters", "verdict", "why"), rows, wrap=True)
    return DONE


def _only(one: Document, *names: str) -> Document:
    return {name: one[name] for name in names}


def _refusal(model: FoundModel, one: Document) -> Document:
    return {
        "name": model.name,
        "model_id": None,
        "path": model.path,
        "verdict": one["code"],
        "reason": one["problem"],
        "training_types": [],
        "parameters": None,
        "has_chat_template": None,
    }


def surveyed(paths: list[str]) -> list[Document]:
    """Facts of each model, read by a child with the rights of this person. Raises CommandError."""
    request = {"what": "survey", "paths": paths}
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    command = [sys.executable, "-P", "-m", "btmd.inspection"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        # Standard input stays open while it works: its end would tell the child that nobody listens any more.
        child.stdin.write(json.dumps(request).encode() + b"\n")
        child.stdin.flush()
        last: Any = {}
        for line in child.stdout:
            last = json.loads(line)
    models = last.get("result", {}).get("models")
    if models is None:
        raise CommandError(
            "The models that were found could not be read.",
            str(last.get("error", {}).get("detail", "The process that reads them ended.")),
            "btmctl models list shows those that were added.",
            code="child_failed",
            exit_code=FAILED,
        )
    return list(models)
