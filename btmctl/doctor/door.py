"""The socket, and the folder it lies in: nobody may put another in its place."""

import os
import shlex
import stat
from collections.abc import Iterator

from btmctl import words
from btmctl.doctor.finding import Finding, attention, broken, ok
from btmctl.doctor.known import Known

LONGEST_PATH = 107
"""Bytes; the kernel takes no longer path for a socket."""


def check_door(known: Known) -> Iterator[Finding]:
    """The socket of the daemon that answers, or those that are there."""
    for path in known.sockets:
        if len(os.fsencode(path)) > LONGEST_PATH:
            why = f"The system takes at most {LONGEST_PATH} bytes."
            yield broken("socket", f"Its path is too long: {path}.", why, "btmd --socket PATH")
        elif os.path.lexists(path):
            yield check_socket(path, known)
            yield check_socket_folder(os.path.dirname(path), known)


def check_socket(path: str, known: Known) -> Finding:
    quoted = shlex.quote(path)
    try:
        found = os.lstat(path)
    except OSError as error:
        return broken("socket", f"{path} cannot be looked at: {error.strerror}.", "", f"ls -l {quoted}")
    if not stat.S_ISSOCK(found.st_mode):
        return broken("socket", f"{path} is no socket.", "The daemon does not start on it.", f"ls -l {quoted}")
    who, mode = words.user(found.st_uid), stat.S_IMODE(found.st_mode)
    if known.client is None:
        why = "Nobody answers there: it was left behind, and the next start takes it."
        return attention("socket", f"{path} of {who} is there.", why, "btmctl daemon start")
    if mode & 0o022:
        return ok("socket", f"{path} of {who} lets in whoever was granted a role.")
    return ok("socket", f"{path} of {who} lets in nobody else.")


def check_socket_folder(folder: str, known: Known) -> Finding:
    about, quoted = "socket folder", shlex.quote(folder)
    try:
        found = os.stat(folder)
    except OSError as error:
        return broken(about, f"{folder} cannot be looked at: {error.strerror}.", "", f"ls -ld {quoted}")
    who, mode = words.user(found.st_uid), stat.S_IMODE(found.st_mode)
    if found.st_uid not in (known.daemon_uid, 0):
        why = "Its owner can put a socket of their own there, and read what you send."
        return broken(about, f"{folder} belongs to {who}.", why, "btmd --socket PATH")
    if mode & 0o022 and not mode & stat.S_ISVTX:
        why = "Others can put a socket of their own there, and read what you send."
        return broken(about, f"{folder} can be written by others (mode {mode:04o}).", why, f"chmod go-w {quoted}")
    if mode & 0o002:
        why = "While no daemon runs, others can put a socket of their own there."
        return attention(about, f"{folder} is open to everybody (mode {mode:04o}).", why, "btmd --socket PATH")
    return ok(about, f"{folder} of {who} can be written by nobody else.")
