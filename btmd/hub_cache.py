"""The local cache of the Hugging Face libraries: where it lies, and which folder an id such as ``org/name`` stands for.

Layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_PREFIX: Final = "models--"


def is_hub_id(text: str) -> bool:
    """Whether this has the form of an id on the hub, ``org/name``."""
    return _ID.fullmatch(text) is not None and ".." not in text


def hub_cache(environment: Mapping[str, str]) -> Path:
    """The cache's folder, by the variables that the libraries read; it need not exist."""
    if named := environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE"):
        return Path(os.path.expanduser(named)).absolute()
    home = environment.get("HF_HOME")
    if not home:
        base = environment.get("XDG_CACHE_HOME") or os.path.join(environment.get("HOME") or "~", ".cache")
        home = os.path.join(base, "huggingface")
    return Path(os.path.expanduser(home)).absolute() / "hub"


def cached_ids(cache: Path) -> list[str]:
    """The ids of all models in the cache, sorted."""
    try:
        names = [entry.name for entry in os.scandir(cache) if entry.name.startswith(_PREFIX)]
    except OSError:
        return []
    ids = (name.removeprefix(_PREFIX).replace("--", "/", 1) for name in names)
    return sorted(one for one in ids if is_hub_id(one))


def cached_model(cache: Path, hub_id: str) -> Path | None:
    """The snapshot folder of a model: that of its main branch, else the newest; None if there is none with files."""
    if not is_hub_id(hub_id):
        return None
    folder = cache / (_PREFIX + hub_id.replace("/", "--"))
    try:
        revision = (folder / "refs" / "main").read_text(encoding="ascii").strip()
        if re.fullmatch(r"[0-9a-f]{6,64}", revision) and (folder / "snapshots" / revision / "config.json").is_file():
            return folder / "snapshots" / revision
    except (OSError, UnicodeDecodeError):
        pass
    try:
        found = [path for path in (folder / "snapshots").iterdir() if (path / "config.json").is_file()]
        return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)
    except OSError:
        return None
