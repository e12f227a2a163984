"""A file into the daemon's content store: read with the asking user's rights, sent once, gone on with when cut off."""

import hashlib
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from btmctl.client import TOO_MANY, wait
from btmctl.errors import NOT_PERMITTED, CommandError, ConnectionLost, NoSuchFile, ServerRefused, Unreachable
from btmctl.output import Output
from btmctl.session import Session

PIECE_BYTES = 1024 * 1024
ATTEMPTS = 5
_STANDARD_INPUT = "/dev/stdin"


def upload(path: str, session: Session, sha256: str = "", *, place: str = "/contents") -> str:
    """Bring the file's bytes to the daemon unless it has them, and return their SHA-256, if it is not known yet.

    ``place`` is where the daemon takes them: contents of datasets, or files of models.

    Raises NoSuchFile, CommandError for a file that may not be read, and what the client raises.
    """
    client, output, name = session.client, session.output, os.path.basename(path)
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        sha256 = sha256 or _hash(file, size, name, output)
        attempt = 0
        while (offset := client.stored_bytes(sha256, place)) is not None:
            file.seek(offset)
            try:
                client.upload(sha256, _pieces(file, offset, size, name, output), offset, size - offset, place)
                break
            except ServerRefused as error:
                if error.status != TOO_MANY:
                    raise
                wait()
            except (ConnectionLost, Unreachable):
                # The daemon keeps what has arrived; a restart of it costs only the rest.
                attempt += 1
                if attempt == ATTEMPTS:
                    raise
                session.reconnect(output.progress_text)
    output.end_progress()
    return sha256


def upload_bytes(content: bytes, session: Session) -> str:
    """Bring a small content to the daemon unless it has it, and return its SHA-256. Raises what the client raises."""
    sha256 = hashlib.sha256(content).hexdigest()
    offset = session.client.stored_bytes(sha256)
    if offset is not None:
        session.client.upload(sha256, [content], 0, len(content))
    return sha256


def content_of(path: str, session: Session) -> str:
    """The SHA-256 of the file's bytes. Raises NoSuchFile, CommandError for a file that may not be read."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        sha256 = _hash(file, size, os.path.basename(path), session.output)
    session.output.end_progress()
    return sha256


def given_file(path: str) -> str:
    """The path as it was typed, or where it leads: what the shell takes from a file has that file's name."""
    path = os.path.expanduser(path)
    if path == "-" and not os.path.exists(path):
        path = _STANDARD_INPUT
    if path.startswith(("/dev/", "/proc/")) and os.path.isfile(path):
        return os.path.realpath(path)
    return path


def open_file(path: str) -> BinaryIO:
    """The file for reading. Raises NoSuchFile and CommandError in words."""
    try:
        # Opening a named pipe would wait for somebody who writes to it.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except (FileNotFoundError, NotADirectoryError):
        raise NoSuchFile(
            f"There is no file {path}.", "The path leads nowhere from this folder.", "ls shows what is here."
        ) from None
    except IsADirectoryError:
        raise NoSuchFile(
            f"{path} is a folder, not a file.", "A dataset is one file.", f"ls {path} shows what is in it."
        ) from None
    except OSError as error:
        raise CommandError(
            f"{path} cannot be read.",
            f"{error.strerror}.",
            f"ls -l {path} shows who may.",
            code="not_permitted",
            exit_code=NOT_PERMITTED,
        ) from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise NoSuchFile(
            f"{'Standard input' if path == _STANDARD_INPUT else path} is not an ordinary file.",
            "A pipe or a device can be read only once.",
            "Save what comes out of it under a name that says what it is, and give that: COMMAND > data.csv",
        )
    return file


def _hash(file: BinaryIO, size: int, name: str, output: Output) -> str:
    digest = hashlib.sha256()
    done = 0
    while piece := file.read(PIECE_BYTES):
        digest.update(piece)
        done += len(piece)
        if size > 100 * PIECE_BYTES:
            output.progress(done / size, f"Reading {name}")
    return digest.hexdigest()


def _pieces(file: BinaryIO, offset: int, size: int, name: str, output: Output) -> Iterator[bytes]:
    while offset < size and (piece := file.read(min(PIECE_BYTES, size - offset))):
        if size > 8 * PIECE_BYTES:
            output.progress(offset / size, f"Sending {name}")
        yield piece
        offset += len(piece)
