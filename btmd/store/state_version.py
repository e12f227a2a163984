"""Which code made a state: kept beside it, so that no other code reads it."""

import hashlib
import sys
from pathlib import Path

import msgspec

from btmd import __version__
from btmd.domain.decider import Decider


def state_version(decider: Decider) -> int:
    """A number that changes with the release, the state's fields, and the source that makes the state.

    A snapshot made by other code is not read; the rows are.
    """
    digest = hashlib.sha256(__version__.encode())
    digest.update(msgspec.json.encode(msgspec.json.schema(decider.state_type), order="sorted"))
    source = sys.modules[decider.evolve.__module__].__file__
    if source is not None:
        digest.update(Path(source).read_bytes())
    return int.from_bytes(digest.digest()[:6], "big")
