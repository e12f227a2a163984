"""The child's part of anonymising: rows with placeholders where personal data stood, and a look at that beforehand.

One value has one placeholder throughout. Which, is known only here and only meanwhile: under a hash with a key that
is made for the run and never leaves this process and its workers. When it ends, nobody can tell which was which.
"""

import array
import hashlib
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from btmd.data.row_chunks import RowsFile, RowsWriter
from btmd.data.rows import Row, content_key, shared_turns
from btmd.errors import InvalidValue
from btmd.inspection.anonymising_facts import AnonymisedRows, ReplacedKind, Replacements
from btmd.inspection.personal_data import KindCounts
from btmd.inspection.recogniser import pipelines
from btmd.inspection.requests import Replacing
from btmd.inspection.row_scan import LookingFor, Place, kinds_in, look_through, texts_of
from btmd.inspection.shown import AnonymisingPreview, ShownFinding
from btmd.privacy.masked import New, Replaced
from btmd.reading.one_file import open_file
from btmd.reading.told import told_by

_IN_USE: Final = re.compile(rb"\[([A-Z][A-Z0-9_]{0,30})_(\d{1,18})\]")
_LISTED: Final = 100
_CONTEXT_CHARS: Final = 40
_LONGEST_SHOWN: Final = 200
_MOST_VALUES: Final = 1_000_000
_LEAST_COLUMN_CHARS: Final = 3
_FIRST_PASS: Final = 0.1
Progress = Callable[[float, str], None]


class _Placeholders:
    """Gives each value its placeholder, numbered in the order of appearance after those that are there already."""

    def __init__(self, last_numbers: dict[str, int]) -> None:
        self._key = secrets.token_bytes(32)
        self._last = Counter(last_numbers)
        self._numbers: dict[bytes, int] = {}
        self.different: Counter[str] = Counter()

    def __call__(self, new: New) -> str:
        text = f"{new.kind}\0{new.value}".encode("utf-8", "surrogatepass")
        value = hashlib.blake2b(text, digest_size=12, key=self._key).digest()
        number = self._numbers.get(value)
        if number is None:
            self._last[new.kind] += 1
            number = self._numbers[value] = self._last[new.kind]
            self.different[new.kind] += 1
        return f"[{new.kind.upper()}_{number}]"


def anonymise(rows: Path, rows_total: int, out: Path, replacing: Replacing, progress: Progress) -> AnonymisedRows:
    """Write the rows with placeholders to ``out``. Where nothing was found, nothing is written.

    Raises InvalidValue for a pattern, a column or a list, and what reading raises.
    """
    looking_for = _looking_for(replacing, progress)
    placeholders = _Placeholders(_numbers_in_use(rows))
    measured, counts, lines = _Measured(), KindCounts(), list[int]()
    with RowsWriter(out) as writer:
        for row, found in _each(rows, rows_total, looking_for, progress):
            if found:
                _fill(row, found, placeholders)
                counts.add(row["line"], kinds_in(found))
                if len(lines) < _LISTED:
                    lines.append(row["line"])
            measured.add(row)
            writer.write(row)
        written = writer.finish() if counts.rows_affected else None
    changes = Replacements(
        rows_changed=counts.rows_affected,
        lines=tuple(lines),
        kinds={
            one.kind: ReplacedKind(rows=one.rows, findings=one.findings, different=placeholders.different[one.kind])
            for one in counts.kinds()
        },
        columns=dict(replacing.columns),
        names_looked_for=bool(pipelines()),
    )
    return measured.answer(changes, None if written is None else written.sha256, writer.size_bytes)


def preview(rows: Path, rows_total: int, replacing: Replacing, examples: int, progress: Progress) -> AnonymisingPreview:
    """What anonymising would replace: all of it counted, and of each kind the first ``examples`` in their context."""
    looking_for = _looking_for(replacing, progress)
    placeholders = _Placeholders(_numbers_in_use(rows))
    counts, total = KindCounts(), 0
    shown: list[ShownFinding] = []
    of_kind: Counter[str] = Counter()
    for row, found in _each(rows, rows_total, looking_for, progress):
        total += 1
        if not found:
            continue
        counts.add(row["line"], kinds_in(found))
        for place, replaced in found:
            for one in _in_context(row, place, replaced, placeholders):
                of_kind[one.kind] += 1
                if of_kind[one.kind] <= examples:
                    shown.append(one)
    return AnonymisingPreview(
        rows=total,
        rows_affected=counts.rows_affected,
        kinds=counts.kinds(),
        findings=tuple(shown),
        names_looked_for=bool(pipelines()),
    )


def _each(
    rows: Path, rows_total: int, looking_for: LookingFor, progress: Progress
) -> Iterator[tuple[Row, list[tuple[Place, Replaced]]]]:
    count = 0
    for looked in look_through(rows, looking_for):
        for number, row in enumerate(looked.rows):
            yield row, looked.found.get(number, [])
        count += len(looked.rows)
        progress(_FIRST_PASS + (1 - _FIRST_PASS) * count / max(1, rows_total), f"{count:,} rows looked through")


