"""Files for each importer, made from their formats' grammars and then spoiled; one seed makes one file.

What is compressed is spoiled before it is packed, or nearly every file would end at a wrong checksum.
"""

import io
import json
import random
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from tests.fixtures.documents import docx, odt, pdf, word_paragraph, word_xml

Draws = random.Random

_NAMES: Final = (
    *("question", "answer", "text", "messages", "conversation", "role", "content", "id", "ticket_id", "created_at"),
    *("prompt", "completion", "chosen", "rejected", "system", "split", "history", "Frage", "column 1", "", "a\nb", "ä"),
)
_WORDS: Final = (
    *(
        "Why?",
        "Because it is so.",
        "user",
        "assistant",
        "agent",
        "train",
        "test",
        "2024-01-01",
        "0",
        "-1",
        "1e999",
        " ",
    ),
    *(
        "",
        "\0",
        "\ufeff",
        "\ud800",
        "\u2028",
        "日本",
        "Łódź",
        "ő",
        "NaN",
        "null",
        '"',
        '""',
        "\\",
        "a" * 3000,
        "x,y;z\tw",
    ),
    *(
        "### Human: a### Assistant: b",
        "<|im_start|>user\na<|im_end|>",
        "[INST] a [/INST] b",
        "\n\nHuman: a",
        "9" * 5000,
    ),
)
_PLAIN: Final = (
    "Why?",
    "Because it is so.",
    "Wie groß?",
    "Seven, or eight.",
    "user",
    "assistant",
    "train",
    "2024-01-01",
)
_SHAPES: Final = (
    *(("question", "answer"), ("instruction", "input", "output"), ("prompt", "completion", "split"), ("text",)),
    *(("prompt", "chosen", "rejected"), ("messages",), ("conversations", "id"), ("context", "question", "answers")),
)
_ENCODINGS: Final = ("utf-8-sig", "utf-16", "utf-16-le", "cp1252", "cp1250", "cp1251", "shift_jis")
_MARKUP: Final = (
    *("<p>", "</p>", "<div>", "</div>", "<table><tr><td>", "</table>", "<!--", "-->", "<script>", "</script>", "<pre>"),
    *(
        "&#x110000;",
        "&amp",
        "&lt;",
        "<![CDATA[",
        "]]>",
        "<title>",
        "<li>",
        "<br",
        "<a href='",
        "<h1>",
        "<?x ?>",
        "<svg>",
    ),
    *("# Title\n", "```\n", "~~~\n", "\n\n", "| a | b |\n", "> ", "    ", "<meta charset=utf-16>", "<base>", "text "),
)
_WORD: Final = (
    *("<w:p>", "</w:p>", "<w:r>", "</w:r>", "<w:t>a</w:t>", "<w:tbl>", "</w:tbl>", "<w:tr>", "</w:tr>", "<w:tab/>"),
    *("&lt;", "&unknown;", "<!--", "-->", "<![CDATA[", "]]>", "\0", "<w:p><w:r>" * 300, "<a xmlns='b'>", "</a>", "<"),
    *(word_paragraph("x"), "é", '<w:pStyle w:val="Heading1"/>', "<w:numPr/>", "<w:br/>", "<w:sdt>", "</w:sdt>"),
)
_OFFICE: Final = (
    *("<text:p>", "</text:p>", "<text:h>a</text:h>", "<text:s text:c='999999999'/>", "<text:list><text:list-item>"),
    *("</text:list-item></text:list>", "<table:table>", "</table:table>", "<text:span>" * 300, "<text:tab/>", "a", "<"),
    *("<table:table-cell table:number-columns-repeated='999999999'>", "<text:note>", "&x;", "<text:s text:c='x'/>"),
)
_OFFICE_WHOLE: Final = (
    *("<text:p>One <text:span>two</text:span></text:p>", "<text:h text:outline-level='1'>Head</text:h>", "<text:p/>"),
    *(
        "<text:list><text:list-item><text:p>item</text:p></text:list-item></text:list>",
        "<text:p>a<text:tab/>b</text:p>",
    ),
    *("<text:p>a<text:s text:c='999999999'/>b</text:p>", "<text:p>a<text:note><text:p>c</text:p></text:note></text:p>"),
    "<table:table><table:table-row><table:table-cell table:number-columns-repeated='999999999'><text:p>x</text:p>"
    "</table:table-cell></table:table-row></table:table>",
)
_PDF_WORDS: Final = (
    *(b"0", b"-1", b"99999999999", b"1 0 R", b"2 0 R", b"9999 0 R", b"<<", b">>", b"[", b"]", b"(", b")", b"/Kids"),
    *(
        b"/Count 99999999",
        b"/Length 1",
        b"/Filter /FlateDecode",
        b"/Parent 2 0 R",
        b"stream\n",
        b"endstream",
        b"BT",
        b"ET",
    ),
    *(
        b"Tj",
        b"[(a) -99999 (b)] TJ",
        b"/MediaBox [0 0 1e9 1e9]",
        b"/Encrypt 1 0 R",
        b"trailer",
        b"xref",
        b"%%EOF",
        b"q " * 900,
    ),
)


