"""A dataset is measured in the model's own tokens: lengths, what is learned, what would be left out."""

from pathlib import Path

import msgspec
import pytest

from btmd.data.encoding import Encoder
from btmd.data.rows import Row
from btmd.errors import NothingToLearn, TokenizerMissing
from btmd.inspection.facts import TokenFacts
from btmd.inspection.tokens import measure
from tests.fixtures.tiny_model import CHATML_TEMPLATE, make_tokenizer

ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('no') }}{% endif %}"
    "{{ '<|im_start|>' + m.role + ' ' + m.content + '<|im_end|>' }}{% endfor %}"
)
MUTE = "{% for m in messages %}{{ '<|im_start|>' + m.role + '<|im_end|>' if m.role == 'user' else '' }}{% endfor %}"


def pair(line: int, answer: str, question: str = "Why?") -> Row:
    return {
        "line": line,
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
    }


def measured(
    folder: Path, rows: list[Row], template: str = CHATML_TEMPLATE, max_length: int | None = None
) -> TokenFacts:
    make_tokenizer(folder, chat_template=template)
    path = folder / "rows.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return measure(path, folder, max_length=max_length, progress=lambda _share, _text: None)


def test_the_counts_are_those_of_the_encoder(tmp_path: Path) -> None:
    rows = [pair(number, "word " * (number % 150)) for number in range(1, 2301)]
    facts = measured(tmp_path, rows, max_length=100)
    encoder = Encoder.load(tmp_path)
    encoded = [encoder.encode(row) for row in rows[:300]]
    lengths = [len(one.input_ids) for one in encoded]
    facts_of_few = measured(tmp_path, rows[:300], max_length=100)
    assert facts.rows == 2300
    assert facts_of_few.tokens_total == sum(lengths)
    assert facts_of_few.learned_tokens == sum(sum(one.learned) for one in encoded)
    ordered = sorted(lengths)
    assert facts_of_few.shortest == ordered[0]
    assert (facts_of_few.p50, facts_of_few.p90, facts_of_few.p99) == (ordered[149], ordered[269], ordered[296])
    assert facts_of_few.longest == ordered[-1]
    over = {count.max_length: count.rows_over for count in facts_of_few.over}
    assert over[100] == sum(length > 100 for length in lengths)
    assert over[128] == sum(length > 128 for length in lengths)
    assert sum(facts_of_few.histogram.values()) == 300
    assert any("longer than 100 tokens" in warning for warning in facts_of_few.warnings)


def test_rows_without_an_answer_and_rows_the_template_refuses_are_counted(tmp_path: Path) -> None:
    asked: Row = {"line": 2, "messages": [{"role": "user", "content": "Why?"}]}
    twice: Row = {"line": 3, "messages": [*asked["messages"], *pair(3, "Because.")["messages"]]}
    facts = measured(tmp_path, [pair(1, "Because."), asked, twice], ALTERNATING)
    assert (facts.rows_nothing_learned, facts.nothing_learned_lines) == (1, (2,))
    assert (facts.rows_refused, facts.refused_lines) == (1, (3,))
    assert facts.rows == 3


def test_texts_and_conversations_may_be_mixed(tmp_path: Path) -> None:
    text: Row = {"line": 2, "text": "Bees live together in a hive."}
    facts = measured(tmp_path, [pair(1, "Because."), text, pair(3, "Therefore.")])
    encoder = Encoder.load(tmp_path)
    expected = [encoder.encode(row) for row in (pair(1, "Because."), text, pair(3, "Therefore."))]
    assert facts.learned_tokens == sum(sum(one.learned) for one in expected)


@pytest.mark.parametrize(
    ("rows", "template"),
    [
        ([pair(1, "Because.")], MUTE),
        ([{"line": 1, "messages": [{"role": "user", "content": "Why?"}]}], CHATML_TEMPLATE),
        ([{"line": 1, "messages": [{"role": "assistant", "content": "Why?"}]}], ALTERNATING),
    ],
)
def test_a_dataset_in_which_nothing_would_be_learned_is_refused(rows: list[Row], template: str, tmp_path: Path) -> None:
    with pytest.raises(NothingToLearn) as refusal:
        measured(tmp_path, rows, template)
    assert "Why" not in refusal.value.detail


def test_a_model_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(msgspec.json.encode(pair(1, "Because.")) + b"\n")
    with pytest.raises(TokenizerMissing):
        measure(tmp_path / "rows.jsonl", tmp_path, max_length=None, progress=lambda _share, _text: None)


def test_several_workers_count_what_one_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [pair(number, "word " * (number % 150) + "." * (number % 7)) for number in range(1, 301)]
    alone = measured(tmp_path, rows)
    assert alone.longest_rows[0] == (alone.longest, alone.longest_rows[0][1])
    assert len(alone.longest_rows) == 100
    monkeypatch.setattr("btmd.inspection.workers.PORTION_ROWS", 11)
    monkeypatch.setattr("btmd.inspection.tokens.workers_for", lambda path: 3)
    assert measured(tmp_path, rows) == alone
