"""Files that are built to do harm, and what an inspection child has to say to each."""

import io
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fixtures.documents import docx, odt, word_paragraph, word_xml, zipped

_MEMBER: Final = "word/document.xml"


@dataclass(frozen=True, slots=True)
class Hostile:
    """What the file is called, how it is made, and the codes of the refusals that are right; empty: rows."""

    name: str
    make: Callable[[Path], None]
    codes: tuple[str, ...]


def _of(content: Callable[[], bytes]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(content())

    return make


def _zip_bomb(member: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("META-INF/manifest.xml", "<manifest/>")
            with archive.open(member, "w", force_zip64=True) as out:
                for _ in range(1024):
                    out.write(b" " * (1 << 20))

    return make


def _expanding(prolog: str, body: str) -> Callable[[], bytes]:
    return lambda: zipped(word__document_xml=word_xml(word_paragraph("x") + body, prolog))


def _long_line(begin: bytes, end: bytes = b"") -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with path.open("wb") as out:
            out.write(begin)
            for _ in range(100):
                out.write(b"a" * (1 << 20))
            out.write(end)

    return make


def _nested_zip() -> bytes:
    inner = docx("text")
    for _ in range(20):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("inner.docx", inner)
        inner = out.getvalue()
    return inner


def _overlapping() -> bytes:
    """The same bytes listed as a hundred members: the directory is doubled behind the archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for _ in range(100):
            archive.writestr(_MEMBER, word_xml(word_paragraph("text")))
    return out.getvalue()


_LAUGHS: Final = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
_UNSAFE: Final = ("dataset_unsafe", "dataset_damaged")

HOSTILE: Final = {
    "a zip bomb as Word": Hostile("x.docx", _zip_bomb(_MEMBER), _UNSAFE),
    "a zip bomb as OpenDocument": Hostile("x.odt", _zip_bomb("content.xml"), _UNSAFE),
    "zips in a zip": Hostile("x.docx", _of(_nested_zip), ("dataset_binary",)),
    "a member listed a hundred times": Hostile("x.docx", _of(_overlapping), ("", *_UNSAFE)),
    "entities that expand": Hostile(
        "x.docx",
        _of(_expanding(f'<!DOCTYPE x [<!ENTITY e0 "ha">{_LAUGHS}]>', "<w:p><w:r><w:t>&e9;</w:t></w:r></w:p>")),
        _UNSAFE,
    ),
    "an entity that is a file": Hostile(
        "x.docx",
        _of(
            _expanding('<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>', "<w:p><w:r><w:t>&f;</w:t></w:r></w:p>")
        ),
        _UNSAFE,
    ),
    "XML nested deeply": Hostile("x.odt", _of(lambda: odt("<text:span>" * 1_000_000)), _UNSAFE),
    "JSON nested deeply": Hostile(
        "x.json", _of(lambda: b"[" * 5_000_000), (*_UNSAFE, "dataset_empty", "dataset_truncated")
    ),
    "a JSON line nested deeply": Hostile(
        "x.jsonl", _of(lambda: b'{"a":' * 2_000_000 + b"\n"), ("dataset_empty", *_UNSAFE)
    ),
    "HTML nested deeply": Hostile("x.html", _of(lambda: b"<div>" * 2_000_000 + b"text"), ("", *_UNSAFE)),
    "a line of 100 MB as JSON lines": Hostile(
        "x.jsonl", _long_line(b'{"text": "', b'"}\n'), ("dataset_empty", *_UNSAFE)
    ),
    "a line of 100 MB as CSV": Hostile("x.csv", _long_line(b"question,answer\n"), _UNSAFE),
    "a first line of 100 MB as CSV": Hostile("x.csv", _long_line(b"question,"), _UNSAFE),
    "a line of 100 MB as text": Hostile("x.txt", _long_line(b"begin "), ("",)),
    "100 MB of quotes": Hostile(
        "x.csv", _of(lambda: b"question,answer\n" + b'"' * (100 << 20)), ("dataset_empty", *_UNSAFE)
    ),
    "a device": Hostile("x.csv", lambda path: os.symlink("/dev/zero", path), ("file_not_found",)),
    "a pipe": Hostile("x.csv", os.mkfifo, ("file_not_found",)),
    "a link to nothing": Hostile("x.csv", lambda path: os.symlink("/nowhere", path), ("file_not_found",)),
    "a folder in place of a file": Hostile("x.csv", Path.mkdir, ("dataset_refused",)),
}