@dataclass(frozen=True, slots=True)
class Importer:
    """What a file is called, how its columns are mapped, and how one is made."""

    name: str
    make: Callable[[Draws], bytes]
    mapping: Mapping[str, str] | None = None


def file_of(importer: Importer, seed: int) -> bytes:
    """The file with this number."""
    return importer.make(random.Random(seed))


def _word(draws: Draws) -> str:
    return draws.choice(_PLAIN if draws.random() < 0.85 else _WORDS)


def _value(draws: Draws, depth: int = 0) -> Any:
    kind = draws.random()
    if kind < 0.4:
        return _word(draws)
    if depth > 5 or kind < 0.55:
        return draws.choice((*_WORDS, None, True, 7, -0.5, 2**70))
    if kind < 0.65:
        return [_value(draws, depth + 1) for _ in range(draws.randrange(4))]
    if kind < 0.85:
        return [{"role": draws.choice(_WORDS[2:5]), "content": draws.choice(_WORDS)} for _ in range(draws.randrange(5))]
    return {draws.choice(_NAMES): _value(draws, depth + 1) for _ in range(draws.randrange(4))}


def _row(draws: Draws) -> dict[str, Any]:
    if draws.random() < 0.8:
        return {name: _fitting(name, draws) for name in draws.choice(_SHAPES)}
    names = draws.sample(_NAMES, draws.randrange(1, 5))
    return {name: _value(draws, 2 if draws.random() < 0.7 else 0) for name in names}


def _fitting(name: str, draws: Draws) -> Any:
    """A value that the column may well have, and now and then another one."""
    if draws.random() < 0.05:
        return _value(draws)
    if name in ("messages", "conversations"):
        roles = ("user", "assistant") if draws.random() < 0.8 else _WORDS[2:7]
        return [{"role": role, "content": _word(draws)} for role in roles]
    return _word(draws)


def _json(value: Any, draws: Draws) -> str:
    return json.dumps(value, ensure_ascii=draws.random() < 0.7, indent=draws.choice((None, None, 1)))


def _bytes(text: str, draws: Draws) -> bytes:
    encoding = "utf-8" if draws.random() < 0.8 else draws.choice(_ENCODINGS)
    return text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace")


def _spoilt(content: bytes, draws: Draws, pieces: tuple[bytes, ...] = ()) -> bytes:
    """With up to four changes anywhere: a byte, a piece put in, doubled, moved or cut out, or the end cut off."""
    made = bytearray(content)
    for _ in range(draws.choice((0, 0, 0, 1, 1, 2, 4))):
        at, length = draws.randrange(len(made) + 1), draws.randrange(1, 80)
        match draws.randrange(6):
            case 0:
                made[at : at + 1] = bytes((draws.randrange(256),))
            case 1:
                made[at:at] = draws.choice(pieces or (b'"', b"\0", b"[" * 3000, b"\xff\xfe", b"\r", b"{" * 99, b"\n\n"))
            case 2:
                made[at:at] = made[at : at + length]
            case 3:
                del made[at : at + length]
            case 4:
                made += made[at : at + length]
            case _:
                if draws.random() < 0.3:
                    del made[at:]
    return bytes(made)


