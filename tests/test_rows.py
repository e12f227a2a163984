"""Held-out rows are chosen by content: reproducible, the same prompt on one side, the source's own split obeyed."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btmd.data.rows import Row, content_key, read_rows, row_key
from btmd.data.split import held_out, sides_and_keys, split_rows


def asked(question: str, answer: str = "Yes.", line: int = 1) -> Row:
    return {
        "line": line,
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
    }


def test_the_key_is_the_prompt_not_the_answer() -> None:
    assert row_key(asked("Why?", "Because.")) == row_key(asked("Why?", "No idea."))
    assert row_key(asked("Why?\n")) == row_key(asked("  Why?"))
    assert row_key(asked("Why?")) != row_key(asked("How?"))
    assert content_key(asked("Why?", "Because.")) != content_key(asked("Why?", "No idea."))


def test_a_text_is_its_own_key() -> None:
    assert row_key({"line": 1, "text": "a  b"}) == row_key({"line": 2, "text": "a b"})
    assert row_key({"line": 1, "text": "a"}) != row_key({"line": 1, "text": "b"})


@given(
    questions=st.lists(st.integers(0, 30), max_size=60),
    fraction=st.floats(0.01, 0.9),
    seed=st.integers(-(2**63), 2**63),
)
@settings(max_examples=60)
def test_no_prompt_is_on_both_sides(questions: list[int], fraction: float, seed: int) -> None:
    keys = [row_key(asked(str(question))) for question in questions]
    split = split_rows(keys, [None] * len(keys), fraction=fraction, seed=seed)
    out = {key for key, is_out in zip(keys, split.held_out, strict=True) if is_out}
    trained = {key for key, is_out in zip(keys, split.held_out, strict=True) if not is_out}
    assert not out & trained
    if len(set(keys)) >= 4:
        assert out
        assert trained
    else:
        assert not out


def test_a_row_keeps_its_side_when_others_are_added() -> None:
    keys = [row_key(asked(str(number))) for number in range(400)]
    few = split_rows(keys[:200], [None] * 200, fraction=0.1, seed=3)
    many = split_rows(keys, [None] * 400, fraction=0.1, seed=3)
    assert many.held_out[:200] == few.held_out
    assert few.held_out == [held_out(key, 0.1, 3) for key in keys[:200]]


def test_the_share_is_about_what_was_asked_for() -> None:
    keys = [row_key(asked(str(number))) for number in range(4000)]
    share = sum(split_rows(keys, [None] * 4000, fraction=0.1, seed=1).held_out) / 4000
    assert 0.08 < share < 0.12
    assert (
        split_rows(keys, [None] * 4000, fraction=0.1, seed=2).held_out
        != split_rows(keys, [None] * 4000, fraction=0.1, seed=1).held_out
    )


def test_a_split_made_by_the_source_is_obeyed_and_its_leaks_counted() -> None:
    rows = [asked("a"), asked("b"), asked("a"), asked("c")]
    rows[2]["split"] = "held_out"
    rows[3]["split"] = "held_out"
    split = split_rows(*sides_and_keys(rows), fraction=0.5, seed=0)
    assert split.held_out == [False, False, True, True]
    assert split.leaked == 1
    assert split.explicit


def test_a_source_that_only_says_train_is_split_like_any_other() -> None:
    keys = [row_key(asked(str(number))) for number in range(50)]
    split = split_rows(keys, ["train"] * 50, fraction=0.1, seed=0)
    assert any(split.held_out)
    assert not split.explicit


def test_nothing_is_held_out_when_nothing_is_asked_for() -> None:
    keys = [row_key(asked(str(number))) for number in range(50)]
    assert not any(split_rows(keys, [None] * 50, fraction=0.0, seed=0).held_out)


def test_a_file_of_rows_is_read_back_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [asked("Why?", line=3), Row(line=4, text="Text.", split="train")]
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    assert list(read_rows(path)) == rows
    path.write_bytes(b'{"line": 1, "messages": "no"}\n')
    with pytest.raises(msgspec.ValidationError):
        list(read_rows(path))
