"""Documents, tables in Parquet and whole folders become rows; what is built to do harm is refused in words."""

import io
import os
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from btmd.data.row_chunks import clear_rows
from btmd.data.rows import Row, read_rows
from btmd.errors import (
    DatasetBinary,
    DatasetDamaged,
    DatasetEmpty,
    DatasetEncrypted,
    DatasetRefused,
    DatasetScanned,
    DatasetTruncated,
    DatasetUnsafe,
    MixedFolder,
    UnknownLayout,
)
from btmd.inspection.dataset import inspect_dataset
from btmd.inspection.facts import DatasetFacts
from btmd.reading.folder_files import FolderPart, SkippedFile
from btmd.reading.one_file import open_file
from btmd.reading.opening import FolderContents
from btmd.reading.portable_documents import pdf_lines
from btmd.reading.processor_time import limited_processor_time
from btmd.reading.text_blocks import Line
from tests.fixtures.documents import docx, odt, pdf, word_paragraph, word_xml, zipped
from tests.inspection.test_dataset import PAIR, SECRET, inspected, lines, said

LONG = "A sentence about nothing in particular that goes on for a while. " * 12


def texts(content: bytes, name: str, folder: Path) -> list[tuple[int, str]]:
    facts, rows = inspected(folder, content, name)
    assert facts.row_kind == "text"
    return [(row["line"], row["text"]) for row in rows]


def test_a_word_document_is_read_with_headings_lists_and_tables(tmp_path: Path) -> None:
    cells = "".join(f"<w:tc>{word_paragraph(cell)}</w:tc>" for cell in ("a", "b"))
    body = (
        word_paragraph("Plants", '<w:pStyle w:val="berschrift1"/>')
        + "<w:p><w:r><w:t>They are </w:t></w:r><w:r><w:t>green.</w:t><w:tab/><w:delText>red</w:delText></w:r></w:p>"
        + word_paragraph("moss", '<w:numPr><w:ilvl w:val="0"/></w:numPr>')
        + f"<w:tbl><w:tr>{cells}</w:tr><w:tr>{cells}</w:tr></w:tbl>"
        + word_paragraph("Animals", '<w:pStyle w:val="Heading1"/>')
        + word_paragraph("They run.")
    )
    content = zipped(word__document_xml=word_xml(body))
    assert texts(content, "handout.docx", tmp_path) == [
        (1, "Plants\n\nThey are green.\n\n- moss\n\na | b\na | b"),
        (6, "Animals\n\nThey run."),
    ]


def test_an_open_document_is_read_without_what_was_deleted(tmp_path: Path) -> None:
    body = (
        "<text:tracked-changes><text:p>old</text:p></text:tracked-changes>"
        '<text:h>Plants</text:h><text:p>They<text:s text:c="2"/>are<text:line-break/>green.</text:p>'
        "<text:list><text:list-item><text:p>moss</text:p></text:list-item></text:list>"
        "<table:table><table:table-row><table:table-cell><text:p>a</text:p></table:table-cell>"
        "<table:table-cell><text:p>b</text:p></table:table-cell></table:table-row></table:table>"
    )
    [(_, text)] = texts(odt(body), "x.odt", tmp_path)
    assert text == "Plants\n\nThey  are\ngreen.\n\n- moss\n\na | b"


def test_a_web_page_is_read_without_its_navigation(tmp_path: Path) -> None:
    page = (
        "<!DOCTYPE html><html><head><title>Plants</title><style>p {}</style></head><body><nav><a>Home</a></nav>"
        "<h1>Green</h1><p>They are <b>gr</b>een &amp; <br>tall.<ul><li>moss<li>fern</ul><pre>a\n  b</pre>"
        "<table><tr><td>1<td>2</tr></table><script>alert()</script></body></html>"
    )
    [(_, text)] = texts(page.encode(), "page.html", tmp_path)
    assert text == "Plants\n\nGreen\n\nThey are green &\ntall.\n\n- moss\n- fern\n\na\n  b\n\n1 | 2"
    cyrillic = '<html><meta charset="koi8-r"><p>Где это?</p></html>'.encode("koi8-r")
    assert texts(cyrillic, "page.htm", tmp_path)[0][1] == "Где это?"


def test_a_pdf_is_read_by_pages_with_its_lines_put_together(tmp_path: Path) -> None:
    first = [
        "Plants",
        "This line is long enough to be followed by an-",
        "other one that belongs to the same paragraph.",
        "The end.",
    ]
    found = texts(pdf(first, [], [LONG[:60]] * 3), "x.pdf", tmp_path)
    assert found[0][0] == 1
    assert "followed by another one" in found[0][1]
    assert found[0][1].startswith("Plants\n\nThis line")
    facts, _ = inspected(tmp_path, pdf(first), "x.pdf")
    assert (facts.format, facts.unit) == ("pdf", "page")


