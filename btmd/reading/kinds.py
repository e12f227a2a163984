"""Tells by a file's bytes what it is: something with a reader of its own, text, or nothing that rows can be made of."""

import zipfile
from pathlib import Path
from typing import Final, Literal

from btmd.errors import DatasetBinary, DatasetEncrypted, DatasetTruncated

Kind = Literal["text", "html", "parquet", "docx", "odt", "pdf"]

_HEAD_BYTES: Final = 1024
_MAGIC: Final = (
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"BZh", "a bzip2 archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"ARROW1", "an Arrow file"),
    (b"ORC", "an ORC file"),
    (b"Obj\x01", "an Avro file"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x80\x02", "a pickle, which may hold a program"),
    (b"\x80\x03", "a pickle, which may hold a program"),
    (b"\x80\x04", "a pickle, which may hold a program"),
    (b"\x80\x05", "a pickle, which may hold a program"),
    (b"GGUF", "a model in GGUF"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GIF8", "a picture"),
    (b"BM", "a picture"),
    (b"II*\0", "a picture"),
    (b"MM\0*", "a picture"),
    (b"\0\0\x01\0", "a picture"),
    (b"ID3", "a sound"),
    (b"OggS", "a sound"),
    (b"fLaC", "a sound"),
    (b"\x1aE\xdf\xa3", "a film"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"\xcf\xfa\xed\xfe", "a program"),
    (b"\xca\xfe\xba\xbe", "a program"),
    (b"\0asm", "a program"),
    (b"{\\rtf", "an RTF document; save it as .docx or .odt"),
    (b"%!PS", "a PostScript document; save it as PDF"),
)
_TEXT_AT_HEART: Final = (b"BM", b"MZ", b"ORC", b"ID3", b"BZh")
"""Letters with which an ordinary text may begin too: they count where bytes follow that no text has."""
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_HTML: Final = (b"<!doctype html", b"<html", b'<?xml version="1.0" encoding="utf-8"?>\n<!doctype html')
_HTML_ENDINGS: Final = (".html", ".htm", ".xhtml")
_TABLE_ENDINGS: Final = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/"
_IN_ZIP: Final = (
    ("xl/workbook.xml", "an Excel workbook; save the sheet as CSV"),
    ("ppt/presentation.xml", "a PowerPoint presentation; save it as PDF"),
    ("META-INF/container.xml", "an e-book; save it as HTML or text"),
    ("META-INF/MANIFEST.MF", "a program"),
    ("classes.dex", "a program"),
)


def kind_of(path: Path, name: str) -> Kind:
    """What the file is. Raises DatasetBinary naming what it is instead, DatasetEncrypted or DatasetTruncated."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        size_bytes = file.seek(0, 2)
        file.seek(max(0, size_bytes - 4))
        tail = file.read(4)
    if head.startswith(b"PAR1"):
        if tail != b"PAR1" or size_bytes < 12:
            raise DatasetTruncated(
                "The Parquet file is cut off: its end is missing.", hint="Copy or download it again."
            )
        return "parquet"
    if head.startswith(b"PARE") or (head.startswith(b"PAR1") and tail == b"PARE"):
        raise _protected("Parquet file")
    if b"%PDF-" in head:
        return "pdf"
    if head.startswith(b"PK\x03\x04") or head.startswith(b"PK\x05\x06"):
        return _kind_of_zip(path, Path(name).suffix.lower())
    if head.startswith(_OLE):
        raise _ole(path)
    _refuse_known(head)
    stripped = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if stripped.startswith(_LFS_POINTER):
        raise DatasetBinary(
            "The file is a pointer of Git LFS: it says where the data is, and does not hold it.",
            hint="git lfs pull fetches the data itself.",
        )
    ending = Path(name).suffix.lower()
    if stripped.startswith(_HTML) and ending in _TABLE_ENDINGS:
        raise DatasetBinary(
            "The file is a web page, not a table: a download may have ended at a log-in or an error.",
            hint="Open it in a browser to see what it says, or name it .html to learn its text.",
        )
    is_html_by_name = ending in _HTML_ENDINGS
    if is_html_by_name or (stripped.startswith(_HTML) and Path(name).suffix.lower() not in (".txt", ".md", ".jsonl")):
        return "html"
    return "text"


def _refuse_known(head: bytes) -> None:
    for magic, what in _MAGIC:
        if head.startswith(magic) and (magic not in _TEXT_AT_HEART or any(byte < 9 for byte in head)):
            raise _is(what)
    if head[:4] == b"RIFF" and head[8:12] in (b"WEBP", b"WAVE", b"AVI "):
        raise _is({b"WEBP": "a picture", b"WAVE": "a sound"}.get(head[8:12], "a film"))
    if head[4:8] == b"ftyp":
        raise _is("a film or a picture")
    if head[257:262] == b"ustar":
        raise _is("a tar archive")


def _is(what: str) -> DatasetBinary:
    name, _, advice = what.partition("; ")
    return DatasetBinary(
        f"The file is {name}, not text.",
        hint=f"{advice[:1].upper()}{advice[1:]}."
        if advice
        else "Give a table (CSV, JSON, JSON Lines, Parquet) or documents with text.",
    )


def _protected(what: str) -> DatasetEncrypted:
    return DatasetEncrypted(
        f"The {what} is protected by a password.", hint="Open it in the program it came from and save it without one."
    )


def _ole(path: Path) -> DatasetBinary | DatasetEncrypted:
    """Old office documents, and new ones with a password, are kept in the same container."""
    with path.open("rb") as file:
        content = file.read(1 << 22)
    if "EncryptedPackage".encode("utf-16-le") in content:
        return _protected("office document")
    return _is("an old office document; save it as .docx, .odt or, for a table, as CSV")


def _kind_of_zip(path: Path, ending: str) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    # What a spoiled archive makes of the reader is not told by its documentation; it is not this file's kind.
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError, OverflowError, IndexError) as error:
        if ending not in (".docx", ".odt"):
            raise _is("a zip archive; unpack it and give the folder") from error
        raise DatasetTruncated(
            "The document is cut off or damaged.", hint="Copy or download it again, or open it and save it anew."
        ) from error
    if "word/document.xml" in names:
        return "docx"
    if "content.xml" in names and "META-INF/manifest.xml" in names:
        return "odt"
    for name, what in _IN_ZIP:
        if name in names:
            raise _is(what)
    raise _is("a zip archive; unpack it and give the folder")
