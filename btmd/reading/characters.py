"""Reads a file once from end to end: its hash, whether it is text at all, and in which characters."""

import codecs
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from msgspec import Struct

from btmd.errors import DatasetBinary, DatasetEmpty, DatasetEncoding
from btmd.reading.guessed_encoding import Guessed, guess
from btmd.reading.told import ENCODING

_CHUNK_BYTES: Final = 1 << 20
_SAMPLE_BYTES: Final = 1 << 18
_TEXT_CONTROLS: Final = frozenset(b"\t\n\r\f\v\x1b\b")


class Scanned(Struct, frozen=True):
    """What a file is made of. ``encoding`` is ``utf-8``, ``utf-16``, ``windows-1252`` or another that was told."""

    encoding: str
    sha256: str
    size_bytes: int
    byte_order_mark: bool = False
    """Whether it begins with the mark that says which kind of Unicode it is."""
    encoding_guessed: bool = False
    """Whether nothing says which encoding it is, and another would make other letters."""


def scan(path: Path, progress: Callable[[float], None], told: str | None = None) -> Scanned:
    """Hash a file and tell its characters, unless a person has. Raises DatasetEmpty, DatasetBinary, DatasetEncoding."""
    size_bytes = path.stat().st_size
    if size_bytes == 0:
        raise DatasetEmpty("The file is empty: it has 0 bytes.", hint="Check that the right file was given.")
    digest = hashlib.sha256()
    done = 0
    utf8 = codecs.getincrementaldecoder("utf-8")()
    is_utf8, has_nul = True, False
    begins = b""
    # Hashed on another thread: it takes as long as all else here together.
    with path.open("rb") as file, ThreadPoolExecutor(1) as beside:
        hashed = beside.submit(digest.update, b"")
        while chunk := file.read(_CHUNK_BYTES):
            if not begins:
                begins = chunk[:64]
            hashed.result()
            hashed = beside.submit(digest.update, chunk)
            has_nul = has_nul or b"\0" in chunk
            if is_utf8 and (utf8.getstate()[0] or not chunk.isascii()):
                try:
                    utf8.decode(chunk)
                except UnicodeDecodeError:
                    is_utf8 = False
            done += len(chunk)
            progress(done / size_bytes)
    if is_utf8:
        try:
            utf8.decode(b"", final=True)
        except UnicodeDecodeError:
            is_utf8 = False
    if told is not None:
        decided = Guessed(_checked(path, told, begins, has_nul=has_nul), matters=False)
    else:
        decided = _decide(path, begins, is_utf8=is_utf8, has_nul=has_nul)
    marked = begins.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return Scanned(decided.encoding, digest.hexdigest(), done, marked, decided.matters)


def hash_of(path: Path, progress: Callable[[float], None]) -> tuple[str, int]:
    """SHA-256 and size in bytes. Raises DatasetEmpty."""
    size_bytes = path.stat().st_size
    if size_bytes == 0:
        raise DatasetEmpty("The file is empty: it has 0 bytes.", hint="Check that the right file was given.")
    digest = hashlib.sha256()
    done = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            progress(done / size_bytes)
    return digest.hexdigest(), done


def _checked(path: Path, told: str, begins: bytes, *, has_nul: bool) -> str:
    """The encoding that a person named, if the file can be in it."""
    if told.startswith("utf-16") and begins.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        told = "utf-16"
    if has_nul and not told.startswith(("utf-16", "utf-32")):
        raise _binary()
    if told != "utf-8" or not _is_mostly_utf8(path):
        _check_codec(path, told, f"The file is not all {told}: it has bytes that are no characters in it.")
    return told


def _decide(path: Path, begins: bytes, *, is_utf8: bool, has_nul: bool) -> Guessed:
    if begins.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        _check_codec(path, "utf-16", "The file says it is UTF-16, but not all of it is.")
        return Guessed("utf-16", matters=False)
    with path.open("rb") as file:
        sample = file.read(_SAMPLE_BYTES)
    if has_nul:
        if _is_bare_utf16(sample):
            likely = "utf-16-le" if sample[1::2].count(0) > sample[0::2].count(0) else "utf-16-be"
            raise DatasetEncoding(
                "The file looks like UTF-16 without the mark that says so, and cannot be read safely.",
                hint=f"Save it as UTF-8, or name its encoding: --encoding {likely}",
                suggestions=({ENCODING: likely},),
            )
        raise _binary()
    controls = sum(1 for byte in sample if byte < 32 and byte not in _TEXT_CONTROLS)
    if controls > len(sample) // 50:
        raise _binary()
    if is_utf8 or _is_mostly_utf8(path):
        return Guessed("utf-8", matters=False)
    return guess(path)


def _binary() -> DatasetBinary:
    return DatasetBinary(
        "The file holds binary data, not text.", hint="Give the rows as JSONL, JSON, CSV or plain text."
    )


def _is_bare_utf16(sample: bytes) -> bool:
    half = len(sample) // 2
    return half > 0 and max(sample[0::2].count(0), sample[1::2].count(0)) > half * 0.4


def _check_codec(path: Path, codec: str, otherwise: str) -> None:
    decoder = codecs.getincrementaldecoder(codec)()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise DatasetEncoding(otherwise, hint="Save it again as UTF-8.") from error


def _is_mostly_utf8(path: Path) -> bool:
    """Whether only a few lines are damaged: more lines with letters beyond ASCII are right than wrong."""
    right = wrong = 0
    with path.open("rb") as file:
        while line := file.readline(_CHUNK_BYTES):
            if line.isascii():
                continue
            try:
                line.decode("utf-8")
                right += 1
            except UnicodeDecodeError:
                wrong += 1
    return right > wrong
