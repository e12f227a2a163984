"""Reads one XML part of an office document piece by piece, with an end to how much it may unpack to."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from xml.parsers import expat

from btmd.errors import DatasetDamaged, DatasetEncrypted, DatasetUnsafe

_PIECE_BYTES: Final = 64 * 1024
_MOST_BYTES: Final = 512 * 1024 * 1024
_UNSUSPICIOUS_BYTES: Final = 16 * 1024 * 1024
_MOST_TIMES: Final = 200
"""What XML of a document written by people is smaller packed; more is a bomb."""
_DAMAGE: Final = (
    *(zipfile.BadZipFile, zlib.error, struct.error, expat.ExpatError, EOFError, ValueError, OSError, KeyError),
    *(NotImplementedError, OverflowError, IndexError),
)


@contextmanager
def opened_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive. Raises DatasetDamaged, also for what goes wrong while it is read, and DatasetEncrypted."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _DAMAGE as error:
        raise DatasetDamaged(
            "The document is damaged: not all of it can be read.", hint="Open it and save it again, or copy it anew."
        ) from error
    except RuntimeError as error:
        if "encrypted" not in str(error) and "password" not in str(error):
            raise
        raise encrypted() from error


def encrypted() -> DatasetEncrypted:
    return DatasetEncrypted(
        "The document is protected by a password.",
        hint="Open it in the program it came from and save it without one.",
    )


def unpacked(archive: zipfile.ZipFile, name: str) -> Iterator[bytes]:
    """The part's bytes. Raises DatasetUnsafe when they are far more than were packed, KeyError without such a part."""
    packed_bytes = max(1, archive.getinfo(name).compress_size)
    done = 0
    with archive.open(name) as part:
        while piece := part.read(_PIECE_BYTES):
            done += len(piece)
            if done > _MOST_BYTES or (done > _UNSUSPICIOUS_BYTES and done > _MOST_TIMES * packed_bytes):
                raise DatasetUnsafe(
                    "The document would unpack to far more than any document has.",
                    hint="If it is a real one, save it as plain text.",
                )
            yield piece


def safe_parser() -> expat.XMLParserType:
    """A parser that refuses documents which declare entities: these can grow without end or name other files."""
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.EntityDeclHandler = _refuse_entity
    return parser


def _refuse_doctype(*_: object) -> None:
    raise _declares()


def _refuse_entity(*_: object) -> None:
    raise _declares()


def _declares() -> DatasetUnsafe:
    return DatasetUnsafe(
        "The document declares entities, which office programs never do: reading it could do harm.",
        hint="Open it in an office program and save it again.",
    )
