"""A help desk's export, one message a row and all tickets mixed, becomes conversations with their roles and order."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from btmd.data.rows import Row, read_rows
from btmd.inspection.dataset import inspect_dataset
from btmd.inspection.facts import DatasetFacts
from tests.data_files.programs import excel_csv_german, json_lines

MESSAGES = 50_000
_MINUTE_US = 60_000_000
_BEGIN_US = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z."""
Said = list[tuple[str, str]]


def tickets(count: int, seed: int) -> dict[str, list[tuple[int, str, str]]]:
    """By number, the messages of tickets: time, who, text. Somebody always asks first; most are answered."""
    dice = random.Random(seed)
    made: dict[str, list[tuple[int, str, str]]] = {}
    left = count
    while left > 0:
        number = f"T-{len(made) + 1:05}"
        length = min(left, dice.choice((1, 2, 2, 3, 4, 4, 6, 9)))
        at_us = _BEGIN_US + dice.randrange(0, 200 * 24 * 60) * _MINUTE_US
        said: list[tuple[int, str, str]] = []
        for place in range(length):
            # Several messages in a row may come from the same side.
            who = "end-user" if place == 0 or dice.random() < 0.4 else "agent"
            said.append((at_us, who, f'Ticket {number}, message {place}: Grüße; "ja"'))
            at_us += dice.randrange(1, 3 * 24 * 60) * _MINUTE_US
        made[number] = said
        left -= length
    return made


def rows_of(made: dict[str, list[tuple[int, str, str]]], seed: int) -> list[tuple[str, int, str, str]]:
    """Every message as a row of the export, the newest tickets mixed with the oldest."""
    rows = [(number, *message) for number, said in made.items() for message in said]
    random.Random(seed).shuffle(rows)
    return rows


def expected(made: dict[str, list[tuple[int, str, str]]]) -> dict[str, Said]:
    """By ticket, the turns that are learned from; tickets that nobody answered give none."""
    roles = {"end-user": "user", "agent": "assistant"}
    turns = {number: [(roles[who], text) for _, who, text in said] for number, said in made.items()}
    return {number: said for number, said in turns.items() if any(role == "assistant" for role, _ in said)}


def written(kind: str, rows: list[tuple[str, int, str, str]]) -> bytes:
    if kind == "german":
        header = ["Ticket-ID", "Erstellt am", "Rolle", "Nachricht"]
        named = {"end-user": "Kunde", "agent": "Agent"}
        return excel_csv_german(header, [[number, german(at), named[who], text] for number, at, who, text in rows])
    return json_lines(
        {"ticket_id": number, "created_at": iso(at), "author_role": who, "body": text} for number, at, who, text in rows
    )


def iso(at_us: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat().replace("+00:00", "Z")


def german(at_us: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%d.%m.%Y %H:%M")


def grouped(folder: Path, content: bytes, name: str) -> tuple[DatasetFacts, list[Row]]:
    source, rows = folder / "source", folder / "rows"
    source.write_bytes(content)
    facts = inspect_dataset(source, name, rows, progress=lambda _share, _text: None)
    return facts, list(read_rows(rows))


def turns(rows: list[Row]) -> Iterator[tuple[str, Said]]:
    """By the ticket that the texts themselves name: what was said, with the repeats of one side kept apart."""
    for row in rows:
        said = [(message["role"], message["content"]) for message in row["messages"]]
        numbers = {text.split(",")[0].removeprefix("Ticket ") for _, texts in said for text in texts.split("\n\n")}
        assert len(numbers) == 1, "a conversation holds messages of several tickets"
        yield numbers.pop(), [(role, text) for role, texts in said for text in texts.split("\n\n")]


@pytest.mark.parametrize(("kind", "count"), [("json", MESSAGES), ("german", MESSAGES // 10)])
def test_every_conversation_has_its_messages_in_order(kind: str, count: int, tmp_path: Path) -> None:
    seed = 20_261_122
    made = tickets(count, seed)
    name = "export.csv" if kind == "german" else "export.jsonl"
    facts, rows = grouped(tmp_path, written(kind, rows_of(made, seed)), name)
    assert facts.layout == "grouped_messages"
    wanted = expected(made)
    found = dict(turns(rows))
    assert len(found) == len(rows), "a ticket came out as several conversations"
    assert found == wanted
    unanswered = len(made) - len(wanted)
    assert facts.rows_broken == unanswered
    assert facts.broken_reasons == {"no answer: no turn is the assistant's": unanswered}
