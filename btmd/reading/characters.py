"""Reads a file once from end to end: its hash, whether it is text at all, and in which characters."""

import codecs
import hashlib
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from btmd.errors import DatasetBinary, DatasetEmpty, DatasetEncoding

_CHUNK_BYTES: Final = 1 << 20
_SAMPLE_BYTES: Final = 1 << 18
_TEXT_CONTROLS: Final = frozenset(b"\t\n\r\f\v\x1b\b")
_WESTERN_MARKS: Final = frozenset("äöüßÄÖÜéèêëàâçîïôùûœÉÈÀÇñÑáíóúãõåøæÅØÆìò‘’“”„–—…«»€°§¿¡\xa0")
_WESTERN: Final = frozenset({"cp1252", "latin_1", "iso8859_15", "cp1250", "iso8859_2", "cp1254", "iso8859_9", "cp1257"})
_WINDOWS_1252: Final = frozenset({"cp1252", "latin_1", "iso8859_15"})
_BEYOND_ASCII: Final = re.compile(r"[^\x00-\x7f]+")
_MARK_IN_WORD: Final = re.compile(r"[¹³¼¾Ÿ](?=[^\W\d_])|(?<=[^\W\d_])¿(?=[^\W\d_])")


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a file is made of. ``encoding`` is ``utf-8``, ``utf-16`` or ``windows-1252``."""

    encoding: str
    sha256: str
    size_bytes: int
    byte_order_mark: bool = False
    """Whether it begins with the mark that says which kind of Unicode it is."""


def scan(path: Path, progress: Callable[[float], None]) -> Scanned:
    """Hash a file and tell its characters. Raises DatasetEmpty, DatasetBinary or DatasetEncoding."""
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
    encoding = _decide(path, begins, is_utf8=is_utf8, has_nul=has_nul)
    marked = begins.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return Scanned(encoding, digest.hexdigest(), done, marked)


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


def _decide(path: Path, begins: bytes, *, is_utf8: bool, has_nul: bool) -> str:
    if begins.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        _check_codec(path, "utf-16")
        return "utf-16"
    with path.open("rb") as file:
        sample = file.read(_SAMPLE_BYTES)
    if has_nul:
        if _is_bare_utf16(sample):
            raise DatasetEncoding(
                "The file looks like UTF-16 without the mark that says so, and cannot be read safely.",
                hint="Save it as UTF-8, or convert it: iconv -f UTF-16LE -t UTF-8 FILE > NEW",
            )
        raise _binary()
    controls = sum(1 for byte in sample if byte < 32 and byte not in _TEXT_CONTROLS)
    if controls > len(sample) // 50:
        raise _binary()
    if is_utf8 or _is_mostly_utf8(path):
        return "utf-8"
    return _guess(path)


def _binary() -> DatasetBinary:
    return DatasetBinary(
        "The file holds binary data, not text.", hint="Give the rows as JSONL, JSON, CSV or plain text."
    )


def _is_bare_utf16(sample: bytes) -> bool:
    half = len(sample) // 2
    return half > 0 and max(sample[0::2].count(0), sample[1::2].count(0)) > half * 0.4


def _check_codec(path: Path, codec: str) -> None:
    decoder = codecs.getincrementaldecoder(codec)()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise DatasetEncoding(
            f"The file says it is {codec.upper()}, but not all of it is.", hint="Save it again as UTF-8."
        ) from error


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


def _guess(path: Path) -> str:
    """``windows-1252`` if the file is that; anything else is refused by its likely name, since a guess may be wrong."""
    from charset_normalizer import from_bytes

    telling = _telling_lines(path)
    if _is_plainly_western(telling) and _is_western(path):
        return "windows-1252"
    best = from_bytes(telling).best()
    name = best.encoding if best is not None else None
    if name in _WESTERN and not _is_eastern(telling) and _is_western(path):
        return "windows-1252"
    if name is None or name in _WINDOWS_1252:
        raise DatasetEncoding(
            "The file is neither UTF-8 nor any other encoding that fits all of it.",
            hint="Open it in the program it came from and save it as UTF-8.",
        )
    shown = codecs.lookup(name).name
    raise DatasetEncoding(
        f"The file is not UTF-8; its characters look like {shown}.",
        hint=f"Convert it: iconv -f {shown.upper()} -t UTF-8 FILE > NEW",
    )


def _is_plainly_western(lines: bytes) -> bool:
    """Whether letters beyond ASCII are those of western languages, and at most two stand together.

    In other scripts whole words are beyond ASCII. A guess by frequencies needs more text than a small table has.
    """
    try:
        text = lines.decode("cp1252")
    except UnicodeDecodeError:
        return False
    beyond = [at for at, mark in enumerate(text) if mark > "\x7f"]
    common = sum(text[at] in _WESTERN_MARKS for at in beyond)
    apart = sum(len(run) for run in _BEYOND_ASCII.findall(text) if len(run) <= 2)
    return common >= 0.98 * len(beyond) and apart >= 0.9 * len(beyond)


def _is_eastern(lines: bytes) -> bool:
    """Whether marks stand inside words where Windows' code for Poland and its neighbours has letters.

    Read as western, such a text would be taken for one, with other letters in it.
    """
    text = lines.decode("cp1252", "replace")
    beyond = sum(mark > "\x7f" for mark in text)
    return len(_MARK_IN_WORD.findall(text)) > 0.05 * beyond


def _telling_lines(path: Path) -> bytes:
    """The first lines that have bytes beyond ASCII: only these say which encoding it is."""
    found = bytearray()
    with path.open("rb") as file:
        while len(found) < _SAMPLE_BYTES and (line := file.readline(_CHUNK_BYTES)):
            if not line.isascii():
                found += line[:4096]
    return bytes(found)


def _is_western(path: Path) -> bool:
    """Every byte is a character in Windows-1252, and those beyond ASCII are mostly letters and quotes."""
    letters = others = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            if chunk.isascii():
                continue
            try:
                text = chunk.decode("cp1252")
            except UnicodeDecodeError:
                return False
            beyond = [mark for mark in text if mark > "\x7f"]
            good = sum(1 for mark in beyond if mark.isalpha() or mark in "‘’“”„–—…•«»°€£§©®™´¿¡·\xa0½¼²³×")
            letters += good
            others += len(beyond) - good
    return letters > 4 * others
