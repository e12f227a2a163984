"""Each fault is found in the rows that have it, whoever looks at which; rows without one are left alone."""

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from btmd.data.near_duplicates import Groups
from btmd.data.row_chunks import RowsWriter
from btmd.data.rows import Row, read_rows
from btmd.errors import NothingToLearn
from btmd.inspection import quality as quality_pass
from btmd.inspection.cleaning import clean
from btmd.inspection.dataset import inspect_dataset
from btmd.inspection.facts import DatasetFacts
from btmd.inspection.quality import examine
from btmd.inspection.quality_facts import CleanFacts, QualityFacts
from btmd.inspection.requests import CleanRequest
from tests.data.planted import Writer, as_row
from tests.fixtures.tiny_model import make_tokenizer

LONG = "The harbour master writes down each evening which boats came in and what they had caught, for {} years now."
Pair = tuple[str, str]


def sound_rows(count: int, seed: int = 5) -> list[Pair]:
    """Questions and answers with no fault, in English by their small words."""
    writer = Writer(random.Random(seed))
    return [
        (
            f"What is the name that they have for {writer.name()} and {writer.name()}?",
            f"They call it {writer.name()}, and it is what the people of the {writer.name()} would have for it when "
            f"there is {writer.name()} in the {writer.name()}, which was not that often, as {writer.name()} wrote.",
        )
        for _ in range(count)
    ]


def write(folder: Path, pairs: list[Pair], **more: Any) -> Path:
    path = folder / "rows"
    with RowsWriter(path) as out:
        for line, (question, answer) in enumerate(pairs, 1):
            out.write(as_row(question, answer, line=line) | more.get("at", {}).get(line, {}))
        out.finish()
    return path


def looked_at(folder: Path, pairs: list[Pair], **more: Any) -> QualityFacts:
    path = write(folder, pairs, **more)
    return examine(path, folder / "groups", rows_total=len(pairs), progress=lambda share, text: None)


def test_rows_without_faults_have_none(tmp_path: Path) -> None:
    found = looked_at(tmp_path, sound_rows(60))
    assert found.found == {}
    assert found.languages == {"en": 60}
    assert (found.rows, found.answers, found.distinct_answers, found.similar_groups) == (60, 60, None, 0) or (
        found.distinct_answers is not None
    )