def parquet(rows: list[dict[str, Any]], **more: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out, **more)
    return out.getvalue()


def test_parquet_with_nested_columns_is_read_in_order(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]
    content = parquet([{"messages": turns, "picture": b"x" * 100, "n": n} for n in range(1000)], row_group_size=300)
    facts, rows = inspected(tmp_path, content, "train.parquet")
    assert (facts.format, facts.layout, facts.unit, facts.rows_kept) == ("parquet", "messages", "row", 1000)
    assert [row["line"] for row in rows] == list(range(1, 1001))
    assert said(rows[-1]) == PAIR
    assert facts.columns == ("messages", "picture", "n")


def test_marks_before_the_first_character_are_noticed(tmp_path: Path) -> None:
    facts, _ = inspected(tmp_path, "\ufefffrage;antwort\nWarum?;Darum.\n", "x.csv")
    assert (facts.byte_order_mark, facts.encoding, facts.columns) == (True, "utf-8", ("frage", "antwort"))
    facts, _ = inspected(tmp_path, "sep=|\nfrage|antwort|\nWarum?|Darum.|\n", "x.csv")
    assert (facts.separator, facts.columns) == ("|", ("frage", "antwort", "column 3"))


ROW = {"question": "Why?", "answer": "Because."}


@pytest.mark.parametrize(
    "text",
    [
        '{"version": 1, "data": [{"question": "Why?", "answer": "Because."}], "note": {"a": [1]}}',
        '{"data":\n [\n {"question": "Why?", "answer": "Because."}\n]\n}\n',
        '{"question": "Why?",\n "answer": "Because."}',
        '{\n "question": "Why?",\n "answer": "Because."\n}\n{\n "question": "Why?",\n "answer": "Because."\n}\n',
        '{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]}',
    ],
)
def test_rows_are_found_wherever_a_json_file_holds_them(text: str, tmp_path: Path) -> None:
    _, rows = inspected(tmp_path, text, "data.json")
    assert {tuple(said(row)) for row in rows} == {tuple(PAIR)}


def test_an_object_with_both_sides_says_which_rows_are_held_out(tmp_path: Path) -> None:
    text = '{"train": [{"text": "a"}, {"text": "b"}], "test": [{"text": "c"}]}'
    facts, rows = inspected(tmp_path, text, "data.json")
    assert [(row["text"], row.get("split")) for row in rows] == [("a", "train"), ("b", "train"), ("c", "held_out")]
    assert facts.rows_held_out == 1


def bomb() -> bytes:
    return zipped(word__document_xml=word_xml("<w:p><w:r><w:t>" + "a" * (64 << 20) + "</w:t></w:r></w:p>"))


def with_password() -> bytes:
    content = bytearray(docx("Secret."))
    # The flag in the local and the central header that says the part is encrypted.
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    return bytes(content)


