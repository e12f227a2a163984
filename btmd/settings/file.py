"""settings.toml: its text and the values in it."""

import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from btmd.domain.settings_schema import SCHEMA, Setting, Value, setting
from btmd.errors import BtmdError
from btmd.files.toml_text import put, remove, toml
from btmd.files.watched_file import ENCODING, FileWrong

_HEAD = """\
# Settings of btmd. Edit and save: the daemon takes the change at once and keeps it in its history.
# What is not set here has its default. A wrong value changes nothing; `btmctl status` shows line and reason.
"""


class SettingsFileWrong(FileWrong):
    code, title = "settings_file_wrong", "The settings file cannot be used"


def read_values(data: bytes) -> dict[str, Value]:
    """The values that the text sets. Raises SettingsFileWrong, also for an empty text: that is no wish for defaults."""
    try:
        text = data.decode(ENCODING)
        parsed = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise SettingsFileWrong("The file is not UTF-8 text.", data.count(b"\n", 0, error.start) + 1) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        at = re.search(r"at line (\d+)", str(error))
        line = int(at[1]) if at else max(1, len(text.splitlines()))
        raise SettingsFileWrong(f"This is not TOML: {error}.", line) from None
    if not text.strip():
        raise SettingsFileWrong("The file is empty; that does not mean that all settings take their defaults.")
    values: dict[str, Value] = {}
    for key, given in _flat(parsed, ""):
        try:
            values[key] = setting(key).parse(given)
        except BtmdError as error:
            raise SettingsFileWrong(f"{error.detail} {error.hint}", line_of(text, key)) from None
    return values


def _flat(table: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        key = f"{before}{name}"
        if isinstance(value, dict):
            yield from _flat(value, f"{key}.")
        else:
            yield key, value


def line_of(text: str, key: str) -> int | None:
    """The line that sets ``key``, counted from 1."""
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = re.fullmatch(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(#.*)?", line)
        if header:
            table = re.sub(r"[\s\"']", "", header[1]) + "."
            continue
        name = re.match(r"\s*([\w.\"'\s-]+?)\s*=", line)
        if name and table + re.sub(r"[\s\"']", "", name[1]) == key:
            return number
    return None


def written(text: str | None, values: Mapping[str, Value]) -> str:
    """``text`` with exactly these values set, its comments and order kept; None makes a new text."""
    if text is None:
        return rendered(values)
    import tomlkit

    try:
        document: Any = tomlkit.parse(text)
        present = dict(_flat(document.unwrap(), ""))
        for key in present.keys() - values.keys():
            remove(document, key.split("."))
        for key, value in values.items():
            if key not in present or present[key] != value or type(present[key]) is not type(value):
                put(document, key.split("."), value)
        made: str = tomlkit.dumps(document)
        if read_values(made.encode()) == dict(values):
            return made
    except (tomlkit.exceptions.TOMLKitError, SettingsFileWrong, KeyError, TypeError, ValueError):
        # Tables in a form that cannot be edited in place: below, they are written anew.
        pass
    return rendered(values)


def rendered(values: Mapping[str, Value]) -> str:
    """A new text with these values and, as comments, everything else that can be set."""
    tables: dict[str, list[str]] = {}
    for one in SCHEMA:
        table, _, name = one.key.rpartition(".")
        lines = tables.setdefault(table, [f"\n[{table}]\n"])
        lines.append(f"# {_about(one)}\n")
        if one.key in values:
            lines.append(f"{name} = {toml(values[one.key])}\n")
        else:
            lines.append(f"# {name} = {toml(one.default)}\n")
    return _HEAD + "".join(itertools.chain.from_iterable(tables.values()))


def _about(one: Setting) -> str:
    restart = " Takes effect at the next start." if one.needs_restart else ""
    return f"{one.meaning} It is {one.range_text()}.{restart}"
