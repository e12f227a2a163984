"""One file for a report of a fault: what there is to know about the installation, and nothing of anybody's data."""

import contextlib
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

from btmctl import places
from btmctl.client import Document
from btmctl.doctor.finding import Finding, worst
from btmctl.doctor.installation import required
from btmctl.doctor.known import Known
from btmctl.doctor.packing import Member
from btmctl.doctor.redaction import HIDDEN, Redactor, own_words, texts_in, usual_roots
from btmctl.errors import CommandError
from btmd import __version__

LAST_LINES = 500
LOG_S = 20.0
MOST_LOG_BYTES = 4_000_000
NAMES = frozenset(
    {"name", "display_name", "source", "source_name", "source_path", "path", "folder", "file_name", "backup_path"}
    | {"model_path", "description", "custom_description", "purpose", "purposes", "columns", "columns_as", "mapping"}
    | {"subject", "account", "user", "group", "owner"}
)
"""Under these keys stand words of a person."""
IDS = frozenset({"job_id", "dataset_id", "model_id", "version_id", "backup_id"})
OWN_PRESETS: tuple[str, Document] = ("/preset-definitions", {"origin": "own"})
LISTS = (*((path, {}) for path in ("/datasets", "/models", "/jobs", "/backups", "/access", "/consents")), OWN_PRESETS)
README = """This is a report about an installation of btmd, made by `btmctl doctor --bundle`.

It was written to this file and sent nowhere. Look through it, and pass it on only if you want to.

{listing}

Not in it: rows of data, names of datasets, models, trainings or presets of your own, answers of models, keys, and what
you set as texts. Your home folder is written ~, other folders by what they are for, users as <user>, this machine as
<host>. Of every word that btmd itself does not use, "{hidden}" is left.
"""


def gather(known: Known, findings: list[Finding]) -> list[Member]:
    """Everything that goes into the bundle, with what is personal taken out."""
    redactor = _redactor(known)
    members = [
        _json("doctor.json", "what the doctor found", redactor.document(_answer(findings))),
        _json("versions.json", "versions of btmd, Python, the system and the packages", _versions(known)),
        _json("hardware.json", "processor, memory, disk, GPUs", _hardware(known, redactor)),
        _json("health.json", "what the daemon says of itself", redactor.document(known.health)),
        _json("settings.json", "settings; of texts that were set, only how long they are", _settings(known)),
        _json("events.json", "how many events of each type were recorded", _event_counts(known, redactor)),
        Member("daemon.log", f"the last {LAST_LINES} lines of the daemon's log", _log(known, redactor)),
    ]
    listing = "\n".join(f"{one.name:14} {one.about}" for one in members)
    readme = README.format(listing=listing, hidden=HIDDEN)
    return [Member("README.txt", "what is in here", readme.encode()), *members]


def _redactor(known: Known) -> Redactor:
    """Knows the names of all that the daemon keeps, where it can be asked."""
    root = Path(__file__).parents[2]
    documents: list[Any] = [{"name": one["value"]} for one in known.settings.values() if not one.get("is_default")]
    for path, query in LISTS:
        with contextlib.suppress(CommandError):
            if known.client is not None:
                documents.append(known.client.listed(path, **query))
    with contextlib.suppress(CommandError):
        if known.client is not None:
            documents += [{"name": one["key"]} for one in known.client.listed(OWN_PRESETS[0], **OWN_PRESETS[1])]
    return Redactor(
        own_words(root / "btmd", root / "btmctl")
        | {part for name, _ in _packages() for part in name.lower().split("-")},
        usual_roots(known.state_dir, known.config_dir, known.sockets),
        _names(set(texts_in(documents, NAMES)), known),
        set(texts_in(documents, IDS)),
    )


def _names(found: set[str], known: Known) -> Iterator[str]:
    """What was found, and of a path that is nobody's but a person's what they call it: its last part."""
    ours = (str(known.state_dir), str(known.config_dir))
    for name in found:
        if not name.startswith(ours):
            yield from {name, os.path.basename(name.rstrip("/")), Path(name).stem} - {""}