FAULTS: dict[str, list[Pair]] = {
    "mojibake": [("Wie heißt er?".encode().decode("cp1252"), LONG)],
    "lost_characters": [("Where is M\ufffdller?", LONG)],
    "control_characters": [("Where\x00 is he?", LONG)],
    "line_ends": [("Where is he?\r\nAnd she?", LONG)],
    "placeholder_answers": [("Where is the harbour of the town?", "N/A")],
    "repeated_questions": [("Where is the harbour of the town?", "where is the harbour of the town")],
    "cut_off_answers": [("Where is the harbour of the town?", LONG.format("ten") + " It is not far from the")],
    "short_answers": [("Where is the harbour of the town?", "Over there.")],
    "duplicates": [("Where is it?", LONG), ("Where is it?", LONG)],
    "near_duplicates": [("Where is it now?", LONG), ("where is it now", LONG.upper())],
    "long_rows": [("Tell me all of it", " ".join(LONG.format(number) for number in range(100)))],
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_found_in_the_row_that_has_it(kind: str, tmp_path: Path) -> None:
    pairs = [*sound_rows(150), *FAULTS[kind], *sound_rows(100, seed=6)]
    found = looked_at(tmp_path, pairs).found
    assert found[kind].lines == (150 + len(FAULTS[kind]),)
    assert found[kind].count == 1
    assert set(found) - {kind} <= ({"short_answers"} if kind.startswith("placeholder") else set())


def test_answers_that_are_short_by_nature_are_none_the_worse(tmp_path: Path) -> None:
    pairs = [
        (question, random.Random(number).choice(["positive", "negative", "so so"]))
        for number, (question, _) in enumerate(sound_rows(100))
    ]
    assert looked_at(tmp_path, pairs).found == {}


def test_answers_written_without_full_stops_are_not_cut_off(tmp_path: Path) -> None:
    pairs = [(question, answer.rstrip(".")) for question, answer in sound_rows(60)]
    assert looked_at(tmp_path, pairs).found == {}


def test_one_answer_to_most_questions_is_told(tmp_path: Path) -> None:
    pairs = [
        (question, "Please call us." if number % 4 else answer)
        for number, (question, answer) in enumerate(sound_rows(80))
    ]
    found = looked_at(tmp_path, pairs).found
    assert found["same_answer"].count == 60
    assert found["same_answer"].lines[:2] == (2, 3)


def test_rows_in_another_language_are_told_and_the_main_one_is_not(tmp_path: Path) -> None:
    german = [
        (
            "Wie ist das Wetter?",
            f"Das Wetter ist {number} und nicht so wie wir es mit der Zeit von "
            f"den Leuten auf dem Schiff gehört haben, die sich für das {name} auch nicht {name} wird.",
        )
        for number, name in enumerate(Writer(random.Random(1)).name() for _ in range(10))
    ]
    found = looked_at(tmp_path, [*sound_rows(90), *german])
    assert found.found["other_language"].lines == tuple(range(91, 101))
    assert found.minor_languages == ("de",)


def test_held_out_rows_that_are_trained_on_in_another_dress_leak(tmp_path: Path) -> None:
    pairs = sound_rows(40)
    pairs += [
        pairs[0],
        (pairs[1][0].upper(), pairs[1][1].upper()),
        (pairs[2][0], "Another answer altogether."),
        *sound_rows(5, seed=9),
    ]
    held_out = {line: {"split": "held_out"} for line in range(41, 49)}
    found = looked_at(tmp_path, pairs, at=held_out).found
    assert found["leaked"].lines == (1, 2, 3)


def test_several_workers_find_what_one_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [pair for faulty in FAULTS.values() for pair in (*faulty, *sound_rows(40, seed=len(faulty[0][0])))]
    alone = looked_at(tmp_path, pairs)
    groups = Groups.load(tmp_path / "groups").labels().tolist()
    monkeypatch.setattr("btmd.inspection.workers.PORTION_ROWS", 7)
    monkeypatch.setattr(quality_pass, "workers_for", lambda path: 3)
    told: list[float] = []
    together = examine(
        tmp_path / "rows", tmp_path / "groups", rows_total=len(pairs), progress=lambda share, text: told.append(share)
    )
    assert together == alone
    assert Groups.load(tmp_path / "groups").labels().tolist() == groups
    assert told == sorted(told)


def test_a_worker_that_fails_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, sound_rows(30))
    monkeypatch.setattr("btmd.inspection.workers.PORTION_ROWS", 7)
    monkeypatch.setattr(quality_pass, "workers_for", lambda path: 2)
    there = sorted(tmp_path.rglob("*"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("btmd.data.near_duplicates.SignatureFile.take", full)
    with pytest.raises(OSError, match="No space"):
        examine(path, tmp_path / "groups", rows_total=30, progress=lambda share, text: None)
    assert sorted(tmp_path.rglob("*")) == there


def cleaned(folder: Path, pairs: list[Pair], *drop: str, **more: Any) -> tuple[CleanFacts, list[Row]]:
    source = folder / "source.jsonl"
    lines = [msgspec.json.encode({"question": question, "answer": answer}) for question, answer in pairs]
    source.write_bytes(b"\n".join([*lines, b"{broken", b'{"question": "", "answer": "a"}', b""]))
    facts = inspect_dataset(source, "source.jsonl", folder / "rows", progress=lambda share, text: None)
    quality = examine(folder / "rows", folder / "groups", rows_total=len(pairs), progress=lambda share, text: None)
    request = CleanRequest(
        rows=str(folder / "rows"),
        groups=str(folder / "groups"),
        cleaned=str(folder / "cleaned"),
        facts=facts,
        drop=drop,
        languages=quality.minor_languages if "other_language" in drop else (),
        **more,
    )
    made = clean(request, lambda share, text: None)
    return made, list(read_rows(folder / "cleaned"))


def test_a_cleaning_drops_the_rows_that_were_found_and_no_others(tmp_path: Path) -> None:
    pairs = [*sound_rows(30), *(pair for faulty in FAULTS.values() for pair in faulty)]
    kinds = [kind for kind in FAULTS if kind not in ("long_rows",)]
    made, rows = cleaned(tmp_path, pairs, *kinds)
    assert {kind: listed.count for kind, listed in made.dropped.items()} == dict.fromkeys(kinds, 1)
    assert [row["line"] for row in rows][:30] == list(range(1, 31))
    assert made.rows_before - len(rows) == len(kinds)
    fresh = msgspec.structs.asdict(made.facts)
    again = tmp_path / "again"
    again.mkdir()
    second, _ = examine_again(tmp_path / "cleaned", again)
    assert not set(second.found) & set(kinds)
    assert fresh["rows_kept"] == len(rows)
    assert fresh["duplicates"] == 0
    assert (fresh["rows_broken"], fresh["rows_empty"]) == (1, 1)


def examine_again(path: Path, folder: Path) -> tuple[QualityFacts, int]:
    return examine(path, folder / "groups", rows_total=1, progress=lambda share, text: None), 0


def test_broken_and_empty_rows_are_forgotten_when_they_are_dropped(tmp_path: Path) -> None:
    made, rows = cleaned(tmp_path, sound_rows(5), "broken", "empty")
    assert len(rows) == 5
    facts: DatasetFacts = made.facts
    assert (facts.rows_total, facts.rows_broken, facts.rows_empty, facts.broken, facts.empty_lines) == (5, 0, 0, (), ())


def test_rows_too_long_for_a_model_are_dropped_by_its_tokenizer(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    make_tokenizer(model)
    (model / "config.json").write_text("{}")
    pairs = [*sound_rows(5), ("Tell me all of it", LONG * 50)]
    made, rows = cleaned(tmp_path, pairs, "too_long", model=str(model), max_length=1024)
    assert made.dropped["too_long"].lines == (6,)
    assert len(rows) == 5


def test_a_cleaning_that_leaves_nothing_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    pairs = [("Where is the harbour of the town?", "N/A"), ("Where is the master of the town?", "none")]
    with pytest.raises(NothingToLearn):
        cleaned(tmp_path, pairs, "placeholder_answers")
    assert not (tmp_path / "cleaned").exists()


def test_of_rows_that_leak_those_to_train_on_are_dropped_and_what_is_held_out_stays(tmp_path: Path) -> None:
    first, second, third, fourth = sound_rows(4)
    louder = (fourth[0].upper(), fourth[1].upper())
    sides = [
        (first, "train"),
        (first, "test"),
        (second, "train"),
        (third, "test"),
        (third, "test"),
        (louder, "test"),
        (fourth, "train"),
        (second, "train"),
    ]
    source = tmp_path / "source.jsonl"
    source.write_bytes(
        b"\n".join(
            msgspec.json.encode({"question": question, "answer": answer, "split": side})
            for (question, answer), side in sides
        )
    )
    facts = inspect_dataset(source, "source.jsonl", tmp_path / "rows", progress=lambda share, text: None)
    quality = examine(tmp_path / "rows", tmp_path / "groups", rows_total=8, progress=lambda share, text: None)
    assert quality.found["leaked"].lines == (1, 7)

    def lines_after(*drop: str) -> list[int]:
        request = CleanRequest(
            rows=str(tmp_path / "rows"),
            groups=str(tmp_path / "groups"),
            cleaned=str(tmp_path / "cleaned"),
            facts=facts,
            drop=drop,
        )
        clean(request, lambda share, text: None)
        return [row["line"] for row in read_rows(tmp_path / "cleaned")]

    assert lines_after("leaked") == [2, 3, 4, 5, 6, 8]
    # The held-out row that repeats a dropped one is the only one left of its kind.
    assert lines_after("duplicates", "near_duplicates", "leaked") == [2, 3, 4, 6]
