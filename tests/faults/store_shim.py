"""Compiles the shim between a process and its disk (``store_shim.c``), and reads what it wrote down."""

import os
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SOURCE = Path(__file__).with_name("store_shim.c")
_HEAD = struct.Struct("<cIIQ")


def build_shim(folder: Path) -> Path:
    """The shared object, compiled into ``folder``."""
    shim = folder / "store_shim.so"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", shim, _SOURCE, "-ldl", "-lpthread"], check=True)
    return shim


def shim_environment(
    shim: Path,
    *,
    sync_delay_us: int = 0,
    prefix: Path | None = None,
    log: Path | None = None,
    fail_while: Path | None = None,
    full_while: Path | None = None,
) -> dict[str, str]:
    """The environment of a process that runs behind the shim; see ``store_shim.c``."""
    environment = {**os.environ, "LD_PRELOAD": str(shim), "SHIM_SYNC_DELAY_US": str(sync_delay_us)}
    paths = {"SHIM_PREFIX": prefix, "SHIM_LOG": log, "SHIM_FAIL": fail_while, "SHIM_FULL": full_while}
    for name, path in paths.items():
        if path is not None:
            environment[name] = str(path)
    return environment


@dataclass(frozen=True, slots=True)
class Change:
    """One change below SQLite. ``kind`` as in ``store_shim.c``; ``number`` is an offset or a size in bytes."""

    kind: str
    path: str
    rest: bytes
    number: int


def read_changes(log: Path) -> Iterator[Change]:
    data = log.read_bytes()
    position = 0
    while position < len(data):
        kind, path_length, rest_length, number = _HEAD.unpack_from(data, position)
        start = position + _HEAD.size
        middle = start + path_length
        position = middle + rest_length
        yield Change(kind.decode(), data[start:middle].decode(), data[middle:position], number)
