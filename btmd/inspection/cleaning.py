"""Writes the rows of a version again without those that have a fault."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from msgspec import structs

from btmd.data.encoding import Encoded, EncodedPair, Encoder
from btmd.data.near_duplicates import Groups
from btmd.data.row_chunks import RowsWriter
from btmd.data.rows import Row, row_key
from btmd.data.text_faults import looks_cut_off
from btmd.errors import NothingToLearn, TemplateMismatch
from btmd.inspection.facts import DatasetFacts
from btmd.inspection.quality_facts import CleanFacts
from btmd.inspection.requests import CleanRequest
from btmd.inspection.row_faults import (
    ROW_FAULTS,
    Some,
    faults_of,
    is_short,
    language_of_row,
    question_and_answer,
    texts_of,
)
from btmd.inspection.workers import portions

Progress = Callable[[float, str], None]

_BY_MODEL: Final = frozenset({"too_long", "nothing_learned", "untemplated"})


def clean(request: CleanRequest, progress: Progress) -> CleanFacts:
    """Write the rows that are left, whole or not at all, and say what is left out.

    Raises NothingToLearn when no row would be left, OSError, and what Encoder.load raises.
    """
    judge = _Judge(request)
    dropped: defaultdict[str, Some] = defaultdict(Some)
    with RowsWriter(Path(request.cleaned)) as out:
        tally = _Tally()
        for number, row, by_model in _rows(request):
            kind = judge.fault(number, row) or by_model
            if kind:
                dropped[kind].add(row["line"])
            else:
                out.write(row)
                tally.take(row, repeats=number in judge.repeating)
            if number % 2000 == 0:
                progress(number / max(1, request.facts.rows_kept), f"{number:,} rows looked at")
        if tally.rows == 0 or tally.held_out == tally.rows:
            raise NothingToLearn("No row to train on would be left.", hint="Drop fewer kinds of rows.")
        written = out.finish()
    facts = tally.facts(request.facts, request.drop)
    return CleanFacts(
        facts=structs.replace(facts, rows_sha256=written.sha256, rows_size_bytes=written.size_bytes),
        rows_before=request.facts.rows_kept,
        dropped={kind: some.listed() for kind, some in dropped.items()},
    )


class _Judge:
    """Tells the first kind among those to drop that a row is of."""

    def __init__(self, request: CleanRequest) -> None:
        drop = frozenset(request.drop)
        groups = Groups.load(Path(request.groups))
        exact = set(groups.rows[groups.exact].tolist())
        near = set(groups.rows[~groups.exact].tolist())
        self.repeating: frozenset[int] = frozenset(exact)
        self._exact = exact if "duplicates" in drop else set()
        self._near = near if "near_duplicates" in drop else set()
        self._own = [fault for fault in ROW_FAULTS if fault in drop]
        self._drop, self._languages = drop, frozenset(request.languages)
        self._held_out = _held_out(request, groups) if "leaked" in drop else None

    def fault(self, number: int, row: Row) -> str:
        """The kind, empty for a row that stays. Rows are asked about in their order."""
        if self._held_out is not None and self._held_out.leaks(number, row):
            return "leaked"
        # What a held-out row repeats may just have been left out of what is trained on.
        if self._held_out is None or self._held_out.repeats(number, row):
            if number in self._exact:
                return "duplicates"
            if number in self._near:
                return "near_duplicates"
        if self._own:
            found = faults_of(row)
            for fault in self._own:
                if fault in found:
                    return fault
        _, answer = question_and_answer(row)
        if answer is not None and "short_answers" in self._drop and is_short(answer):
            return "short_answers"
        if answer is not None and "cut_off_answers" in self._drop and looks_cut_off(answer):
            return "cut_off_answers"
        if self._languages and language_of_row(row) in self._languages:
            return "other_language"
        return ""


class _HeldOut:
    """The prompts and the groups that are held out."""

    def __init__(self, labels: list[int]) -> None:
        self._labels = labels
        self._prompts: set[bytes] = set()
        self._groups: set[int] = set()
        self._seen: set[int] = set()

    def add(self, number: int, row: Row) -> None:
        self._prompts.add(row_key(row)[:8])
        self._groups.add(self._labels[number])

    def leaks(self, number: int, row: Row) -> bool:
        """Whether the row is trained on, and its prompt or its like is held out."""
        if row.get("split") == "held_out":
            return False
        return row_key(row)[:8] in self._prompts or self._labels[number] in self._groups

    def repeats(self, number: int, row: Row) -> bool:
        """Whether a row that says the same as others stands behind one of them that stays."""
        label = self._labels[number]
        if row.get("split") != "held_out":
            return True
        is_first = label not in self._seen
        self._seen.add(label)
        return not is_first


def _held_out(request: CleanRequest, groups: Groups) -> _HeldOut:
    found = _HeldOut(groups.labels().tolist())
    for first, rows in portions(Path(request.rows), 0, 1):
        for number, row in enumerate(rows, first):
            if row.get("split") == "held_out":
                found.add(number, row)
    return found


def _rows(request: CleanRequest) -> Iterator[tuple[int, Row, str]]:
    """Every row with its number, and what a model has against it."""
    by_model = frozenset(request.drop) & _BY_MODEL
    encoder = Encoder.load(Path(request.model)) if by_model and request.model else None
    for first, rows in portions(Path(request.rows), 0, 1):
        found = _model_faults(encoder, rows, request.max_length) if encoder is not None else [""] * len(rows)
        for number, (row, fault) in enumerate(zip(rows, found, strict=True), first):
            yield number, row, fault if fault in by_model else ""


def _model_faults(encoder: Encoder, rows: list[Row], max_length: int) -> list[str]:
    pairs = all("rejected" in row for row in rows)
    encoded = encoder.encode_pairs(rows) if pairs else encoder.encode_many(rows)
    return [_model_fault(one, max_length) for one in encoded]


def _model_fault(encoded: Encoded | EncodedPair | TemplateMismatch, max_length: int) -> str:
    if isinstance(encoded, TemplateMismatch):
        return "untemplated"
    sides = [encoded] if isinstance(encoded, Encoded) else [encoded.chosen, encoded.rejected]
    if max(len(side.input_ids) for side in sides) > max_length:
        return "too_long"
    return "" if all(any(side.learned) for side in sides) else "nothing_learned"


class _Tally:
    """Counts of the rows that are left."""

    def __init__(self) -> None:
        self.rows = self.held_out = self._sided = self._repeats = 0
        self._turns = self._chars = self._longest = self._damaged = 0

    def take(self, row: Row, *, repeats: bool) -> None:
        texts = texts_of(row)
        chars = sum(map(len, texts))
        self.rows += 1
        self.held_out += row.get("split") == "held_out"
        self._sided += "split" in row
        self._repeats += repeats
        self._turns += len(texts)
        self._chars += chars
        self._longest = max(self._longest, chars)
        self._damaged += any("\ufffd" in text for text in texts)

    def facts(self, before: DatasetFacts, drop: tuple[str, ...]) -> DatasetFacts:
        """Those of the version before with what is different now. Broken and empty rows are told of until dropped."""
        facts = structs.replace(
            before,
            rows_kept=self.rows,
            duplicates=self._repeats,
            damaged_characters=self._damaged,
            has_split=self._sided > 0,
            rows_held_out=self.held_out,
            turns_total=self._turns,
            average_chars=round(self._chars / max(1, self.rows), 1),
            longest_chars=self._longest,
        )
        if "broken" in drop:
            facts = structs.replace(facts, rows_broken=0, broken=(), broken_reasons={})
        if "empty" in drop:
            facts = structs.replace(facts, rows_empty=0, empty_lines=())
        return structs.replace(facts, rows_total=facts.rows_kept + facts.rows_broken + facts.rows_empty)