def _json_lines(draws: Draws) -> bytes:
    row = _row(draws)
    rows = [
        {name: _fitting(name, draws) for name in row} if draws.random() < 0.9 else _row(draws)
        for _ in range(draws.randrange(1, 12))
    ]
    lines = [json.dumps(one, ensure_ascii=draws.random() < 0.5) for one in rows]
    if draws.random() < 0.1:
        lines.insert(draws.randrange(len(lines) + 1), '{"a":' * draws.choice((50, 5000)) + "1")
    return _spoilt(_bytes(draws.choice(("\n", "\n", "\r\n")).join(lines), draws), draws)


def _json_file(draws: Draws) -> bytes:
    shape = _row(draws)
    rows: list[Any] = [{name: _fitting(name, draws) for name in shape} for _ in range(draws.randrange(1, 6))]
    whole = draws.choice((rows, {"data": rows, "n": _value(draws)}, {"train": rows, "test": rows}, _value(draws)))
    return _spoilt(_bytes(_json(whole, draws), draws), draws)


def _table(draws: Draws) -> bytes:
    separator = draws.choice((",", ";", "\t", "|"))
    header = list(draws.choice(_SHAPES[:5])) if draws.random() < 0.8 else draws.sample(_NAMES, 3)
    columns = len(header)
    lines = [header] if draws.random() < 0.9 else []
    for _ in range(draws.randrange(1, 15)):
        lines.append([_word(draws) for _ in range(columns if draws.random() < 0.9 else draws.randrange(9))])
    text = "\n".join(separator.join(_cell(one, separator, draws) for one in line) for line in lines)
    return _spoilt(_bytes(("sep=;\n" if draws.random() < 0.1 else "") + text, draws), draws)


def _cell(text: str, separator: str, draws: Draws) -> str:
    if draws.random() < 0.05:
        return text
    quoted = any(mark in text for mark in (separator, '"', "\n")) or draws.random() < 0.2
    return '"' + text.replace('"', '""') + '"' if quoted else text


def _messages(draws: Draws) -> bytes:
    roles: tuple[Any, ...] = draws.choice(
        (("customer", "agent"), ("customer", "agent"), ("user", "assistant", "system"), (1, None, "agent"))
    )
    times: tuple[Any, ...] = draws.choice(
        ((1, 2, 3), ("2024-01-01", "x", None), (1.5, "2", 10**30), ("01.02.2024", "3"))
    )
    rows = [
        {
            "ticket_id": n // 3,
            "role": draws.choice(roles),
            "content": _value(draws, 4),
            "created_at": draws.choice(times),
        }
        for n in range(draws.randrange(1, 30))
    ]
    draws.shuffle(rows)
    return _spoilt("\n".join(map(json.dumps, rows)).encode(), draws)


def _talks(draws: Draws) -> bytes:
    rows = []
    for _ in range(draws.randrange(1, 6)):
        who = ("Ann", "Bob") if draws.random() < 0.8 else ("Ann", 3, None)
        turns = [{"from": draws.choice(who), "value": _fitting("", draws)} for _ in range(draws.randrange(6))]
        rows.append({"talk": draws.choice((turns, turns, turns, _value(draws), json.dumps(turns)))})
    return _spoilt("\n".join(map(json.dumps, rows)).encode(), draws)


def _marked_up(begin: str) -> Callable[[Draws], bytes]:
    def make(draws: Draws) -> bytes:
        pieces = [draws.choice((*_MARKUP, *_WORDS)) for _ in range(draws.randrange(60))]
        if draws.random() < 0.1:
            pieces.insert(0, draws.choice(_MARKUP) * 20_000)
        return _spoilt(_bytes(begin + "".join(pieces), draws), draws)

    return make


