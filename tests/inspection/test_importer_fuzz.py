"""Whatever stands in a file, its importer makes rows or refuses in words: no crash, no hang, no growth.

``BTMD_PROOF=1`` feeds each importer for ten minutes (``BTMD_PROOF_S``) and records the figures.
"""

import json
import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from benchmarks.results import Figure, Topic, record
from btmd.data.row_chunks import clear_rows
from btmd.data.rows import read_rows
from btmd.errors import BtmdError
from btmd.inspection.dataset import inspect_dataset
from tests.fixtures.documents import docx, odt, pdf, word_paragraph, word_xml, zipped
from tests.inspection.test_documents import parquet
from tests.inspection.test_parser_fuzz import spoiled

PROOF = bool(os.environ.get("BTMD_PROOF"))
PROOF_S = float(os.environ.get("BTMD_PROOF_S", "600"))
EXAMPLES = 40
"""In the short form; in the long form so many before the clock is looked at."""
MOST_GROWTH_BYTES = 48 * 1024 * 1024
MOST_S = 20.0
"""Of processor time for one file of a few kilobytes: far more than any takes."""

TURNS = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]
ROW = {"question": "Why?", "answer": "Because."}
MESSAGES = [
    {
        "ticket_id": n // 2,
        "role": ("customer", "agent")[n % 2],
        "content": f"m{n}",
        "created_at": f"2024-01-0{n % 9 + 1}",
    }
    for n in range(20)
]
PIECES = (
    *('{"question": "Why?", "answer": "Because."}', '{"messages": [', '{"role": "user", "content": "', "]}", "}", "{"),
    *(
        "[",
        "]",
        ",",
        ":",
        '"',
        '""',
        "\n",
        "\r\n",
        "\r",
        "\t",
        ";",
        "|",
        "\\",
        "\\u",
        "\\ud800",
        "null",
        "NaN",
        "1e999",
    ),
    *("9" * 5000, "[" * 3000, '{"a":' * 2000, "\0", "\ufeff", "\x1a", "# Title", "```", "sep=;\n", "question;answer"),
    *("<html>", "<!doctype html>", "<p>", "</p>", "<table><tr><td>", "<!--", "-->", "<script>", "</script>", "<pre>"),
    *("&#x110000;", "&amp", "&lt;", "<![CDATA[", "<?xml", "<title>", "<li>", "### Human:", "### Assistant:", "[INST]"),
    *("[/INST]", "<|im_start|>user\n", "<|im_end|>", "<human>:", "<bot>:", "Human: ", "\n\nAssistant: "),
    *('"train": [', '"test": [', '"data": [', "true", "-", "0.1", "ä", "日本", "\u2028", " ", "a" * 3000),
)


@dataclass(frozen=True)
class Importer:
    """A whole file to spoil, what it is called, and how its columns are mapped."""

    name: str
    whole: bytes
    is_text: bool = True
    mapping: Mapping[str, str] | None = None


IMPORTERS = {
    "JSON lines": Importer("x.jsonl", (json.dumps({"messages": TURNS}) + "\n").encode() * 5),
    "JSON": Importer("x.json", json.dumps({"version": 1, "data": [ROW] * 5, "note": {"a": [1]}}, indent=1).encode()),
    "CSV": Importer("x.csv", b'question,answer\n"a ""b""\nc",d\ne,f\n'),
    "text": Importer("x.md", b"# Title\n\nText.\n\n```\n# no\n```\n\n## More\n\nText.\n"),
    "messages in rows": Importer("x.jsonl", "".join(json.dumps(one) + "\n" for one in MESSAGES).encode()),
    "mapped turns": Importer(
        "x.jsonl",
        (json.dumps({"talk": [{"from": "Ann", "value": "a"}, {"from": "Bob", "value": "b"}]}) + "\n").encode() * 3,
        mapping={"conversation": "talk", "role:@first": "user", "role:@others": "assistant"},
    ),
    "HTML": Importer("x.html", b"<html><head><title>T</title></head><body><h1>A</h1><p>b<br>c<ul><li>d</ul></body>"),
    "Parquet": Importer("x.parquet", parquet([{"messages": TURNS, "n": n} for n in range(50)]), is_text=False),
    "Word": Importer("x.docx", docx("# One", "Text.", "More."), is_text=False),
    "OpenDocument": Importer("x.odt", odt("<text:h>One</text:h><text:p>Text<text:s/>.</text:p>"), is_text=False),
    "PDF": Importer(
        "x.pdf", pdf(["One heading", "Some text that goes on."], ["Two headings, or three"]), is_text=False
    ),
}
XML = (
    *("<w:p>", "</w:p>", "<w:r>", "</w:r>", "<w:t>a</w:t>", "<w:tbl>", "</w:tbl>", "<w:tr>", "</w:tr>", "<w:tab/>"),
    *("&lt;", "&unknown;", "<!--", "-->", "<![CDATA[", "]]>", "\0", "<w:p><w:r>" * 500, "<a xmlns='b'>", "</a>", "<"),
    *(word_paragraph("x"), "\ud7ff", "é", '<w:pStyle w:val="Heading1"/>', "<w:numPr/>"),
)


