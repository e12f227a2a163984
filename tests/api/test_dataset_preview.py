"""A look into a dataset: rows as they were understood, tokens as a training would learn them, and no text elsewhere."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.daemon import Client, ThreadedDaemon

MARKED = "zebra-in-pyjamas"


def content(count: int = 40) -> bytes:
    rows = [
        {"question": f"What is {n}? {MARKED}", "answer": f"It is {n}." + " Said the bee." * (n % 30), "id": n}
        for n in range(count)
    ]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.fixture(scope="module")
def ready(daemon: ThreadedDaemon, tiny: Path) -> Client:
    client = daemon.client
    client.add_model(tiny)
    client.add_dataset(content(), "looked")
    return client


def preview(client: Client, **body: Any) -> dict[str, Any]:
    return dict(client.post("/datasets/looked/preview", body).ok())


def test_rows_are_shown_as_they_were_understood(ready: Client) -> None:
    found = preview(ready, row=2, rows=2)
    assert (found["rows_total"], found["layout"]) == (40, "question_answer")
    assert sorted(found["columns_used"]) == ["answer", "question"]
    assert [(row["row"], row["line"]) for row in found["rows"]] == [(2, 2), (3, 3)]
    assert [(turn["role"], turn["content"]) for turn in found["rows"][0]["messages"]] == [
        ("user", f"What is 1? {MARKED}"),
        ("assistant", "It is 1. Said the bee."),
    ]


def test_tokens_are_shown_with_what_a_plan_makes_of_all_rows(ready: Client) -> None:
    found = preview(ready, model_id="tiny", rows=40, overrides={"max_length": 256, "batch_size": 4})
    shape, arranged = found["training"], found["arrangement"]
    assert (shape["max_length"], shape["batch_size"], found["refusal"]) == (256, 4, None)
    over_long = [row["line"] for row in found["rows"] if row["use"] == "over_long"]
    assert over_long
    assert arranged["left_out"] == {"over_long": len(over_long)}
    assert arranged["left_out_lines"]["over_long"] == over_long
    assert sum(len(one["sequences"]) for one in arranged["first_step"]) == 4
    used = [row for row in found["rows"] if row["use"] == "used"]
    assert sum(row["held_out"] for row in used) == arranged["held_out_rows"] > 0
    first = used[0]["sequences"][0]
    learned = [text for text, is_learned in zip(first["texts"], first["learned"], strict=True) if is_learned]
    assert "".join(learned) == used[0]["sequences"][0]["texts"][-2].join(["It is 0.", ""])
    lengths = {row["line"]: row["sequences"][0]["tokens"] for row in used}
    for together in arranged["first_step"]:
        assert all(lengths[one["line"]] == one["tokens"] for one in together["sequences"])


def test_a_plan_tells_the_counts_of_a_split_that_was_made_and_says_whether_they_are(ready: Client) -> None:
    overrides = {"max_length": 256, "batch_size": 5, "num_epochs": 2}
    asked = {"model_id": "tiny", "dataset_id": "looked", "overrides": overrides}
    assert ready.post("/plans", asked).ok()["rows_counted"] is False
    arranged = preview(ready, model_id="tiny", rows=1, overrides=overrides)["arrangement"]
    plan = ready.post("/plans", asked).ok()
    assert plan["rows_counted"] is True
    assert (plan["train_rows"], plan["held_out_rows"]) == (arranged["train_rows"], arranged["held_out_rows"])
    assert (plan["left_out_rows"], plan["total_steps"]) == (
        arranged["left_out"]["over_long"],
        2 * arranged["steps_an_epoch"],
    )


def test_where_no_training_can_be_planned_the_tokens_are_shown_all_the_same(ready: Client, daemon: Any) -> None:
    silent = make_silent(daemon.config.state_dir.parent / "silent")
    ready.add_model(silent)
    found = preview(ready, model_id="silent", rows=1)
    assert found["refusal"]["code"] == "nothing_to_learn"
    assert (found["rows"][0]["use"], found["training"]["preset"]) == ("nothing_learned", None)


def make_silent(folder: Path) -> Path:
    """A model whose chat template leaves the assistant's turns out."""
    from tests.fixtures.tiny_model import make_tiny_llama

    template = (
        "{% for message in messages %}{% if message['role'] != 'assistant' %}{{ message['content'] }}"
        "{% endif %}{% endfor %}"
    )
    return make_tiny_llama(folder, chat_template=template)


def test_a_row_that_is_not_there_is_refused_without_any_text(ready: Client) -> None:
    said = ready.post("/datasets/looked/preview", {"row": 41}).refused(422, "invalid_value")
    assert "the dataset has 40" in said["detail"]
    said = ready.post("/datasets/looked/preview", {"line": 999}).refused(422, "invalid_value")
    assert "begins at line 40" in said["detail"]
    ready.post("/datasets/looked/preview", {"row": 1, "line": 1}).refused(422, "invalid_value")
    ready.post("/datasets/looked/preview", {"rows": 101}).refused(422, "invalid_value")
    ready.post("/datasets/looked/preview", {"model_id": "no-such"}).refused(404, "model_not_found")


def test_the_text_of_rows_is_kept_nowhere_by_a_preview(
    ready: Client, daemon: ThreadedDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    before = {path for path in daemon.config.state_dir.rglob("*") if path.is_file()}
    with caplog.at_level("DEBUG"):
        preview(ready, model_id="tiny", overrides={"max_length": 200})
    assert MARKED not in caplog.text
    made = {path for path in daemon.config.state_dir.rglob("*") if path.is_file()} - before
    assert made, "the arrangement was to be remembered"
    for path in made:
        assert MARKED.encode() not in path.read_bytes()
    assert all(MARKED not in json.dumps(event) for event in ready.events())
