"""Models that lie on this disk already: the Hugging Face cache, usual folders, and those of other programs.

It looks with the rights of the person who asks, follows no link to a folder, and stops after a while.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from btmctl import demo_model
from btmd.hub_cache import cached_ids, cached_model, hub_cache

DEEPEST = 6
"""Folders below a place that are still looked into."""
MOST_ENTRIES = 100_000
LONGEST_S = 20.0
_WEIGHTS = (".safetensors", "pytorch_model.bin")
_OLLAMA_MODEL = "application/vnd.ollama.image.model"
_MANIFEST_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class FoundModel:
    """``kind``: ``folder`` or ``gguf``. ``place``: whose it is, in words."""

    name: str
    path: str
    kind: str
    place: str
    size_bytes: int

    def as_document(self) -> dict[str, Any]:
        return asdict(self)


class _Budget:
    """How much is still looked at, over all places together."""

    def __init__(self) -> None:
        self.entries = MOST_ENTRIES
        self.deadline = time.monotonic() + LONGEST_S

    def spend(self) -> bool:
        self.entries -= 1
        return self.entries > 0 and time.monotonic() < self.deadline

    @property
    def spent(self) -> bool:
        return self.entries <= 0 or time.monotonic() >= self.deadline


def discover(environment: Mapping[str, str]) -> tuple[list[FoundModel], bool]:
    """All models found, each once, and whether everything was looked at."""
    budget = _Budget()
    found: dict[str, FoundModel] = {}
    of_programs = (*_in_hub_cache(environment), *_of_ollama(environment), *_of_quickstart(environment))
    for model in (*of_programs, *_in_places(environment, budget)):
        found.setdefault(os.path.realpath(model.path), model)
    return sorted(found.values(), key=lambda model: (model.place, model.name)), not budget.spent


def places(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """Folders that are searched, with whose they are."""
    home = environment.get("HOME") or os.path.expanduser("~")
    cache = environment.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")
    data = environment.get("XDG_DATA_HOME") or os.path.join(home, ".local", "share")
    return [
        (os.path.join(home, ".lmstudio", "models"), "LM Studio"),
        (os.path.join(cache, "lm-studio", "models"), "LM Studio"),
        (environment.get("LLAMA_CACHE") or os.path.join(cache, "llama.cpp"), "llama.cpp"),
        (os.path.join(data, "nomic.ai", "GPT4All"), "GPT4All"),
        (os.path.join(data, "btmd", "models"), "fetched by btmctl"),
        (os.path.join(data, "models"), "a folder for models"),
        *((os.path.join(home, name), "a folder for models") for name in ("models", "Models", "llm", "LLM")),
        ("/usr/local/share/models", "a folder for models"),
        ("/opt/models", "a folder for models"),
    ]


def _in_hub_cache(environment: Mapping[str, str]) -> Iterator[FoundModel]:
    cache = hub_cache(environment)
    for hub_id in cached_ids(cache):
        folder = cached_model(cache, hub_id)
        if folder is not None and (size_bytes := _weights_bytes(folder)):
            yield FoundModel(hub_id, str(folder), "folder", "Hugging Face cache", size_bytes)


def _of_quickstart(environment: Mapping[str, str]) -> Iterator[FoundModel]:
    path = demo_model.find(environment)
    if path is not None:
        yield FoundModel(demo_model.NAME, path, "gguf", "quickstart", os.path.getsize(path))


def _in_places(environment: Mapping[str, str], budget: _Budget) -> Iterator[FoundModel]:
    seen: set[tuple[int, int]] = set()
    for root, place in places(environment):
        yield from _walk(Path(root), place, DEEPEST, budget, seen)


def _walk(folder: Path, place: str, depth: int, budget: _Budget, seen: set[tuple[int, int]]) -> Iterator[FoundModel]:
    try:
        status = os.stat(folder)
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    # Two names of one folder (Models and models where case does not count, or a bind mount) are one.
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    names = {entry.name for entry in entries}
    if "config.json" in names and (size_bytes := _weights_bytes(folder)):
        yield FoundModel(folder.name, str(folder), "folder", place, size_bytes)
        return
    for entry in entries:
        if not budget.spend():
            return
        if entry.name.endswith(".gguf") and not entry.name.startswith("mmproj") and _is_whole(entry.name):
            if size_bytes := _size_bytes(entry):
                yield FoundModel(entry.name.removesuffix(".gguf"), entry.path, "gguf", place, size_bytes)
        elif depth > 0 and not entry.name.startswith(".") and _is_folder(entry):
            yield from _walk(Path(entry.path), place, depth - 1, budget, seen)


def _is_whole(name: str) -> bool:
    """Not a part of a model that was cut into several files, which cannot be converted."""
    return "-of-" not in name


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _size_bytes(entry: "os.DirEntry[str]") -> int:
    """0 for what is no file or cannot be looked at."""
    try:
        return entry.stat().st_size if entry.is_file() else 0
    except OSError:
        return 0


def _weights_bytes(folder: Path) -> int:
    """Size of the weight files; the files themselves may be links, as they are in the hub's cache."""
    try:
        with os.scandir(folder) as entries:
            return sum(_size_bytes(entry) for entry in entries if entry.name.endswith(_WEIGHTS))
    except OSError:
        return 0


def _of_ollama(environment: Mapping[str, str]) -> Iterator[FoundModel]:
    """Ollama keeps a manifest for each name; the one layer of the model type is a GGUF file among its blobs."""
    home = environment.get("HOME") or os.path.expanduser("~")
    named = environment.get("OLLAMA_MODELS")
    roots = [named] if named else [os.path.join(home, ".ollama", "models"), "/usr/share/ollama/.ollama/models"]
    for root in roots:
        for manifest in _manifests(Path(root) / "manifests"):
            digest = _model_digest(manifest)
            blob = Path(root) / "blobs" / digest.replace(":", "-")
            if digest and blob.is_file():
                name = f"{manifest.parent.name}:{manifest.name}"
                yield FoundModel(name, str(blob), "gguf", "Ollama", blob.stat().st_size)


def _manifests(folder: Path) -> list[Path]:
    """Files four levels down: registry, owner, model, tag."""
    try:
        return sorted(path for path in folder.glob("*/*/*/*") if path.is_file())[:1000]
    except OSError:
        return []


def _model_digest(manifest: Path) -> str:
    try:
        if manifest.stat().st_size > _MANIFEST_BYTES:
            return ""
        for layer in json.loads(manifest.read_bytes())["layers"]:
            digest = str(layer["digest"])
            if layer["mediaType"] == _OLLAMA_MODEL and digest.replace(":", "").isalnum():
                return digest
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
    return ""