def _numbers_in_use(rows: Path) -> dict[str, int]:
    """The highest number of each kind of placeholder that the rows hold already."""
    highest: dict[str, int] = {}
    for stored, _ in RowsFile(rows).lines():
        for kind, number in _IN_USE.findall(stored):
            name = kind.decode().lower()
            highest[name] = max(highest.get(name, 0), int(number))
    return highest


def _fill(row: Row, found: list[tuple[Place, Replaced]], placeholders: _Placeholders) -> None:
    for (part, number), replaced in found:
        text = replaced.text(placeholders)
        if part == "messages":
            row["messages"][number]["content"] = text
        elif part == "rejected":
            row["rejected"][number]["content"] = text
        else:
            row["text"] = text


def _in_context(row: Row, place: Place, replaced: Replaced, placeholders: _Placeholders) -> Iterator[ShownFinding]:
    original = dict(texts_of(row))[place]
    role = "text" if place[0] == "text" else row["messages" if place[0] == "messages" else "rejected"][place[1]]["role"]
    at = len(replaced.pieces[0])
    for filling, piece in zip(replaced.fillings, replaced.pieces[1:], strict=True):
        if isinstance(filling, str):
            at += len(filling) + len(piece)
            continue
        end = at + len(filling.written)
        yield ShownFinding(
            line=row["line"],
            role=role,
            rejected=place[0] == "rejected",
            kind=filling.kind,
            before=original[max(0, at - _CONTEXT_CHARS) : at],
            found=filling.written[:_LONGEST_SHOWN],
            after=original[end : end + _CONTEXT_CHARS],
            placeholder=placeholders(filling),
        )
        at = end + len(piece)


# --- what is looked for -------------------------------------------------------------------------------


def _looking_for(replacing: Replacing, progress: Progress) -> LookingFor:
    words = [(one.kind, one.words) for one in replacing.lists]
    if replacing.columns:
        words += _columns(replacing, progress)
    return LookingFor(
        words=tuple(words),
        patterns=tuple((one.kind, one.expression) for one in replacing.patterns),
        regions=replacing.regions,
        kept=replacing.keep,
        exact_case=replacing.exact_case,
    )


def _columns(replacing: Replacing, progress: Progress) -> list[tuple[str, tuple[str, ...]]]:
    """The different values of the named columns of the source. Raises InvalidValue."""
    assert replacing.source is not None
    told, _ = told_by(replacing.source_told)
    opened = open_file(
        Path(replacing.source),
        replacing.source_name,
        lambda done: progress(_FIRST_PASS * done / 2, "Reading the columns"),
        told,
    )
    values: dict[str, set[str]] = {column: set() for column in replacing.columns}
    seen: set[str] = set(opened.columns)
    for record in opened.rest(tuple(values)):
        for column, found in values.items():
            if record.fields is None or column not in record.fields:
                continue
            seen.add(column)
            value = record.fields[column]
            if isinstance(value, str | int) and len(text := str(value).strip()) >= _LEAST_COLUMN_CHARS:
                found.add(text)
        if sum(map(len, values.values())) > _MOST_VALUES:
            raise InvalidValue(
                f"The columns hold more than {_MOST_VALUES:,} different values.", hint="Name fewer columns."
            )
    missing = sorted(set(values) - seen)
    if missing:
        raise InvalidValue(f"The file has no column {missing[0]}.", hint="`btmctl datasets show` lists the columns.")
    return [(replacing.columns[column], tuple(sorted(found))) for column, found in values.items()]


class _Measured:
    """What the facts of a version say of its rows, measured anew."""

    def __init__(self) -> None:
        self._keys = array.array("Q")
        self._chars = self._longest = 0

    def add(self, row: Row) -> None:
        self._keys.append(int.from_bytes(content_key(row)[:8], "little"))
        messages, rejected = row.get("messages", []), row.get("rejected", [])
        turns = [*messages, *rejected[shared_turns(messages, rejected) :]]
        chars = sum(len(one["content"]) for one in turns) + len(row.get("text", ""))
        self._chars += chars
        self._longest = max(self._longest, chars)

    def answer(self, changes: Replacements, rows_sha256: str | None, rows_size_bytes: int) -> AnonymisedRows:
        different = len(np.unique(np.frombuffer(self._keys, dtype=np.uint64))) if self._keys else 0
        return AnonymisedRows(
            rows_sha256=rows_sha256,
            rows_size_bytes=rows_size_bytes,
            duplicates=len(self._keys) - different,
            average_chars=round(self._chars / len(self._keys), 1) if self._keys else 0.0,
            longest_chars=self._longest,
            changes=changes,
        )
