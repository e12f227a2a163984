"""A file of JSON lines read by several processes gives the same rows, chunks and counts as read by one."""

import json
import os
import signal
import tempfile
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from btmd.data.row_chunks import RowsFile
from btmd.data.rows import read_rows
from btmd.errors import BtmdError, ChildFailed
from btmd.inspection import line_blocks
from btmd.inspection.dataset import inspect_dataset
from btmd.inspection.facts import DatasetFacts
from btmd.inspection.line_blocks import workers_for_lines
from btmd.reading.layouts import Layout

MIB = 1 << 20
FIRST = b'{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}\n'


def row(question: str, answer: str, split: str | None = None) -> bytes:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    record = {"messages": turns} if split is None else {"split": split, "messages": turns}
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass")


texts = st.text(st.sampled_from('ab cä\u2028\ufffd😀\n"\\'), max_size=40) | st.sampled_from(["word " * 60, "x" * 700])


def unusual(field: str) -> bytes:
    """Turns of which one has a field in another form."""
    return b'{"messages":[{"role":"user","content":"a"},{"role":"assistant",%b}]}' % field.encode()


UNUSUAL = [
    unusual(field)
    for field in (
        *('"content":"b","content":"c"', '"content":"b","role":"user"', '"content":"b","role":"Assistant"', '"role":7'),
        *('"content":"b","tool_calls":[{"name":"f","arguments":{}}]', '"content":"b","weight":0', '"content":" "'),
        *('"content":["b"]', '"content":7', '"content":null', '"content":""', '"content":"\\ud800"', '"value":"b"'),
        *('"content":[{"type":"text","text":"b"}]', '"name":"x","content":"b"', '"content":"b","from":"human"'),
    )
]
OTHERS = [
    *(b'{"messages":[{"content":"a","role":"user"},{"content":"b","role":"assistant"}]}', b'{"messages":[]}'),
    *(b'{"messages":[{"role":"user","content":"a"}]}', b'{"messages":[],' + FIRST[1:].strip(), b'{"messages":[7]}'),
    *(b'{"id":1,"x":[{}],' + FIRST[1:].strip(), FIRST.strip()[:-1] + b',"messages":null}', b'{"messages":{}}'),
    *(FIRST.strip() + b"{}", b'{"Messages"' + FIRST[11:].strip(), FIRST.strip().replace(b"user", b"system")),
]
contents = st.one_of(
    st.builds(row, texts, texts),
    st.builds(row, texts, texts, st.sampled_from(["train", "test", "sideways"])),
    st.sampled_from([*UNUSUAL, *OTHERS]),
    st.sampled_from([FIRST.strip(), b"", b" ", b"\t", b"{", b"[]", b"17", b'{"other": 1}', b'{"messages": null}']),
    st.sampled_from([b'{"messages": "\xff"}', b'{"messages": ["\\ud800"]}', b"[" * 3000, b"y" * 900, b"\xef\xbb\xbf"]),
)
ends = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\n\n", b"\n\r\n \n", b"\r"])
files = st.builds(
    lambda mark, first, rest, last, plain: (mark + first + b"".join(map(b"".join, rest)) + last).replace(
        # Without the column of splits a file has turns and nothing else.
        b'"split"' if plain else b"\0",
        b'"other"',
    ),
    st.sampled_from([b"", b"", b"\xef\xbb\xbf"]),
    st.sampled_from([FIRST, b"\n \n" + FIRST, FIRST[:-1] + b"\r\n"]),
    st.lists(st.tuples(contents, ends), max_size=25),
    st.one_of(st.just(b""), contents, st.just(FIRST[:-20])),
    st.booleans(),
)


def outcome(content: bytes, workers: int) -> tuple[DatasetFacts | str, bytes]:
    """What is said of a file, and the list that names its chunks; what remains beside it is none of it half made."""
    with tempfile.TemporaryDirectory() as folder:
        source, rows = Path(folder) / "source", Path(folder) / "rows"
        source.write_bytes(content)
        with patch("btmd.inspection.dataset.workers_for_lines", lambda _size_bytes: workers):
            try:
                facts = inspect_dataset(source, "data.jsonl", rows, progress=lambda _share, _text: None)
            except BtmdError as error:
                assert os.listdir(folder) == ["source"]
                return f"{error.code}: {error.detail}", b""
        assert len(list(read_rows(rows))) == facts.rows_kept
        return facts, rows.read_bytes()


