"""No row is lost because a table has no line of names: names that are known are taken, what is unclear is asked."""

import shlex
from pathlib import Path

import pytest

from btmctl.commands.dataset_mapping import add_mapping_options, mapping_of
from btmctl.parser import Parser
from btmd.data.rows import Row
from btmd.errors import DatasetEmpty, UnknownLayout
from btmd.reading.first_line import what_stands_first
from tests.data_files.cases import inspected


def typed(options: str) -> dict[str, str]:
    """What the command line makes of options."""
    parser = Parser()
    add_mapping_options(parser)
    return mapping_of(parser.parse_args(shlex.split(options)))


def texts(row: Row) -> list[str]:
    return [row["text"]] if "text" in row else [turn["content"] for turn in row["messages"]]


WITHOUT_NAMES = {
    "single words": ("a.csv", "Hund\nKatze\nMaus\n", ["Hund"]),
    "pairs of words": ("a.csv", "Hund,dog\nKatze,cat\nMaus,mouse\n", ["Hund", "dog"]),
    "pairs of words by tabs": ("a.tsv", "Hund\tdog\nKatze\tcat\n", ["Hund", "dog"]),
    "pairs of words by tabs in a text": ("a.txt", "Hund\tdog\nKatze\tcat\nMaus\tmouse\n", ["Hund", "dog"]),
    "a word that is also a column": ("a.csv", "no,nein\nHund,dog\nMaus,mouse\n", ["no", "nein"]),
    "short phrases": ("a.csv", "good morning,guten Morgen\ngood night,gute Nacht\nhi,hallo\n", None),
    "sentences": ("a.csv", "Where is it?,It is here.\nWho was it?,It was me.\n", ["Where is it?", "It is here."]),
    "the same word twice": ("a.csv", "taxi,taxi\nHund,dog\nMaus,mouse\n", ["taxi", "taxi"]),
    "a word that stands further down too": ("a.csv", "Hund,dog\nKatze,cat\nhund,hound\nMaus,mouse\n", ["Hund", "dog"]),
    "a number before the words": ("a.csv", "1,Hund,dog\n2,Katze,cat\n3,Maus,mouse\n", ["Hund", "dog"]),
    "one row alone": ("a.csv", "Hund,dog\n", ["Hund", "dog"]),
}


@pytest.mark.parametrize("case", WITHOUT_NAMES)
def test_a_table_without_names_is_asked_about_and_the_suggestion_keeps_every_row(case: str, tmp_path: Path) -> None:
    name, content, first = WITHOUT_NAMES[case]
    with pytest.raises(UnknownLayout) as asked:
        inspected(tmp_path, name, content.encode())
    told = f"{asked.value.detail} {asked.value.hint} {asked.value.suggestions}"
    assert not any(word in told for word in ("Hund", "dog", "morning", "taxi", "is it", "was it"))
    assert asked.value.hint.startswith("--no-header ")
    assert typed(asked.value.hint) == asked.value.suggestions[0]
    facts, rows = inspected(tmp_path, name, content.encode(), typed(asked.value.hint))
    assert (len(rows), facts.rows_broken) == (content.count("\n"), 0)
    assert rows[0]["line"] == 1
    assert first is None or texts(rows[0]) == first


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("question,answer\nHund,dog\nKatze,cat\n", 2),
        ("Frage;Antwort\nHund;dog\nKatze;cat\n", 2),
        ("text\nHund\nKatze\n", 2),
        ("input\toutput\nHund\tdog\n", 1),
    ],
)
def test_known_names_are_names_whatever_stands_below(content: str, rows: int, tmp_path: Path) -> None:
    facts, kept = inspected(tmp_path, "a.csv", content.encode())
    assert len(kept) == rows
    assert facts.columns == tuple(content.splitlines()[0].replace(";", ",").replace("\t", ",").split(","))


