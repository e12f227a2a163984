"""Pieces of TOML as text: single values, and values put into a document that tomlkit holds."""

from collections.abc import Sequence
from typing import Any

import msgspec


def toml(value: object) -> str:
    """A number, a text, yes/no or a list of them as TOML writes it."""
    # A JSON string is a TOML one, but for DEL, which TOML wants escaped.
    text = repr(value) if isinstance(value, float) else msgspec.json.encode(value).decode()
    return text.replace("\x7f", "\\u007f")


def put(document: Any, path: Sequence[str], value: object) -> None:
    """Set a value, making the tables on the way to it."""
    import tomlkit

    *tables, name = path
    for one in tables:
        if one not in document:
            document[one] = tomlkit.table()
        document = document[one]
    document[name] = value


def remove(document: Any, path: Sequence[str]) -> None:
    """Take a value out. Raises KeyError."""
    *tables, name = path
    for one in tables:
        document = document[one]
    del document[name]
