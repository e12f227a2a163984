"""Modules of btmd as programs of their own: how they are called, and where they find the rest of it."""

import os
import sys
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parents[1])
_FIRST_FILE = Path(__file__).with_name("__init__.py")


def own_command(module: str, *arguments: str) -> list[str]:
    """The words that run ``module`` with this Python.

    -P: a file called torch.py where the daemon happens to stand must not be imported.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def own_environment() -> dict[str, str]:
    """This process's environment, in which the same btmd is found wherever it was started from."""
    path = os.pathsep.join(part for part in (_ROOT, os.environ.get("PYTHONPATH", "")) if part)
    return {**os.environ, "PYTHONPATH": path}


def _identity() -> tuple[int, int] | None:
    try:
        about = os.stat(_FIRST_FILE)
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns


_LOADED = _identity()


def is_replaced() -> bool:
    """Whether other files lie where this process came from: it was upgraded, or is just being."""
    return _identity() != _LOADED