@settings(max_examples=40, deadline=None)
@given(
    content=files, block_bytes=st.integers(1, 700), long_bytes=st.integers(1, 900), most_bytes=st.integers(600, 1500)
)
@example(FIRST * 6, len(FIRST), 900, 1500)
@example(FIRST * 6, len(FIRST) - 1, 900, 1500)
@example(FIRST * 6, len(FIRST) + 1, 1, 1500)
@example(FIRST + b"y" * 5000 + b"\n" + FIRST, 100, 300, 600)
@example(FIRST + b"\n" * 50 + FIRST, 7, 300, 600)
@example(FIRST + b"\n".join([*UNUSUAL, *OTHERS]), 500, 900, 1500)
def test_two_processes_find_what_one_finds(content: bytes, block_bytes: int, long_bytes: int, most_bytes: int) -> None:
    # Small pieces of everything, so that each border falls on every place; no more blocks than are quickly read.
    block_bytes = max(block_bytes, len(content) // 200)
    with (
        patch("btmd.data.row_chunks.LEAST_CHUNK_BYTES", 200),
        patch("btmd.data.row_chunks.USUAL_CHUNK_BYTES", 600),
        patch("btmd.data.row_chunks.MOST_CHUNK_BYTES", 1000),
        patch("btmd.reading.json_lines.MAX_RECORD_BYTES", most_bytes),
        patch("btmd.inspection.line_blocks.BLOCK_BYTES", block_bytes),
        patch("btmd.inspection.line_blocks.LONG_LINE_BYTES", long_bytes),
    ):
        two, one = outcome(content, 2), outcome(content, 1)
    assert two == one
    # Reasons that are as frequent stand in the order in which they came.
    assert repr(two) == repr(one)


def test_a_file_of_blocks_as_they_are(tmp_path: Path) -> None:
    """With the sizes that are used: several blocks and chunks, one line over many blocks, lines without a row."""
    lines = [row(f"Question {number}?", f"Answer {number}. " * (number % 90)) for number in range(6000)]
    lines[100] = lines[200] = b""
    lines[2500] = row("Long?", "long " * (9 * MIB // 5))
    lines[4000] = b"{broken"
    content = b"\n".join(lines)
    assert len(content) > 12 * MIB
    facts, listed = outcome(content, 3)
    assert (facts, listed) == outcome(content, 1)
    assert isinstance(facts, DatasetFacts)
    assert [one.line for one in facts.broken] == [4001]
    assert facts.rows_kept == 6000 - 3 - facts.rows_empty
    (tmp_path / "rows").write_bytes(listed)
    chunks = RowsFile(tmp_path / "rows").chunks
    assert chunks is not None
    assert len(chunks) > 3


def test_processes_are_started_for_large_files_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    assert workers_for_lines(4 * MIB - 1) == 1
    assert workers_for_lines(4 * MIB) == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)))
    assert workers_for_lines(1000 * MIB) == 4
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3})
    assert workers_for_lines(1000 * MIB) == 1


def test_a_worker_that_is_killed_leaves_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, rows = tmp_path / "source", tmp_path / "rows"
    source.write_bytes(FIRST * (5 * MIB // len(FIRST)))
    read, here = line_blocks._block, os.getpid()

    def die_at_the_third(path: Path, begin: int, layout: Layout) -> line_blocks.Block:
        if os.getpid() != here and begin == 2 * MIB:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(path, begin, layout)

    monkeypatch.setattr(line_blocks, "_block", die_at_the_third)
    monkeypatch.setattr("btmd.inspection.dataset.workers_for_lines", lambda _size_bytes: 2)
    with pytest.raises(ChildFailed):
        inspect_dataset(source, "data.jsonl", rows, progress=lambda _share, _text: None)
    assert os.listdir(tmp_path) == ["source"]


def test_progress_grows_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.write_bytes(FIRST * (5 * MIB // len(FIRST)))
    monkeypatch.setattr("btmd.inspection.dataset.workers_for_lines", lambda _size_bytes: 2)
    told: list[float] = []
    inspect_dataset(source, "data.jsonl", tmp_path / "rows", progress=lambda share, _text: told.append(share))
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.0)
    assert len(told) >= 8
