"""Answers a shell that completes a word: names and ids of what the daemon has. Quick, silent, and never a failure."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from btmctl import places
from btmctl.client import Client
from btmctl.errors import CommandError

ANSWER_S = 1.0
"""How long a daemon may let a person wait who has pressed Tab."""
MOST = 500
# By kind: where the daemon lists them, and what of each can be typed. What stands for several is left out.
KINDS: dict[str, tuple[str, dict[str, object], tuple[str, ...], tuple[str, ...]]] = {
    "jobs": ("/jobs", {"limit": MOST}, ("job_id", "name"), ("last",)),
    "datasets": ("/datasets", {"limit": MOST}, ("dataset_id", "name"), ()),
    "models": ("/models", {"limit": MOST}, ("model_id", "name"), ()),
    "presets": ("/preset-definitions", {"limit": MOST}, ("key",), ()),
    "own-presets": ("/preset-definitions", {"origin": "own", "limit": MOST}, ("key",), ()),
    "settings": ("/settings", {}, ("key",), ()),
    "backups": ("/backups", {}, ("backup_id",), ("last",)),
}


def answer(given: Sequence[str], environment: Mapping[str, str]) -> int:
    """Print what begins so, one a line: ``KIND [PREFIX [SOCKET]]``; nothing where no daemon answers. Returns 0."""
    kind, prefix, socket = [*given, "", "", ""][:3]
    if kind in KINDS:
        for word in _matching(kind, prefix, socket or None, environment):
            sys.stdout.write(word + "\n")
    return 0


def _matching(kind: str, prefix: str, socket: str | None, environment: Mapping[str, str]) -> list[str]:
    path, query, fields, besides = KINDS[kind]
    found = _listed(path, query, socket, environment)
    if not found:
        return []
    counted = Counter(word for one in found for word in _words(one, fields))
    # A line break or an escape in a name would be taken for another word, or steer the terminal.
    words = [word for word in (*counted, *besides) if counted[word] <= 1 and word.isprintable()]
    return sorted({word for word in words if word.startswith(prefix)})[:MOST]


def _words(one: dict[str, Any], fields: tuple[str, ...]) -> set[str]:
    """A thing whose name is its id is still one thing."""
    return {str(one[field]) for field in fields if one.get(field)}


def _listed(
    path: str, query: dict[str, object], socket: str | None, environment: Mapping[str, str]
) -> list[dict[str, Any]]:
    for candidate in places.candidates(socket, environment):
        try:
            found = Client(candidate).get(path, timeout_s=ANSWER_S, **query)
        except CommandError:
            # Not there, busy, or not for this person: a completion has no place to say so.
            continue
        return found if isinstance(found, list) else []
    return []
