"""The daemon's folders: there, of the right user, closed to others, with room; and the database in one of them."""

import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from btmctl import words
from btmctl.doctor.finding import Finding, attention, broken, ok
from btmctl.doctor.known import Known
from btmctl.errors import DAMAGED
from btmd.hardware.disk import read_disk

FULL_BYTES = 4 * 1024 * 1024
"""With less than this, nothing can be relied on to be recorded."""
LITTLE_BYTES = 2_000_000_000
"""With less than this, hardly any training fits."""
_SQLITE = b"SQLite format 3\0"


def check_folders(known: Known) -> Iterator[Finding]:
    yield check_folder("state folder", known.state_dir, known, others=0o077)
    yield check_folder("settings folder", known.config_dir, known, others=0o022)
    yield from check_room(known.state_dir)
    if known.is_ours:
        yield from check_keys(known)
        if known.client is None:
            yield from check_database(known)


def check_folder(about: str, path: Path, known: Known, *, others: int) -> Finding:
    """``others`` are the bits of the mode that nobody else should have."""
    quoted = shlex.quote(str(path))
    try:
        found = path.stat()
    except FileNotFoundError:
        if "state_dir" in known.health and about == "state folder":
            why = "The daemon goes on until it has to open a file anew; what it kept is gone."
            return broken(about, f"{path} is gone.", why, f"btmctl recover --from {quoted}/backups")
        return ok(about, f"{path} is not made yet; the first start of the daemon makes it.")
    except OSError as error:
        if not known.is_ours:
            return ok(about, f"{path} is the daemon's, and closed to you.")
        return broken(about, f"{path} cannot be looked at: {error.strerror}.", "", f"ls -ld {quoted}")
    if not stat.S_ISDIR(found.st_mode):
        return broken(about, f"{path} is no folder.", "The daemon cannot keep anything there.", f"ls -ld {quoted}")
    if found.st_uid not in (known.daemon_uid, 0 if others == 0o022 else known.daemon_uid):
        why = "The daemon cannot write there, or somebody else can read what it keeps."
        remedy = f"sudo chown -R {_name(known.daemon_uid)} {quoted}"
        return broken(about, f"{path} belongs to {_name(found.st_uid)}.", why, remedy)
    if found.st_mode & others:
        why = "Other users of this machine can look into it." if others & 0o055 else "Other users can change it."
        mode = stat.S_IMODE(found.st_mode)
        return attention(about, f"{path} is open to others (mode {mode:04o}).", why, f"chmod go-rwx {quoted}")
    if known.is_ours and not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        why = "The daemon has to write there."
        return broken(about, f"{path} cannot be written.", why, f"chmod u+rwx {quoted}")
    return ok(about, f"{path} belongs to {_name(found.st_uid)} and is closed to others.")


def check_room(folder: Path) -> Iterator[Finding]:
    """Free room on the disk of the folder, and whether a database is safe on it."""
    try:
        disk = read_disk(folder)
    except OSError as error:
        yield broken("disk", f"It cannot be asked about its room: {error.strerror}.", "", "df -h")
        return
    free = words.size(disk.free_bytes)
    if disk.free_bytes < FULL_BYTES:
        yield broken("disk", f"It is full: {free} are free.", "Nothing can be recorded.", "btmctl disk clean")
    elif disk.free_bytes < LITTLE_BYTES:
        why = "Few trainings fit into that, and the daemon waits once it is full."
        yield attention("disk", f"{free} are free.", why, "btmctl disk")
    else:
        yield ok("disk", f"{free} are free.")
    if disk.in_memory:
        why = "All that the daemon keeps is gone after a restart of the machine."
        yield attention("disk", f"The state folder is in memory ({disk.filesystem}).", why, "btmd --state-dir PATH")
    elif disk.on_network:
        why = "A database on a network disk can be damaged when the connection breaks."
        yield attention(
            "disk", f"The state folder is on another machine ({disk.filesystem}).", why, "btmd --state-dir PATH"
        )


def check_keys(known: Known) -> Iterator[Finding]:
    """The keys of the backups, as files."""
    folder = known.state_dir / "keys"
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:
        return
    open_to_others = [path for path in (folder, *files) if path.stat().st_mode & 0o077]
    if open_to_others:
        named = " ".join(shlex.quote(str(path)) for path in open_to_others)
        why = "Who reads them can open every backup."
        yield broken("backup keys", f"{len(open_to_others)} of them are open to others.", why, f"chmod go-rwx {named}")
    elif files:
        yield ok("backup keys", "They are there and closed to others.")


def check_database(known: Known) -> Iterator[Finding]:
    """What can be told of the database while no daemon has it open."""
    path, backups = known.state_dir / "btmd.db", known.state_dir / "backups"
    recover = f"btmctl recover --from {shlex.quote(str(backups))}"
    try:
        with path.open("rb") as file:
            begin = file.read(len(_SQLITE))
    except FileNotFoundError:
        if (backups / "manifests").is_dir():
            yield broken(
                "database", "It is gone.", "There are backups of it; nothing is begun in its place.", recover,
                exit_code=DAMAGED,
            )  # fmt: skip
        return
    except OSError as error:
        yield broken("database", f"It cannot be read: {error.strerror}.", "", f"ls -l {shlex.quote(str(path))}")
        return
    if begin != _SQLITE:
        yield broken("database", "It is no database any more.", "It was damaged.", recover, exit_code=DAMAGED)
        return
    yield ok("database", "It is there.")
    if (known.state_dir / "failed-start.json").exists():
        yield attention(
            "last start",
            "The daemon ended with an error after its last start.",
            "The next start takes back a change of the settings, if that was the cause.",
            "btmctl daemon start",
        )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