def _packed(parts: Mapping[str, bytes], draws: Draws) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", draws.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED))) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
        if draws.random() < 0.03:
            archive.writestr("word/media/bomb", b"\0" * (64 << 20), zipfile.ZIP_DEFLATED)
    made = out.getvalue()
    return _spoilt(made, draws) if draws.random() < 0.2 else made


def _entities(draws: Draws) -> str:
    if draws.random() > 0.1:
        return ""
    levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 9))
    return f'<!DOCTYPE x [<!ENTITY e0 "ha">{levels}<!ENTITY f SYSTEM "file:///etc/passwd">]>'


def _word_document(draws: Draws) -> bytes:
    body = "".join(draws.choice(_WORD) for _ in range(draws.randrange(40)))
    xml = word_xml(f"{word_paragraph('Begin')}{'&e8;&f;' if draws.random() < 0.1 else ''}{body}", _entities(draws))
    whole = word_xml("".join(word_paragraph(f"Paragraph {n}") for n in range(9)))
    spoilt = _spoilt(draws.choice((xml, whole)).encode(), draws, tuple(piece.encode() for piece in _WORD))
    return draws.choice(
        (_packed({"word/document.xml": spoilt, "word/styles.xml": spoilt[:99]}, draws), docx("# One", "Two"))
    )


def _open_document(draws: Draws) -> bytes:
    pieces = _OFFICE_WHOLE if draws.random() < 0.7 else _OFFICE
    body = "".join(draws.choice(pieces) for _ in range(draws.randrange(40)))
    with zipfile.ZipFile(io.BytesIO(odt(f"<text:p>Begin</text:p>{body}"))) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["content.xml"] = _spoilt(parts["content.xml"], draws, tuple(piece.encode() for piece in _OFFICE))
    return _packed(parts, draws)


def _parquet(draws: Draws) -> bytes:
    rows = [_typed_row(draws) for _ in range(draws.randrange(1, 30))]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    for name in draws.sample(list(columns), 1):
        columns[draws.choice(_NAMES[:18])] = columns.pop(name)
    out = io.BytesIO()
    codec = draws.choice(("snappy", "zstd", "gzip", "none"))
    pq.write_table(pa.table(columns), out, compression=codec, row_group_size=draws.choice((1, 7, 1000)))
    return _spoilt(out.getvalue(), draws, (b"PAR1", b"\x15\x00", b"\xff" * 8, b"\0" * 30))


def _typed_row(draws: Draws) -> dict[str, Any]:
    turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": draws.choice(("So.", None))}]
    return {
        "messages": draws.choice((turns, [], None)),
        "question": draws.choice(("Why?", "", None, "x" * 2000)),
        "n": draws.choice((1, None, 2**62)),
        "bytes": draws.choice((b"\xff\0", None)),
        "nested": draws.choice(([[1], []], None)),
    }


def _pdf(draws: Draws) -> bytes:
    pages = [
        [f"Line {n} of some text that goes on." for n in range(draws.randrange(5))]
        for _ in range(draws.randrange(1, 4))
    ]
    made = pdf(*pages)
    for _ in range(draws.randrange(3)):
        words = made.split(b" ")
        words[draws.randrange(len(words))] = draws.choice(_PDF_WORDS)
        made = b" ".join(words)
    return _spoilt(made, draws, _PDF_WORDS)


IMPORTERS: Final = {
    "JSON lines": Importer("x.jsonl", _json_lines),
    "JSON": Importer("x.json", _json_file),
    "CSV": Importer("x.csv", _table),
    "text": Importer("x.md", _marked_up("# Title\n\n")),
    "messages in rows": Importer("x.jsonl", _messages),
    "mapped turns": Importer(
        "x.jsonl", _talks, {"conversation": "talk", "role:@first": "user", "role:@others": "assistant"}
    ),
    "HTML": Importer("x.html", _marked_up("<html><head><title>T</title></head><body>")),
    "Parquet": Importer("x.parquet", _parquet),
    "Word": Importer("x.docx", _word_document),
    "OpenDocument": Importer("x.odt", _open_document),
    "PDF": Importer("x.pdf", _pdf),
}