ENTITIES = '<!DOCTYPE d [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500)
REFUSED: dict[str, tuple[bytes, str, type[DatasetRefused], str]] = {
    "a zip bomb": (bomb(), "x.docx", DatasetUnsafe, "unpack"),
    "entities": (docx(SECRET, prolog=ENTITIES), "x.docx", DatasetUnsafe, "entities"),
    "an encrypted part": (with_password(), "x.docx", DatasetEncrypted, "password"),
    "an encrypted open document": (odt("", "<m><encryption-data/></m>"), "x.odt", DatasetEncrypted, "password"),
    "an encrypted office file": (OLE + "EncryptedPackage".encode("utf-16-le"), "x.docx", DatasetEncrypted, "password"),
    "an old office document": (OLE, "x.doc", DatasetBinary, "old office document"),
    "half a document": (docx("a" * 5000)[:200], "x.docx", DatasetTruncated, "cut off"),
    "a document without text": (docx(), "x.docx", DatasetEmpty, "no text"),
    "spoiled XML": (zipped(word__document_xml="<a><b></a>"), "x.docx", DatasetDamaged, "damaged"),
    "an archive": (zipped(a_txt="x"), "x.zip", DatasetBinary, "zip archive"),
    "a workbook": (zipped(xl__workbook_xml="x"), "x.csv", DatasetBinary, "Excel"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(99), "x.jsonl", DatasetBinary, "picture"),
    "a program": (b"\x7fELF" + bytes(99), "data.csv", DatasetBinary, "program"),
    "a tar archive": (b"a.txt".ljust(257, b"\0") + b"ustar" + bytes(99), "x.txt", DatasetBinary, "tar"),
    "RTF": (b"{\\rtf1 a}", "x.txt", DatasetBinary, "RTF"),
    "a scanned PDF": (pdf([], []), "x.pdf", DatasetScanned, "pictures"),
    "half a PDF": (b"%PDF-1.4\n1 0 obj\n<<", "x.pdf", DatasetDamaged, "PDF"),
    "half a Parquet file": (parquet([ROW] * 9)[:-100], "x.parquet", DatasetTruncated, "Parquet"),
    "a spoiled Parquet file": (b"PAR1" + bytes(99) + b"PAR1", "x.parquet", DatasetDamaged, "Parquet"),
    "a Parquet file without rows": (parquet([ROW])[:0] + parquet([]), "x.parquet", DatasetRefused, "Parquet"),
    "JSON by columns": (b'{"question": {"0": "a"}, "answer": {"0": "b"}}', "x.json", UnknownLayout, "column by column"),
    "JSON with two lists": (b'{"a": [{"text": "x"}], "b": [{"text": "x"}]}', "x.json", UnknownLayout, "'a', 'b'"),
    "a nested page": (b"<html>" + b"<div>" * 200_000, "x.html", DatasetEmpty, "no text"),
    "a number without end": (
        b'[{"question": "a", "answer": ' + b"9" * 5000 + b"}]",
        "x.json",
        DatasetDamaged,
        "line 1",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_do_harm_or_is_something_else_is_refused(case: str, tmp_path: Path) -> None:
    content, name, kind, word = REFUSED[case]
    with pytest.raises(kind) as refusal:
        inspected(tmp_path, content, name)
    assert word in refusal.value.detail
    assert refusal.value.hint
    assert SECRET not in refusal.value.detail + refusal.value.hint
    assert os.listdir(tmp_path) == ["source"]


@pytest.mark.parametrize("mark", [b"<!--", b"<a ", b"<script>", b"<![CDATA[", b"<?", b"</", b"<div>"])
def test_a_page_of_marks_that_are_never_closed_is_gone_through_once(mark: bytes, tmp_path: Path) -> None:
    # A reader that begins anew at each of them would still be reading when the tests' time is over.
    with pytest.raises(DatasetEmpty):
        inspected(tmp_path, b"<html>" + mark * 300_000, "x.html")


def test_a_line_of_a_hundred_megabytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetUnsafe):
        inspected(tmp_path, b"question,answer\n" + b"a" * (100 << 20), "x.csv")
    (tmp_path / "source").unlink()
    good = lines(ROW).encode()
    facts, _ = inspected(tmp_path, good + b'{"question": "' + b"a" * (100 << 20) + b'"}\n' + good)
    assert [row.line for row in facts.broken] == [2]


def read_folder(
    folder: Path,
    files: dict[str, bytes | str],
    skipped: tuple[SkippedFile, ...] = (),
    mapping: dict[str, str] | None = None,
) -> tuple[DatasetFacts, list[Row]]:
    held = folder / "held"
    held.mkdir(exist_ok=True)
    contents = []
    for number, (name, content) in enumerate(files.items()):
        path = held / str(number)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        contents.append((name, path))
    (folder / "list").write_text("list of files")
    rows_path = folder / "rows"
    facts = inspect_dataset(
        folder / "list",
        "handouts",
        rows_path,
        mapping=mapping,
        folder=FolderContents(contents, skipped),
        progress=lambda _share, _text: None,
    )
    return facts, list(read_rows(rows_path))


def test_a_folder_of_documents_is_one_dataset_that_names_what_it_left_out(tmp_path: Path) -> None:
    scanned = SkippedFile("old.ppt", "no kind of file that can be read")
    facts, rows = read_folder(
        tmp_path,
        {
            "b/two.txt": "Second.\n\nMore.\n",
            "a.docx": docx("# One", "First.", "# Two", "Then."),
            "scan.pdf": pdf([]),
            "z.md": "# Last\n\nEnd.\n",
            "broken.docx": b"PK\x03\x04",
            "empty.txt": "",
        },
        (scanned,),
    )
    assert [row["text"] for row in rows] == ["One\n\nFirst.", "Two\n\nThen.", "Second.\n\nMore.", "# Last\n\nEnd."]
    assert [facts.place(row["line"]) for row in rows] == [("a.docx", 1), ("a.docx", 3), ("b/two.txt", 1), ("z.md", 1)]
    assert facts.files[0] == FolderPart("a.docx", "docx", 1, "paragraph")
    assert [one.name for one in facts.skipped] == ["old.ppt", "broken.docx", "empty.txt", "scan.pdf"]
    assert (facts.format, facts.skipped_total, facts.row_kind) == ("folder", 4, "text")


def test_tables_of_a_folder_are_one_dataset_with_sides_by_their_names(tmp_path: Path) -> None:
    facts, rows = read_folder(
        tmp_path,
        {
            "data/train-00000-of-00001.parquet": parquet([ROW, ROW]),
            "data/test.jsonl": lines(ROW),
            "README.md": "About.",
            "dataset_info.json": "{}",
        },
    )
    assert [(row["line"], row.get("split")) for row in rows] == [(1, "held_out"), (2, "train"), (3, "train")]
    assert [one.name for one in facts.skipped] == ["README.md", "dataset_info.json"]


@pytest.mark.parametrize(
    ("files", "kind", "word"),
    [
        ({"a.csv": "question,answer\na,b\n", "b.txt": "Text."}, MixedFolder, "a.csv"),
        ({"a.jsonl": lines(ROW), "b.jsonl": lines({"text": "x"})}, MixedFolder, "b.jsonl"),
        ({"a.jsonl": lines(ROW), "b.jsonl": lines({"lhs": "x", "rhs": "y"})}, UnknownLayout, "b.jsonl"),
        ({"a.jsonl": lines(ROW), "b.json": "[{"}, DatasetTruncated, "b.json"),
        ({"a.pdf": pdf([])}, DatasetEmpty, "a.pdf"),
        ({}, DatasetEmpty, "no file"),
    ],
)
def test_a_folder_that_is_no_dataset_is_refused_with_the_name_of_the_file(
    files: dict[str, bytes | str], kind: type[DatasetRefused], word: str, tmp_path: Path
) -> None:
    with pytest.raises(kind) as refusal:
        read_folder(tmp_path, files)
    assert word in refusal.value.detail
    assert not (tmp_path / "rows").exists()


def test_a_document_may_take_only_so_much_processor_time() -> None:
    def read_for_ever() -> None:
        with limited_processor_time(0.05):
            while True:
                pass

    with pytest.raises(DatasetUnsafe):
        read_for_ever()
    with limited_processor_time(60):
        pass


def test_what_a_reader_makes_of_an_archive_that_lies_is_told_as_damage(tmp_path: Path) -> None:
    content = bytearray(docx("Text."))
    end = content.rindex(b"PK\x05\x06")
    content[end + 12 : end + 16] = (2**31).to_bytes(4, "little")
    with pytest.raises(DatasetRefused):
        inspected(tmp_path, bytes(content), "x.docx")
    assert zipfile.is_zipfile(io.BytesIO(docx("x")))


def test_a_reader_that_crashes_names_the_file_and_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crashing(path: Path) -> Iterator[Line]:
        if path.name == "1":
            os.kill(os.getpid(), signal.SIGSEGV)
        return pdf_lines(path)

    monkeypatch.setattr("btmd.reading.portable_documents.pdf_lines", crashing)
    good = pdf(["A page of text that goes on for a while."])
    facts, rows = read_folder(tmp_path, {"a.pdf": good, "b.pdf": good, "c.pdf": good})
    assert len(rows) == 2
    assert [part.name for part in facts.files] == ["a.pdf", "c.pdf"]
    [skipped] = facts.skipped
    assert skipped.name == "b.pdf"
    assert "crash (signal 11)" in skipped.reason
    (tmp_path / "1").write_bytes(good)
    with pytest.raises(DatasetDamaged, match="crash"):
        open_file(tmp_path / "1", "b.pdf", lambda _share: None)


def test_a_folder_with_tables_and_documents_is_read_once_it_was_said_which(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {
        "a.csv": "question,answer\na,b\n",
        "b.txt": "Text.",
        "c.md": "# More",
        "README.md": "x",
    }
    with pytest.raises(MixedFolder) as refused:
        read_folder(tmp_path, files)
    assert "--only documents" in refused.value.hint
    assert refused.value.suggestions == ({"file:only": "documents"}, {"file:only": "tables"})
    facts, rows = read_folder(tmp_path, files, mapping={"file:only": "tables"})
    assert [part.name for part in facts.files] == ["a.csv"]
    assert [(one.name, one.reason) for one in facts.skipped] == [
        ("README.md", "tells about the data"),
        ("b.txt", "not a table"),
        ("c.md", "not a table"),
    ]
    clear_rows(tmp_path / "rows")
    facts, rows = read_folder(tmp_path, files, mapping={"file:only": "documents"})
    assert [row["text"] for row in rows] == ["Text.", "# More"]
