"""What is unclear is asked about, and what is suggested works as it is printed."""

from pathlib import Path

import pytest

from btmd.errors import DatasetRefused, UnknownLayout
from tests.data_files.cases import inspected
from tests.data_files.unclear_layouts import UNCLEAR, Unclear
from tests.reading.test_first_line import typed

TALKS = {
    "a case, who and a text": (
        "case,who,text\n1,Anna,Hello there\n1,Ben,How are you\n2,Cleo,My lamp is broken\n2,Ben,I will help\n",
        [("user", "Hello there"), ("assistant", "How are you")],
    ),
    "a name nobody calls a role": (
        "ticket;zeile;geschrieben;text\n"
        + "".join(
            f"{case};{n};{who};{said}\n"
            for case in range(5)
            for n, (who, said) in enumerate((("Kunde Maier", f"Frage {case}"), ("Frau Schulz", f"Antwort {case}")))
        ),
        [("user", "Frage 0"), ("assistant", "Antwort 0")],
    ),
}


@pytest.mark.parametrize("case", TALKS)
def test_messages_of_people_with_names_are_asked_about_not_taken_as_text(case: str, tmp_path: Path) -> None:
    content, first = TALKS[case]
    with pytest.raises(UnknownLayout) as asked:
        inspected(tmp_path, "a.csv", content.encode())
    assert "who speaks" in asked.value.detail
    assert "Anna" not in f"{asked.value.detail}{asked.value.hint}"
    assert "--role @first=user --role @others=assistant" in asked.value.hint
    facts, rows = inspected(tmp_path, "a.csv", content.encode(), typed(asked.value.hint))
    assert facts.layout == "grouped_messages"
    assert [(turn["role"], turn["content"]) for turn in rows[0]["messages"]] == first


def test_speakers_without_a_conversation_are_asked_about(tmp_path: Path) -> None:
    content = "speaker,text\nAnna,Hello there\nBen,How are you\nAnna,My lamp is broken\nBen,I will help\n"
    with pytest.raises(UnknownLayout) as asked:
        inspected(tmp_path, "a.csv", content.encode())
    assert "belongs together" in asked.value.detail
    facts, _ = inspected(tmp_path, "a.csv", content.encode(), typed(asked.value.hint))
    assert facts.rows_kept == 4


@pytest.mark.parametrize(
    "content",
    [
        "id,author,text\n1,Anna,Hello there\n2,Ben,How are you\n3,Cleo,My lamp is broken\n",
        "case,topic,text\n1,sea,Hello there\n2,sea,How are you\n3,land,My lamp is broken\n",
        "session,lang,text\n1,en,Hello there\n1,en,How are you\n2,de,Mein Licht\n2,de,ist aus\n",
    ],
)
def test_a_column_beside_a_text_is_not_taken_for_a_speaker(content: str, tmp_path: Path) -> None:
    facts, _ = inspected(tmp_path, "a.csv", content.encode())
    assert (facts.layout, facts.rows_kept) == ("text", content.count("\n") - 1)


@pytest.mark.parametrize("unclear", UNCLEAR, ids=lambda unclear: unclear.title)
def test_every_suggestion_works_as_it_is_printed(unclear: Unclear, tmp_path: Path) -> None:
    with pytest.raises(DatasetRefused) as asked:
        inspected(tmp_path, unclear.name, unclear.content)
    if asked.value.suggestions:
        assert typed(asked.value.hint) == asked.value.suggestions[0]
    for suggestion in asked.value.suggestions:
        facts, _ = inspected(tmp_path, unclear.name, unclear.content, dict(suggestion))
        assert facts.rows_kept > 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "a;b;c\n1;2;3\n4;5;6\n"),
        ("a.csv", "only\nx\ny\n"),
        ("a.csv", "name of it,what is said about it\nsea,It is deep.\nland,It is dry.\nair,It is thin.\n"),
        (
            "a.csv",
            'it\'s,"a ""b""",$HOME\n1,It is deep and blue.,x\n2,It is dry and red.,y\n3,It is thin and white.,z\n',
        ),
        ("a.jsonl", '{"a column of a name that is longer than forty letters": "It is deep.", "b": 1}\n' * 3),
        ("a.jsonl", '{"x=y": "Is it deep?", "-z": "It is dry."}\n{"x=y": "Is it thin?", "-z": "No, it is not."}\n'),
    ],
)
def test_odd_columns_are_suggested_so_that_they_can_be_typed(name: str, content: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownLayout) as asked:
        inspected(tmp_path, name, content.encode())
    assert asked.value.suggestions
    facts, _ = inspected(tmp_path, name, content.encode(), typed(asked.value.hint))
    assert facts.rows_kept > 0


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_last_line_of_a_text_stays_whole_however_it_ends(end: str, tmp_path: Path) -> None:
    long = " ".join(["word"] * 400)
    _, rows = inspected(tmp_path, "a.txt", f"The first line.\nThe last line of it{end}".encode())
    assert [row["text"] for row in rows] == ["The first line.\nThe last line of it"]
    _, rows = inspected(tmp_path, "a.txt", f"{long}{end}".encode())
    assert " ".join(row["text"] for row in rows).split() == long.split()