@pytest.mark.parametrize(
    ("content", "suggested"),
    [
        (
            "Anliegen;Loesung;Bem\nWo ist meine Rechnung von Mai?;Sie liegt im Postfach.;x\n"
            "Wie kündige ich den Vertrag?;Schreiben Sie uns einen Brief.;\n"
            "Wann kommt der Techniker?;Er kommt am Dienstag.;y\n",
            {"prompt": "Anliegen", "completion": "Loesung"},
        ),
        ("ticket_nr,kunde_sagt,wir_sagen\n1,Hallo,Guten Tag\n2,Danke,Gern\n", None),
        ("wann,hin,her\n2026-03-01,Hallo,Guten Tag\n2026-03-02,Danke,Gern\n2026-03-03,Na,Nun\n", None),
    ],
)
def test_names_that_nobody_knows_are_told_from_rows(
    content: str, suggested: dict[str, str] | None, tmp_path: Path
) -> None:
    with pytest.raises(UnknownLayout) as asked:
        inspected(tmp_path, "a.csv", content.encode())
    assert "header" not in asked.value.hint
    assert content[: content.index("\n")].replace(";", ",").split(",")[1] in asked.value.detail
    assert suggested in (None, asked.value.suggestions[0])
    _, rows = inspected(tmp_path, "a.csv", content.encode(), typed(asked.value.hint))
    assert len(rows) == content.count("\n") - 1


def test_what_was_said_of_the_first_line_counts(tmp_path: Path) -> None:
    content = b"Hund,dog\nKatze,cat\n"
    _, rows = inspected(
        tmp_path, "a.csv", content, typed("--no-header --map prompt='column 1' --map completion='column 2'")
    )
    assert [texts(row) for row in rows] == [["Hund", "dog"], ["Katze", "cat"]]
    _, rows = inspected(tmp_path, "a.csv", content, typed("--header --map prompt='column 1' --map completion=dog"))
    assert [texts(row) for row in rows] == [["Katze", "cat"]]
    with pytest.raises(UnknownLayout) as asked:
        inspected(tmp_path, "a.csv", content, typed("--map prompt='column 2' --map completion='column 1'"))
    assert typed(asked.value.hint) == {"file:header": "none", "prompt": "column 2", "completion": "column 1"}
    with pytest.raises(UnknownLayout, match="same name"):
        inspected(
            tmp_path, "a.csv", b"a,a\nHund,dog\n", typed("--header --map prompt='column 1' --map completion='column 2'")
        )
    with pytest.raises(DatasetEmpty):
        inspected(tmp_path, "a.csv", b"question,answer\n")


def test_the_first_line_is_judged_by_what_stands_below() -> None:
    words = [["Katze", "cat"], ["Maus", "mouse"], ["Esel", "donkey"]]
    assert what_stands_first(["Hund", "dog"], words) == "unclear"
    assert what_stands_first(["Katze", "horse"], words) == "row"
    assert what_stands_first(["3", "dog"], words) == "row"
    assert what_stands_first(["wort_de", "wort_en"], words) == "names"
    assert what_stands_first(["Nr", "Wort"], [["1", "cat"], ["2", "mouse"], ["3", "dog"]]) == "names"
    assert what_stands_first(["Katze", "wort_en"], words) == "unclear"


def test_a_first_line_longer_than_a_sample_is_read_whole(tmp_path: Path) -> None:
    many = [f"measured value {number}" for number in range(9_000)]
    content = ",".join([*many, "question", "answer"]) + "\n" + ",".join(["1"] * 9_000 + ["Why?", "So."]) + "\n"
    facts, rows = inspected(tmp_path, "a.csv", content.encode())
    assert [texts(row) for row in rows] == [["Why?", "So."]]
    assert len(facts.columns) == 200
    wide = ",".join(f"c{number}" for number in range(50_000)) + "\n"
    with pytest.raises(UnknownLayout, match="50,000 columns"):
        inspected(tmp_path, "a.csv", wide.encode() * 2)
