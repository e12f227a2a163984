"""Binary files and documents that are broken, hostile, or called what they are not; and some that only look so."""

import gzip
import pickle
import sqlite3
import zlib

from btmd.errors import (
    DatasetBinary,
    DatasetDamaged,
    DatasetEmpty,
    DatasetEncrypted,
    DatasetScanned,
    DatasetTruncated,
    DatasetUnsafe,
    UnknownLayout,
)
from tests.data_files.cases import Case, Kept, Refused, asked
from tests.data_files.programs import docx, html_page, json_lines, odt, parquet, pdf, scanned_pdf, zipped

TEXT = "The lighthouse was built in the year of the storm, and it has stood there ever since. " * 4
GOOD = json_lines(asked())
BOMB = (
    "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'>"
    + "".join(f"<!ENTITY {name} '{f'&{before};' * 10}'>" for before, name in zip("abcdefgh", "bcdefghi", strict=True))
    + "]>"
)


def sqlite_file() -> bytes:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE rows (question, answer)")
    return bytes(connection.serialize())


OLD_WORD = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "WordDocument".encode("utf-16-le") + bytes(2000)
PROTECTED_WORD = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "EncryptedPackage".encode("utf-16-le") + bytes(2000)

CASES = (
    Case("rows in a gzip archive", "rows.jsonl", gzip.compress(GOOD, mtime=0), Refused(DatasetBinary, "gzip")),
    Case("a zip archive", "rows.zip", zipped({"rows.jsonl": GOOD}), Refused(DatasetBinary, "zip")),
    Case(
        "an Excel workbook called .csv",
        "rows.csv",
        zipped({"xl/workbook.xml": "<workbook/>"}),
        Refused(DatasetBinary, "Excel"),
    ),
    Case("a database", "rows.json", sqlite_file, Refused(DatasetBinary, "SQLite")),
    Case("a pickle", "rows.jsonl", pickle.dumps(asked(), protocol=4), Refused(DatasetBinary, "")),
    Case("a picture", "page.txt", b"\x89PNG\r\n\x1a\n" + bytes(200), Refused(DatasetBinary, "picture")),
    Case("compressed bytes called text", "page.txt", zlib.compress(TEXT.encode() * 50), Refused(DatasetBinary, "")),
    Case("a Word document of the old kind", "page.doc", OLD_WORD, Refused(DatasetBinary, "old office document")),
    Case("a Word document with a password", "page.docx", PROTECTED_WORD, Refused(DatasetEncrypted, "password")),
    Case(
        "a Word document that is cut off", "page.docx", lambda: docx([TEXT])[:-80], Refused(DatasetTruncated, "cut off")
    ),
    Case(
        "a Word document that unpacks without end",
        "page.docx",
        lambda: docx(["a" * 40_000_000]),
        Refused(DatasetUnsafe, "unpack"),
    ),
    Case(
        "a Word document with entities in entities",
        "page.docx",
        lambda: docx(["&i;"], before=BOMB),
        Refused(DatasetUnsafe, "entities"),
    ),
    Case(
        "a Writer document with entities in entities",
        "page.odt",
        lambda: odt(["&i;"], before=BOMB),
        Refused(DatasetUnsafe, "entities"),
    ),
    Case("an empty Word document", "page.docx", lambda: docx(["", " "]), Refused(DatasetEmpty, "")),
    Case("a scanned PDF", "page.pdf", lambda: scanned_pdf(2), Refused(DatasetScanned, "no text layer")),
    Case(
        "a PDF with a password",
        "page.pdf",
        lambda: pdf([TEXT], password="secret"),
        Refused(DatasetEncrypted, "password"),
    ),
    Case("a PDF that is cut off", "page.pdf", lambda: pdf([TEXT] * 3)[:900], Refused(DatasetDamaged, "damaged")),
    Case(
        "Parquet without its end", "rows.parquet", lambda: parquet(asked())[:-20], Refused(DatasetTruncated, "cut off")
    ),
    Case(
        "Parquet with a spoiled table of contents",
        "rows.parquet",
        lambda: spoiled(parquet(asked())),
        Refused(DatasetDamaged, "damaged"),
    ),
    Case(
        "a page with nothing but scripts",
        "page.html",
        b"<!DOCTYPE html><html><head><script>var a = 'text';</script></head><body></body></html>",
        Refused(DatasetEmpty, ""),
    ),
    Case(
        "a table without names for its columns",
        "rows.csv",
        b"Why?,So it is.\nWho?,Me.\nWhere?,Here.\n",
        Refused(UnknownLayout, ""),
    ),
    Case(
        "a text that begins like JSON",
        "notes.txt",
        b"{ this is no JSON } but a note.\n\nAnd a second paragraph of it.\n",
        Kept(1, facts={"format": "text"}),
        looks_broken=True,
    ),
    Case(
        "a Markdown file with a heading in a block of code",
        "notes.md",
        b"# One\n\n```\n# no heading\n```\n\n# Two\n\nText.\n",
        Kept(2, lines=(1, 7)),
        looks_broken=True,
    ),
    Case(
        "a page called .txt that only speaks of HTML",
        "notes.txt",
        b"<html> is the first tag of a page.\n\nSo it begins.\n",
        Kept(1, facts={"format": "text"}),
        looks_broken=True,
    ),
    Case("a Word document without an ending", "page", lambda: docx([TEXT]), Kept(1), looks_broken=True),
    Case("a PDF with a blank page", "page.pdf", lambda: pdf([TEXT, "", TEXT]), Kept(1), looks_broken=True),
    Case(
        "a saved page with scripts and a menu",
        "page.html",
        lambda: html_page("Lighthouse", [TEXT]),
        Kept(1),
        looks_broken=True,
    ),
)


def spoiled(content: bytes) -> bytes:
    """With the bytes before the footer's length turned over."""
    at = len(content) - 60
    return content[:at] + bytes(255 - byte for byte in content[at : at + 40]) + content[at + 40 :]
