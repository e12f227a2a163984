"""How far reading is, while messages are put together and while a child's stages change."""

import json
import os
from pathlib import Path

import pytest

from btmd.child import answering
from btmd.inspection.dataset import inspect_dataset


def test_each_stage_of_putting_messages_together_is_told_in_words_and_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "tickets.csv"
    lines = [
        f"{ticket},{role},Message {ticket} of the {role}." for ticket in range(1500) for role in ("customer", "agent")
    ]
    file.write_text("ticket_id,role,message\n" + "\n".join(lines) + "\n")
    told: list[tuple[float, str]] = []
    facts = inspect_dataset(file, file.name, tmp_path / "rows", progress=lambda share, text: told.append((share, text)))
    assert (facts.layout, facts.rows_kept) == ("grouped_messages", 1500)
    texts = [text for _, text in told]
    for stage in ("2,000 messages read", "Sorting the messages", "1,000 of 1,500 conversations put together"):
        assert stage in texts
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert 0.4 < shares[texts.index("2,000 messages read")] < shares[texts.index("Sorting the messages")] < 1


def test_a_stage_that_begins_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    kept = os.dup(1)
    os.dup2(writer, 1)
    try:
        out = answering._Out()
        for text in ("1,000 rows read", "2,000 rows read", "Sorting the messages", "3 of 9 put together"):
            out.progress(0.5, text)
    finally:
        os.dup2(kept, 1)
    os.close(writer)
    os.close(out._file)
    with os.fdopen(reader, "rb") as told:
        texts = [json.loads(line)["text"] for line in told]
    assert texts == ["1,000 rows read", "Sorting the messages", "3 of 9 put together"]
