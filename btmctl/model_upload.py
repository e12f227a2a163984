"""A model into the keeping of a daemon that runs as another user: its files are read here, with the person's rights."""

import os
import stat
from typing import NamedTuple

from btmctl import words
from btmctl.client import Document
from btmctl.errors import NoSuchFile, Refused, ServerRefused
from btmctl.session import Session
from btmctl.upload import content_of, open_file, upload
from btmd import model_files

PLACE = "/model-files"


class ModelFile(NamedTuple):
    """A file by the name that it has in the model."""

    name: str
    path: str
    size_bytes: int


def send_model(path: str, session: Session, *, name: str | None, convert: bool) -> Document:
    """Send what of the model is needed, unless it is there already, and register it.

    Raises NoSuchFile, CommandError for what may not be read, and what the daemon refuses.
    """
    client, output = session.client, session.output
    require_usable(path, session, convert=convert)
    files = chosen(path, convert=convert)
    body: Document = {"path": path, "convert": convert, **({"name": name} if name else {})}
    wanted = [{"name": one.name, "size_bytes": one.size_bytes} for one in files]
    # Before anything is read or sent: what would be refused afterwards all the same.
    client.post(PLACE, {**body, "files": wanted})
    total = sum(one.size_bytes for one in files)
    output.say(
        f"The daemon runs as another user: {words.size(total)} are sent to it, and kept until the model is removed."
    )
    sent = []
    for one in files:
        sha256 = content_of(one.path, session)
        upload(one.path, session, sha256, place=PLACE)
        sent.append({"name": one.name, "sha256": sha256})
    return session.work("/models", {**body, "files": sent})


def require_usable(path: str, session: Session, *, convert: bool) -> None:
    """Look at the headers first: what cannot be trained is not sent. Raises ServerRefused as the daemon would."""
    from btmctl.model_choice import surveyed

    (found,) = surveyed([path])
    if found["facts"] or (convert and found["code"] == "pickled_weights"):
        return
    from btmd.errors import ModelRefused, all_errors

    kind = all_errors().get(found["code"], ModelRefused)
    hint = "btmctl models discover shows the models on this disk."
    if found["code"] == "pickled_weights":
        hint = f"btmctl models add {path} --convert reads the tensors alone and keeps them as safetensors."
    problem = {"title": kind.title, "detail": found["problem"], "code": found["code"], "hint": hint}
    raise ServerRefused(problem, kind.status)


def chosen(path: str, *, convert: bool) -> list[ModelFile]:
    """The files of a model that are needed: a GGUF file alone, else configuration, tokenizer and weights.

    Raises NoSuchFile, Refused, CommandError for what may not be read.
    """
    if not os.path.isdir(path):
        name = os.path.basename(path)
        return [_file(name if model_files.is_gguf(name) else "model.gguf", path)]
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        raise NoSuchFile(f"{path} cannot be read.", f"{error.strerror}.", f"ls -ld {path} shows who may.") from None
    weights = _weights(path, names, model_files.INDEX, model_files.SINGLE)
    if not weights and convert:
        weights = _weights(path, names, model_files.PICKLED_INDEX, model_files.PICKLED_SINGLE)
    beside = [name for name in names if model_files.is_beside(name) and os.path.isfile(os.path.join(path, name))]
    return [_file(name, os.path.join(path, name)) for name in (*beside, *weights)]


def _weights(folder: str, names: list[str], index: str, single: str) -> list[str]:
    """The files that the index names, with it, or the single one. Raises Refused."""
    if index not in names:
        return [single] if single in names else []
    import json

    with open_file(os.path.join(folder, index)) as file:
        try:
            named = sorted(set(json.load(file)["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            named = []
    odd = [name for name in named if name not in names]
    if odd or not named:
        raise Refused(
            f"{folder} is no whole model.",
            f"{index} names {odd[0]}, which is not there." if odd else f"{index} cannot be read.",
            "Fetch the missing files.",
            code="model_damaged",
        )
    return [index, *named]


def _file(name: str, path: str) -> ModelFile:
    with open_file(path) as file:
        held = os.fstat(file.fileno())
    assert stat.S_ISREG(held.st_mode)
    return ModelFile(name, path, held.st_size)
