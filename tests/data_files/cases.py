"""What a file is and what is to be found in it; and how a test asks for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from btmd.data.rows import Row, read_rows
from btmd.errors import BtmdError
from btmd.inspection.dataset import inspect_dataset
from btmd.inspection.facts import DatasetFacts

QUESTIONS = (
    ("Wie groß ist die Insel?", 'Etwa zwölf Kilometer lang, und "schmal".'),
    ("Where is the lamp; and why?", "In the tower, by the sea."),
    ("Qu'est-ce qu'un phare ?", "Une tour, très haute, avec une lumière."),
)
"""A few rows with what spoils files: separators, quotes, letters beyond ASCII."""


def asked(count: int = 3) -> list[dict[str, str]]:
    """Rows of question and answer, no two of them alike."""
    return [
        {"question": f"{QUESTIONS[n % 3][0]} ({n})", "answer": f"{QUESTIONS[n % 3][1]} ({n})"} for n in range(count)
    ]


def table(count: int = 3) -> list[list[str]]:
    """The same rows as a table."""
    return [[row["question"], row["answer"]] for row in asked(count)]


@dataclass(frozen=True)
class Refused:
    """The file cannot be used: the kind of refusal, and what it says among other things."""

    kind: type[BtmdError]
    says: str
    """In the sentence or in the hint."""


@dataclass(frozen=True)
class Kept:
    """The file is used. ``broken`` and ``empty`` are the rows that are not, by their lines."""

    rows: int
    broken: Mapping[int, str] = field(default_factory=dict)
    """Line and part of the reason."""
    empty: tuple[int, ...] = ()
    lines: tuple[int, ...] = ()
    """Of the rows that are kept; not looked at when left out."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Others that are to be so."""


@dataclass(frozen=True)
class Case:
    """A file by its name and its bytes (made when they are needed), and what is to be found."""

    title: str
    name: str
    content: bytes | Callable[[], bytes]
    expected: Refused | Kept
    looks_broken: bool = False
    """A good file that looks like a bad one."""


def inspected(
    folder: Path, name: str, content: bytes, mapping: Mapping[str, str] | None = None
) -> tuple[DatasetFacts, list[Row]]:
    """What is found in a file, and its rows. Raises what the inspection refuses with."""
    source, rows = folder / "source", folder / "rows"
    source.write_bytes(content)
    facts = inspect_dataset(source, name, rows, mapping=mapping, progress=lambda _share, _text: None)
    return facts, list(read_rows(rows))


def check(case: Case, folder: Path) -> None:
    """Inspect the file of a case and compare; a refusal must not quote what stands in the file."""
    content = case.content() if callable(case.content) else case.content
    if isinstance(case.expected, Refused):
        with pytest.raises(case.expected.kind) as refused:
            inspected(folder, case.name, content)
        said = f"{refused.value.detail} {refused.value.hint}"
        assert type(refused.value) is case.expected.kind, said
        assert case.expected.says in said
        assert not any(text in said for pair in QUESTIONS for text in pair)
        assert not (folder / "rows").exists()
        return
    facts, rows = inspected(folder, case.name, content)
    found = {row.line: row.reason for row in facts.broken}
    assert (facts.rows_kept, len(rows)) == (case.expected.rows, case.expected.rows), facts
    assert list(found) == list(case.expected.broken), found
    for line, reason in case.expected.broken.items():
        assert reason in found[line], found
    assert facts.empty_lines == case.expected.empty
    assert facts.rows_total == facts.rows_kept + facts.rows_broken + facts.rows_empty
    if case.expected.lines:
        assert tuple(row["line"] for row in rows) == case.expected.lines
    for name, value in case.expected.facts.items():
        assert getattr(facts, name) == value, (name, getattr(facts, name))
