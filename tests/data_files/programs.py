"""Files as the programs that people use write them, made from the same few rows."""

import csv
import io
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Table = Sequence[Sequence[str]]
BOM = b"\xef\xbb\xbf"


def excel_csv_german(header: Sequence[str], rows: Table) -> bytes:
    """Excel in de_DE, "CSV (Trennzeichen-getrennt)": semicolons, Windows-1252, CRLF, quotes only where needed."""
    return _table(header, rows, delimiter=";", lineterminator="\r\n").encode("cp1252")


def excel_csv_utf8_german(header: Sequence[str], rows: Table) -> bytes:
    """Excel in de_DE, "CSV UTF-8": semicolons and a byte order mark."""
    return BOM + _table(header, rows, delimiter=";", lineterminator="\r\n").encode()


def excel_unicode_text(header: Sequence[str], rows: Table) -> bytes:
    """Excel, "Unicode Text": tabs, UTF-16 with a byte order mark."""
    return _table(header, rows, delimiter="\t", lineterminator="\r\n").encode("utf-16")


def libreoffice_csv(header: Sequence[str], rows: Table) -> bytes:
    """LibreOffice with "quote all text cells"."""
    return _table(header, rows, delimiter=",", lineterminator="\n", quoting=csv.QUOTE_ALL).encode()


def pandas_csv(header: Sequence[str], rows: Table) -> bytes:
    """``DataFrame.to_csv`` with its index, whose column has no name."""
    numbered = [[str(number), *row] for number, row in enumerate(rows)]
    return _table(["", *header], numbered, delimiter=",", lineterminator="\n").encode()


def _table(header: Sequence[str], rows: Table, **dialect: Any) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, **dialect)
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def json_lines(rows: Iterable[Any], *, ascii_only: bool = False) -> bytes:
    """``datasets`` and ``jq -c``: compact, letters as they are; pandas escapes those beyond ASCII."""
    return b"".join(json.dumps(row, ensure_ascii=ascii_only, separators=(",", ":")).encode() + b"\n" for row in rows)


def json_list(rows: Iterable[Any]) -> bytes:
    """LLaMA-Factory and most scripts: one indented list."""
    return json.dumps(list(rows), ensure_ascii=False, indent=2).encode()


def jq_pretty(rows: Iterable[Any]) -> bytes:
    """``jq .`` without -c: one indented object after another."""
    return b"".join(json.dumps(row, ensure_ascii=False, indent=2).encode() + b"\n" for row in rows)


def parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """``Dataset.to_parquet``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), out)
    return out.getvalue()


_WORD_NAMES = "xmlns:w='http://schemas.openxmlformats.org/wordprocessingml/2006/main'"
_CONTENT_TYPES = (
    "<?xml version='1.0' encoding='UTF-8' standalone='yes'?>"
    "<Types xmlns='http://schemas.openxmlformats.org/package/2006/content-types'>"
    "<Default Extension='xml' ContentType='application/xml'/>"
    "<Override PartName='/word/document.xml' "
    "ContentType='application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml'/></Types>"
)


def docx(paragraphs: Iterable[str], *, headings: Sequence[str] = (), before: str = "") -> bytes:
    """Word: a zip of XML. A paragraph that is in ``headings`` has Word's style for them."""
    body = "".join(_word_paragraph(text, is_heading=text in headings) for text in paragraphs)
    document = (
        f"<?xml version='1.0' encoding='UTF-8' standalone='yes'?>{before}"
        f"<w:document {_WORD_NAMES}><w:body>{body}<w:sectPr/></w:body></w:document>"
    )
    return zipped({"[Content_Types].xml": _CONTENT_TYPES, "word/document.xml": document})


def _word_paragraph(text: str, *, is_heading: bool) -> str:
    style = "<w:pPr><w:pStyle w:val='Heading1'/></w:pPr>" if is_heading else ""
    # Word cuts a paragraph into runs wherever somebody has edited it.
    at = len(text) // 2
    runs = "".join(f"<w:r><w:t xml:space='preserve'>{_xml(part)}</w:t></w:r>" for part in (text[:at], text[at:]))
    return f"<w:p>{style}{runs}</w:p>"


_ODF = " ".join(
    f"xmlns:{name}='urn:oasis:names:tc:opendocument:xmlns:{name}:1.0'" for name in ("office", "text", "table")
)


def odt(paragraphs: Iterable[str], *, headings: Sequence[str] = (), before: str = "") -> bytes:
    """LibreOffice Writer: the type first and not compressed, then XML."""
    heading, paragraph = "<text:h text:outline-level='1'>{}</text:h>", "<text:p>{}</text:p>"
    body = "".join((heading if text in headings else paragraph).format(_xml(text)) for text in paragraphs)
    content = (
        f"<?xml version='1.0' encoding='UTF-8'?>{before}<office:document-content {_ODF}>"
        f"<office:body><office:text>{body}</office:text></office:body></office:document-content>"
    )
    manifest = "<manifest:manifest xmlns:manifest='urn:oasis:names:tc:opendocument:xmlns:manifest:1.0'/>"
    return zipped(
        {
            "mimetype": "application/vnd.oasis.opendocument.text",
            "content.xml": content,
            "META-INF/manifest.xml": manifest,
        }
    )


def zipped(members: Mapping[str, str | bytes]) -> bytes:
    """A zip archive; its times are fixed, so that the same members are the same bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _xml(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def pdf(pages: Iterable[str], *, password: str = "") -> bytes:
    """A PDF with a text layer, its streams compressed as every program does."""
    made = _empty_pdf(password)
    for text in pages:
        made.add_page()
        made.set_font("Helvetica", size=12)
        made.multi_cell(0, 8, text)
    return bytes(made.output())


def scanned_pdf(page_count: int) -> bytes:
    """A PDF as a scanner makes it: a picture on every page and no text."""
    from PIL import Image

    made = _empty_pdf("")
    for page in range(page_count):
        made.add_page()
        made.image(Image.new("L", (60, 80), 200 - page), x=10, y=10, w=180)
    return bytes(made.output())


def _empty_pdf(password: str) -> Any:
    from datetime import UTC, datetime

    from fpdf import FPDF
    from fpdf.enums import EncryptionMethod

    made = FPDF()
    made.set_creation_date(datetime(2026, 11, 22, tzinfo=UTC))
    if password:
        made.set_encryption(owner_password=password, user_password=password, encryption_method=EncryptionMethod.RC4)
    return made


def html_page(title: str, paragraphs: Iterable[str]) -> bytes:
    """A page as a browser saves it: scripts, styles and a menu around the text."""
    body = "".join(f"<p>{_xml(text)}</p>" for text in paragraphs)
    return (
        "<!DOCTYPE html><html lang='de'><head><meta charset='utf-8'>"
        f"<title>{_xml(title)}</title><style>p {{color: red}}</style><script>var tracked = 'yes';</script></head>"
        f"<body><nav><a href='/'>Home</a></nav><h1>{_xml(title)}</h1>{body}</body></html>"
    ).encode()