def _answer(findings: list[Finding]) -> Document:
    return {"state": worst(findings), "findings": [one.as_document() for one in findings]}


def _versions(known: Known) -> Document:
    return {
        "btmctl": __version__,
        "daemon": known.health.get("version"),
        "python": sys.version,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "distribution": _distribution(),
        "libc": " ".join(platform.libc_ver()),
        "packages": dict(_packages()),
    }


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""


def _packages() -> Iterator[tuple[str, str | None]]:
    try:
        requirements = metadata.requires("btmd") or []
    except metadata.PackageNotFoundError:
        return
    for name, _ in required(requirements):
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            yield name, None


def _hardware(known: Known, redactor: Redactor) -> Document:
    """Without the programs on the GPUs, and without the numbers by which a GPU is known everywhere."""
    found = known.hardware
    if not found:
        from btmd.hardware import probed_values

        found = probed_values(known.state_dir)
    found = json.loads(json.dumps(found))
    for gpu in found["gpus"]:
        gpu["processes"] = len(gpu["processes"])
        gpu.pop("uuid", None)
        gpu["mig_instances"] = len(gpu["mig_instances"])
    return dict(redactor.document(found, redactor.known_names))


def _settings(known: Known) -> Document:
    """Numbers and switches as they are; a text only where it is the default, which everybody knows."""
    return {key: _setting_value(one) for key, one in known.settings.items()}


def _setting_value(one: Document) -> Any:
    value = one.get("value")
    if one.get("is_default") or isinstance(value, (bool, int, float)):
        return value
    return f"<set, {len(str(value))} characters>"


def _event_counts(known: Known, redactor: Redactor) -> Document:
    """Read from the database itself, without waiting for anybody; only where it may be read."""
    path = known.state_dir / "btmd.db"
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=5)
    except sqlite3.Error as error:
        return {"not_read": redactor.text(str(error))}
    with contextlib.closing(connection):
        try:
            counted = connection.execute("SELECT type, count(*) FROM events GROUP BY type ORDER BY type").fetchall()
            ticks = connection.execute("SELECT count(*) FROM ticks").fetchone()[0]
        except sqlite3.Error as error:
            return {"not_read": redactor.text(str(error))}
    types: dict[str, int] = {}
    for name, count in counted:
        # A type that a newer btmd recorded, or somebody else, is no word of ours.
        name = redactor.text(str(name))
        types[name] = types.get(name, 0) + count
    return {"types": types, "progress_reports": ticks}


def _log(known: Known, redactor: Redactor) -> bytes:
    lines = _quickstart_lines(known) if _is_quickstart(known) else _journal_lines()
    if not lines:
        return b"No log could be read: it is in the system's journal, or where the daemon was started.\n"
    return "".join(redactor.log_line(line) + "\n" for line in lines[-LAST_LINES:]).encode()


def _is_quickstart(known: Known) -> bool:
    return str(known.state_dir) == places.quickstart_state(known.environment)


def _quickstart_lines(known: Known) -> list[str]:
    try:
        with (known.state_dir / "daemon.log").open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MOST_LOG_BYTES))
            return file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def _journal_lines() -> list[str]:
    program = shutil.which("journalctl")
    if program is None:
        return []
    command = [program, "--no-pager", "--quiet", "--no-hostname", "--output=short-iso", f"--lines={LAST_LINES}"]
    command += ["SYSLOG_IDENTIFIER=btmd", "+", "_SYSTEMD_USER_UNIT=btmd.service", "+", "_SYSTEMD_UNIT=btmd.service"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=LOG_S, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout[-MOST_LOG_BYTES:].decode("utf-8", "replace").splitlines()


def _json(name: str, about: str, value: Any) -> Member:
    return Member(name, about, json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n")
