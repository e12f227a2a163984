"""Every recipe of docs/data.md, run as it is printed, on files as Excel, Word and a help desk write them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from btmd.inspection.findings import KINDS
from tests.data_files.programs import docx, excel_csv_german, pdf, scanned_pdf
from tests.docs.place import DOCS, Place, recipes
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

PAGE = "data.md"
NAMES = ("Anna Müller", "Jörg Weiß")


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with short_folder() as home:
        place = Place(home)
        place.socket.parent.mkdir(parents=True, mode=0o700)
        place.start()
        make_tiny_llama(home / "smol")
        place.btmctl("models", "add", str(home / "smol"))
        yield place
        place.stop()


def questions(count: int) -> bytes:
    rows = [
        (f"Wo steht der Turm Nr. {n}?", f"Turm {n} steht „außen“ am Hafen, größer als Turm {n + 1}.")
        for n in range(count)
    ]
    return excel_csv_german(["Frage", "Antwort"], [*rows, rows[0], ("Wer schläft?", "")])


def tickets() -> bytes:
    rows = []
    for n in range(12):
        rows.append(
            (
                f"T{n}",
                "Agent",
                f"Grüße, {NAMES[n % 2]}! Rufen Sie an: +49 30 901820{n:02}.",
                f"0{n % 9 + 1}.03.2026 12:00",
            )
        )
        rows.append(
            (f"T{n}", "Kunde", f"Mein Gerät {n} läuft nicht. anna{n}@example.org", f"0{n % 9 + 1}.03.2026 09:00")
        )
    return excel_csv_german(["Ticket-ID", "Rolle", "Nachricht", "Datum"], rows)


def dataset(place: Place, name: str) -> dict[str, Any]:
    return dict(place.client.get(f"/datasets/{name}").ok())


def fresh(place: Place, file: str, content: bytes | None = None) -> Path:
    """The file alone: a dataset of its name, should an earlier recipe have made one, is gone."""
    path = place.home / file
    name = path.name.partition(".")[0]
    if name in place.names("/datasets"):
        place.btmctl("datasets", "remove", name)
    if content is not None:
        path.write_bytes(content)
    return path


def added(place: Place, file: str, content: bytes) -> None:
    fresh(place, file, content)
    place.btmctl("datasets", "add", str(place.home / file), "--consent")


def write_questions(place: Place) -> None:
    fresh(place, "questions.csv", questions(20))


def questions_are_there(place: Place) -> None:
    found = dataset(place, "questions")
    assert (found["rows"], found["purpose"], found["scopes"]) == (21, "our help desk", ["train"])
    assert "Wo steht der Turm Nr. 0?" in place.said


def write_handouts(place: Place) -> None:
    folder = place.home / "handouts"
    (folder / "week 2").mkdir(parents=True)
    (folder / "storms.docx").write_bytes(docx(["Storms", "The lighthouse was built in the year of the storm."]))
    (folder / "week 2" / "tides.pdf").write_bytes(pdf(["The tide comes twice a day."]))
    (folder / "scan.pdf").write_bytes(scanned_pdf(1))


def handouts_are_there(place: Place) -> None:
    facts = dataset(place, "biology")["facts"]
    assert {part["name"] for part in facts["files"]} == {"storms.docx", "week 2/tides.pdf"}
    assert [part["name"] for part in facts["skipped"]] == ["scan.pdf"]
    assert "of week 2/tides.pdf" in place.said


def write_tickets(place: Place) -> None:
    fresh(place, "tickets.csv", tickets())


def tickets_are_conversations(place: Place) -> None:
    assert dataset(place, "tickets")["rows"] == 12
    assert place.said.index("Mein Gerät") < place.said.index("Grüße")


def write_table(place: Place) -> None:
    rows = [(f"Der Monitor {n} bleibt dunkel, was nun?", str(n), f"Den Stecker {n} ziehen.") for n in range(20)]
    fresh(place, "table.csv", excel_csv_german(["Anliegen", "Vorgang", "Loesung"], rows))


def table_is_mapped(place: Place) -> None:
    found = dataset(place, "table")
    assert (found["rows"], found["mapping"]) == (20, {"prompt": "Anliegen", "completion": "Loesung"})


def add_questions(place: Place) -> None:
    added(place, "questions.csv", questions(20))


def duplicates_are_named(place: Place) -> None:
    assert "clean questions --drop" in place.said
    assert "of 100" in place.said


def bad_rows_are_gone(place: Place) -> None:
    found = dataset(place, "questions")
    assert [version["rows"] for version in found["versions"]] == [20, 21]


def tokens_are_shown(place: Place) -> None:
    assert "\n+ " in place.said.replace("\r", "")
    assert "The first step" in place.said


def change_questions(place: Place) -> None:
    add_questions(place)
    (place.home / "questions.csv").write_bytes(questions(24))


def update_is_there(place: Place) -> None:
    versions = dataset(place, "questions")["versions"]
    assert [(one["made"], one["rows"]) for one in versions[:2]] == [("update", 25), ("add", 21)], versions


def consent_was_there_and_is_gone(place: Place) -> None:
    events = [event for event in place.client.events() if event["stream"] == "dataset-questions"]
    assert events[-2]["type"] == "ConsentGranted"
    assert events[-2]["data"]["scopes"] == ["train", "backup"]
    assert dataset(place, "questions")["scopes"] == []


def add_tickets(place: Place) -> None:
    added(place, "tickets.csv", tickets())
    (place.home / "names.txt").write_text("\n".join(NAMES) + "\n")


def nobody_is_named(place: Place) -> None:
    assert "[EMAIL_1]" in place.said
    shown = json.dumps(place.client.post("/datasets/tickets/preview", {"rows": 12}).ok(), ensure_ascii=False)
    assert not any(name in shown for name in (*NAMES, "example.org", "+49 30"))


def add_questions_and_a_backup(place: Place) -> None:
    add_questions(place)
    place.btmctl("consent", "grant", "questions", "--scope", "backup")
    place.btmctl("backup", "create", "--with-artefacts")


def nothing_is_left(place: Place) -> None:
    place.client.get("/datasets/questions").refused(404, "dataset_not_found")
    [erased] = [event for event in place.client.events() if event["type"] == "DatasetErased"]
    kept = {path.name for path in (place.state / "content").rglob("*") if path.is_file()}
    assert erased["data"]["contents"]
    assert not set(erased["data"]["contents"]) & kept


RECIPES: dict[str, tuple[Callable[[Place], None], Callable[[Place], None]]] = {
    "Adding a table of questions and answers": (write_questions, questions_are_there),
    "Adding a folder of handouts": (write_handouts, handouts_are_there),
    "Adding a help desk's export, one message a row": (write_tickets, tickets_are_conversations),
    "When it cannot be told which column is what": (write_table, table_is_mapped),
    "What is good and bad in a dataset": (add_questions, duplicates_are_named),
    "Leaving bad rows out": (add_questions, bad_rows_are_gone),
    "What a model would learn": (add_questions, tokens_are_shown),
    "The file has changed": (change_questions, update_is_there),
    "Who allowed what": (add_questions, consent_was_there_and_is_gone),
    "Personal data": (add_tickets, nobody_is_named),
    "Erasing a dataset": (add_questions_and_a_backup, nothing_is_left),
}


def test_every_recipe_is_tried() -> None:
    assert [heading for heading, steps in recipes(PAGE).items() if steps] == list(RECIPES)


def test_every_finding_is_explained() -> None:
    page = (DOCS / PAGE).read_text()
    assert [kind for kind in KINDS if f"`{kind}`" not in page] == []


@pytest.mark.parametrize("heading", RECIPES)
def test_a_recipe_does_what_it_says(heading: str, place: Place) -> None:
    before, is_so = RECIPES[heading]
    before(place)
    for step in recipes(PAGE)[heading]:
        code = place.at_terminal(step)
        assert code == 0, f"{step}: {code}\n{place.said}"
    is_so(place)