def contents(importer: Importer) -> st.SearchStrategy[bytes]:
    """Files that begin right and go wrong, and for texts also what pieces make up at random."""
    changed = st.integers(0, 2**32).map(
        lambda number: spoiled(importer.whole, len(importer.whole), random.Random(number))
    )
    if importer.name == "x.docx":
        bodies = st.lists(st.sampled_from(XML), max_size=30).map("".join)
        return changed | bodies.map(lambda body: zipped(word__document_xml=word_xml(body)))
    if not importer.is_text:
        return changed | st.binary(max_size=200).map(lambda end: importer.whole[:60] + end)
    made = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=30).map(
        lambda pieces: "".join(pieces).encode("utf-8", "surrogatepass")
    )
    return changed | made | made.map(lambda end: importer.whole + end) | st.binary(max_size=300)


class Fed:
    """Counts what became of the files, and the longest that one took."""

    def __init__(self, importer: Importer, folder: Path) -> None:
        self.files = self.refused = 0
        self.longest_s = 0.0
        self._importer, self._folder = importer, folder

    def feed(self, content: bytes) -> None:
        source, rows = self._folder / "source", self._folder / "rows"
        source.write_bytes(content)
        began = time.process_time()
        self.files += 1
        try:
            facts = inspect_dataset(
                source, self._importer.name, rows, mapping=self._importer.mapping, progress=lambda _share, _text: None
            )
        except BtmdError as error:
            self.refused += 1
            in_words = bool(error.detail and error.hint)
            assert in_words
            assert os.listdir(self._folder) == ["source"]
        else:
            assert len(list(read_rows(rows))) == facts.rows_kept > 0
            clear_rows(rows)
            source.unlink()
        taken = time.process_time() - began
        self.longest_s = max(self.longest_s, taken)
        assert taken < MOST_S


@pytest.mark.timeout(PROOF_S * 2 if PROOF else 300)
@pytest.mark.parametrize("what", IMPORTERS)
def test_any_file_becomes_rows_or_is_refused(what: str, tmp_path: Path) -> None:
    importer = IMPORTERS[what]
    fed = Fed(importer, tmp_path)
    fed.feed(importer.whole)
    assert fed.refused == 0
    process, began, turn, before = psutil.Process(), time.monotonic(), 0, 0
    while turn == 0 or (PROOF and time.monotonic() < began + PROOF_S):

        @seed(20_261_122 + turn)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(content=contents(importer))
        def feed(content: bytes) -> None:
            fed.feed(content)

        feed()
        turn += 1
        if turn == 3:
            # By now what the libraries keep for good is there.
            before = process.memory_info().rss
    growth_bytes = process.memory_info().rss - before if before else 0
    assert growth_bytes < MOST_GROWTH_BYTES
    if PROOF:
        record(
            Topic(
                f"Importers: spoiled files, {what}",
                "make proof-importers",
                [
                    Figure(f"files read within {PROOF_S:.0f} s", [fed.files], digits=0),
                    Figure("refused in words", [fed.refused], digits=0),
                    Figure("unhandled exceptions", [0], "", "<= 0", 0),
                    Figure("longest time for one file", [fed.longest_s], "s", "< 20"),
                    Figure("growth of the process", [growth_bytes / 1e6], "MB", "< 48"),
                ],
                notes=["Real files changed at random, and files put together from pieces of the format."],
            )
        )
