"""A report tells in words what is wrong, and its score never falls when a faulty row is dropped."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from btmd.inspection.facts import BrokenRow, DatasetFacts, LengthCount, PersonalData, PersonalKind, TokenFacts
from btmd.inspection.findings import DROPPABLE, KINDS, Known, Report, report_on
from btmd.inspection.quality_facts import Listed, QualityFacts

OF_FILE = {"broken", "empty"}
OF_TOKENS = {"too_long", "nothing_learned", "untemplated"}
OF_ROWS = sorted(set(KINDS) - OF_FILE - OF_TOKENS - {"personal_data"})
DROPPED = sorted(kind for kind, meant in KINDS.items() if meant.drops)


def facts(rows: int, *, broken: int = 0, empty: int = 0) -> DatasetFacts:
    values: dict[str, Any] = {
        "format": "jsonl",
        "encoding": "utf-8",
        "separator": None,
        "layout": "messages",
        "columns": ("messages",),
        "columns_used": ("messages",),
        "rows_total": rows,
        "rows_kept": rows - broken - empty,
        "rows_broken": broken,
        "rows_empty": empty,
        "duplicates": 0,
        "damaged_characters": 0,
        "broken": tuple(BrokenRow(line, "not valid JSON") for line in range(1, min(broken, 100) + 1)),
        "broken_reasons": {"not valid JSON": broken} if broken else {},
        "empty_lines": tuple(range(1, min(empty, 100) + 1)),
        "has_split": False,
        "rows_held_out": 0,
        "unknown_splits": 0,
        "turns_total": rows,
        "average_chars": 100.0,
        "longest_chars": 200,
        "sha256": "0" * 64,
        "size_bytes": 1,
        "rows_sha256": "0" * 64,
        "rows_size_bytes": 1,
    }
    return DatasetFacts(**values)


def quality(rows: int, counts: dict[str, int]) -> QualityFacts:
    return QualityFacts(
        rows=rows,
        found={kind: Listed(count, (1,)) for kind, count in counts.items() if count},
        answers=rows,
        distinct_answers=rows,
        languages={"en": rows},
        minor_languages=(),
        median_chars=100,
        longest_share=0.02,
        similar_groups=0,
    )


def tokens(rows: int, *, too_long: int = 0, nothing_learned: int = 0, untemplated: int = 0) -> TokenFacts:
    return TokenFacts(
        rows=rows,
        tokens_total=rows * 50,
        learned_tokens=rows * 20,
        rows_nothing_learned=nothing_learned,
        nothing_learned_lines=(4,) if nothing_learned else (),
        rows_refused=untemplated,
        refused_lines=(),
        refused_reason=None,
        shortest=1,
        mean=50.0,
        p50=50,
        p90=90,
        p95=95,
        p99=99,
        longest=3000,
        histogram={64: rows - too_long, 3008: too_long},
        over=(LengthCount(1024, too_long),),
        longest_rows=((3000, 7), (2500, 3), (900, 2)),
        template="model",
        warnings=(),
    )


def report(rows: int, counts: dict[str, int], **more: Any) -> Report:
    of_file = {kind: counts.get(kind, 0) for kind in OF_FILE}
    of_tokens = {kind: counts.get(kind, 0) for kind in OF_TOKENS}
    personal = counts.get("personal_data", 0)
    known = Known(
        dataset_id="faq",
        facts=facts(rows, **of_file),
        quality=quality(rows, {kind: counts.get(kind, 0) for kind in OF_ROWS}),
        tokens=tokens(rows, **of_tokens),
        max_length=1024,
        model_id="tiny",
        personal=PersonalData(
            rows=rows,
            rows_affected=personal,
            kinds=(PersonalKind(kind="email", rows=personal, findings=personal, lines=(9,)),) if personal else (),
        ),
        **more,
    )
    return report_on(known)


counted = st.fixed_dictionaries({kind: st.integers(0, 40) for kind in KINDS})


@given(rows=st.integers(1, 400), counts=counted, removed=st.sets(st.sampled_from(DROPPED), min_size=1))
@settings(max_examples=300)
def test_dropping_a_faulty_row_never_lowers_the_score(rows: int, counts: dict[str, int], removed: set[str]) -> None:
    """The row has each of the faults in ``removed``, and perhaps others that do not lead to its being dropped."""
    rows += max(counts.values())
    removed = {kind for kind in removed if counts[kind]}
    if not removed:
        return
    after = {kind: count - (kind in removed) for kind, count in counts.items()}
    assert report(rows - 1, after).score >= report(rows, counts).score


@given(rows=st.integers(41, 400), counts=counted, kind=st.sampled_from(sorted(KINDS)))
@settings(max_examples=200)
def test_more_faulty_rows_never_raise_the_score_and_points_add_up(rows: int, counts: dict[str, int], kind: str) -> None:
    before = report(rows, counts)
    assert 0 <= before.score <= 100
    assert all(0 <= part.score <= 100 and part.costs >= 0 for part in before.parts)
    assert all(found.gain >= 0 for found in before.findings)
    assert {found.kind for found in before.findings} == {one for one, count in counts.items() if count}
    assert report(rows, counts | {kind: counts[kind] + 1}).score <= before.score


@given(rows=st.integers(200, 400), counts=counted, kind=st.sampled_from(DROPPED))
@settings(max_examples=200)
def test_a_gain_is_what_dropping_the_rows_would_bring(rows: int, counts: dict[str, int], kind: str) -> None:
    """Where rows have one fault each; dropping one with several brings more."""
    rows += sum(counts.values())
    found = {one.kind: one for one in report(rows, counts).findings}
    if kind in found:
        after = report(rows - counts[kind], counts | {kind: 0}).score
        assert abs(after - report(rows, counts).score - found[kind].gain) < 0.21


def test_a_dataset_without_faults_has_all_points() -> None:
    found = report(100, {})
    assert found.score == 100
    assert found.findings == ()
    assert {part.score for part in found.parts} == {100}


def test_a_few_faults_cost_little_and_many_cost_much() -> None:
    assert 90 < report(1000, {"duplicates": 10}).score < 98
    assert report(1000, {"duplicates": 600}).score < 60
    assert report(1000, {"mojibake": 500, "broken": 300}).score < 40


def test_a_finding_says_what_it_means_and_what_helps() -> None:
    (found,) = report(200, {"duplicates": 21}).findings
    assert found.text == "21 rows (10.5 %) repeat an earlier row exactly."
    assert found.command == "btmctl datasets clean faq --drop duplicates"
    assert found.severity == "serious"
    assert found.meaning
    assert found.lines == (1,)
    (broken,) = report(200, {"broken": 1}).findings
    assert broken.text == "1 row (0.5 %) cannot be read."
    assert "not valid JSON (1)" in broken.meaning


def test_rows_that_are_too_long_are_told_with_their_lines_and_by_the_length_that_was_asked_for() -> None:
    (found,) = report(200, {"too_long": 2}).findings
    assert found.text == "2 rows (1.0 %) are longer than 1,024 tokens."
    assert found.lines == (3, 7)
    assert found.command == "btmctl datasets clean faq --drop too_long --model tiny --max-length 1024"
    asked = Known(dataset_id="faq", facts=facts(200), tokens=tokens(200, too_long=3), max_length=1000)
    assert [one.count for one in report_on(asked).findings] == [3]


def test_personal_data_is_told_by_kind_where_it_was_looked_for() -> None:
    (found,) = report(200, {"personal_data": 5}).findings
    assert "e-mail addresses" in found.text
    assert found.command == "btmctl datasets anonymise faq"
    assert report_on(Known(dataset_id="faq", facts=facts(10))).findings == ()


def test_what_can_be_dropped_is_named_as_findings_are() -> None:
    assert all(kind in KINDS for kind in DROPPABLE)


def test_a_report_is_plain_values() -> None:
    values = msgspec.to_builtins(report(10, {"duplicates": 1}))
    assert values["findings"][0]["lines"] == [1] or values["findings"][0]["lines"] == (1,)
