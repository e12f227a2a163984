"""A dataset is examined once, told about in a report, and cleaned into a version of its own."""

import json
from pathlib import Path

import pytest

from tests.api.conftest import ThreadedDaemon
from tests.fixtures.daemon import Client

LONG = "The harbour master writes down each evening which boats came in and what they had caught, and he is"

ASKED = " never wrong, they say, but who is it that they would have for it when he is not there?"


def source(*, marked: str = "") -> bytes:
    pairs = [
        (f"What is it that they call the {word} of the harbour?", f"They call it {word * 2}{marked}, as all there do.")
        for word in ("mast", "keel", "rope", "sail", "hull", "deck", "helm", "bow", "stern", "anchor", "buoy", "oar")
    ]
    pairs += [
        (LONG + ASKED, LONG + "."),
        (LONG.upper() + ASKED, LONG + "!"),
        pairs[0],
        ("Where is it now, and who has it?", "N/A"),
    ]
    rows = [json.dumps({"question": question, "answer": answer}) for question, answer in pairs]
    return "\n".join([*rows, "{broken", ""]).encode()


def test_a_check_reports_and_remembers(client: Client, daemon: ThreadedDaemon, tiny: Path) -> None:
    client.post("/models", {"path": str(tiny), "name": "judge"}).ok()
    client.add_dataset(source(), "harbour")
    found = client.post("/datasets/harbour/check", {}).ok()
    by_kind = {one["kind"]: one for one in found["findings"]}
    assert {kind: (one["count"], one["lines"]) for kind, one in by_kind.items()} == {
        "broken": (1, [17]),
        "duplicates": (1, [15]),
        "near_duplicates": (1, [14]),
        "placeholder_answers": (1, [16]),
    }
    assert 0 < found["score"] < 100
    assert found["tokens"] is None
    assert len(list(daemon.config.cache_dir.glob("quality-*.json"))) == 1
    with_model = client.post("/datasets/harbour/check", {"model_id": "judge", "max_length": 24}).ok()
    assert with_model["max_length"] == 24
    (too_long,) = [one for one in with_model["findings"] if one["kind"] == "too_long"]
    assert too_long["count"] == len(too_long["lines"]) > 0


def test_a_cleaning_makes_a_version_that_names_what_it_dropped(client: Client) -> None:
    before = client.add_dataset(source(marked=" again"), "cleaned")
    answer = client.post("/datasets/cleaned/clean", {"drop": ["duplicates", "near_duplicates", "broken"]}).ok()
    assert answer["cleaned"]
    assert answer["dataset"]["version_id"] != before["version_id"]
    assert answer["dataset"]["rows"] == before["rows"] - 2
    assert {kind: one["lines"] for kind, one in answer["changes"]["dropped"].items()} == {
        "duplicates": [15],
        "near_duplicates": [14],
        "broken": [17],
    }
    (newest, first) = client.get("/datasets/cleaned/versions").ok()
    assert (newest["made"], newest["parent"], newest["changes"]) == ("clean", first["version_id"], answer["changes"])
    kinds = {one["kind"] for one in client.post("/datasets/cleaned/check", {}).ok()["findings"]}
    assert kinds == {"placeholder_answers"}
    again = client.post("/datasets/cleaned/clean", {"drop": ["duplicates"]}).ok()
    assert not again["cleaned"]
    assert again["dataset"]["version_id"] == newest["version_id"]


def test_nothing_of_the_rows_is_in_what_is_remembered(client: Client, daemon: ThreadedDaemon) -> None:
    client.add_dataset(source(marked=" Qx7marked"), "secret")
    client.post("/datasets/secret/check", {}).ok()
    client.post("/datasets/secret/clean", {"drop": ["duplicates"]}).ok()
    for kept in daemon.config.cache_dir.iterdir():
        assert b"Qx7marked" not in kept.read_bytes()
    assert "Qx7marked" not in json.dumps(client.get("/datasets/secret/versions").ok())


@pytest.mark.parametrize(
    ("body", "word"),
    [({"drop": ["everything"]}, "everything"), ({"drop": ["too_long"]}, "model"), ({"drop": []}, "drop")],
)
def test_what_cannot_be_dropped_is_refused_with_what_can(client: Client, body: dict[str, object], word: str) -> None:
    client.add_dataset(source(marked=" kept"), "kept")
    refused = client.post("/datasets/kept/clean", body)
    assert refused.status in (400, 422)
    assert word in str(refused.body)


def test_a_cleaning_that_would_leave_nothing_changes_nothing(client: Client) -> None:
    rows = b'{"question": "Where is it?", "answer": "N/A"}\n{"question": "Who is it?", "answer": "none"}\n'
    before = client.add_dataset(rows, "hollow")
    client.post("/datasets/hollow/clean", {"drop": ["placeholder_answers"]}).refused(422, "nothing_to_learn")
    assert client.get("/datasets/hollow").ok()["version_id"] == before["version_id"]
