"""settings.toml: its text and the values in it, read without following links, replaced without losing a save."""

import ctypes
import errno
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from btmd.domain.settings import SCHEMA, Setting, Value, setting
from btmd.errors import BtmdError, InvalidValue
from btmd.job_folder import sync_folder
from btmd.toml_text import put, remove, toml

LARGEST_BYTES = 1024 * 1024
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_HEAD = """\
# Settings of btmd. Edit and save: the daemon takes the change at once and keeps it in its history.
# What is not set here has its default. A wrong value changes nothing; `btmctl status` shows line and reason.
"""


class SettingsFileWrong(InvalidValue):
    """The text is not usable; ``line`` counts from 1, None where no line is to blame."""

    code, title = "settings_file_wrong", "The settings file cannot be used"

    def __init__(self, detail: str, line: int | None = None) -> None:
        super().__init__(detail, hint="The last good settings stay in force.")
        self.line = line


@dataclass(frozen=True, slots=True)
class Content:
    """A file's bytes and whose it is."""

    data: bytes
    uid: int
    gid: int
    mode: int


def read_content(path: Path) -> Content | None:
    """What stands in the file, None where there is none. Raises SettingsFileWrong for no plain file, OSError."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            raise SettingsFileWrong(f"{path} is a link; links are not followed.") from None
        raise
    with os.fdopen(file, "rb") as opened:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST_BYTES:
            raise SettingsFileWrong(f"{path} is no file of settings.")
        return Content(opened.read(LARGEST_BYTES + 1), about.st_uid, about.st_gid, stat.S_IMODE(about.st_mode))


def read_values(data: bytes) -> dict[str, Value]:
    """The values that the text sets. Raises SettingsFileWrong, also for an empty text: that is no wish for defaults."""
    try:
        text = data.decode()
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
    lines = [_HEAD]
    table = ""
    for one in SCHEMA:
        section, _, name = one.key.rpartition(".")
        if section != table:
            table = section
            lines.append(f"\n[{section}]\n")
        lines.append(f"# {_about(one)}\n")
        if one.key in values:
            lines.append(f"{name} = {toml(values[one.key])}\n")
        else:
            lines.append(f"# {name} = {toml(one.default)}\n")
    return "".join(lines)


def _about(one: Setting) -> str:
    restart = " Takes effect at the next start." if one.needs_restart else ""
    return f"{one.meaning} It is {one.range_text()}.{restart}"


def replace_content(path: Path, expected: Content | None, data: bytes) -> bool:
    """Put ``data`` in the place of ``expected`` (None: of no file); False where something else stands there by now.

    The two are exchanged and what comes out is looked at, so that a save between look and write is not lost.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.new")
    aside.unlink(missing_ok=True)
    mode = 0o600 if expected is None else expected.mode
    file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(file, "wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(file)
        if expected is None:
            try:
                os.link(aside, path)
            except FileExistsError:
                return False
        elif not _exchange(aside, path, expected):
            return False
        sync_folder(path.parent)
        return True
    finally:
        aside.unlink(missing_ok=True)


def _exchange(aside: Path, path: Path, expected: Content) -> bool:
    if not _swap(aside, path):
        # A file system that cannot exchange: look as late as possible.
        found = read_content(path)
        if found is None or found.data != expected.data:
            return False
        os.replace(aside, path)
        return True
    if aside.is_symlink() or not aside.is_file() or aside.read_bytes() != expected.data:
        _swap(aside, path)
        return False
    return True


def _swap(one: Path, other: Path) -> bool:
    """Exchange two files; False where the file system cannot. Raises OSError."""
    exchange = _renameat2()
    if exchange is None:
        return False
    if exchange(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS):
        return False
    raise OSError(number, os.strerror(number), str(other))


@cache
def _renameat2() -> Any:
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
