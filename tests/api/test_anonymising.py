"""Personal data over the socket: surveyed, shown, replaced in a new version, and asked about at the door."""

import json
from typing import Any

import pytest

from tests.fixtures.daemon import Client, ThreadedDaemon

ADDRESS, PHONE = "marta.quintal@example.org", "0171 7654321"


def letters(count: int = 12) -> bytes:
    questions = [f"Wie weit ist es von Ort {number} nach Ort {number + 1}?" for number in range(count)]
    questions[3] += f" Antwort an {ADDRESS} bitte."
    questions[7] += f" Rufen Sie {PHONE} an."
    return "".join(
        json.dumps({"question": text, "answer": f"Etwa {len(text)} Schritte."}) + "\n" for text in questions
    ).encode()


def everything_recorded(client: Client) -> str:
    return json.dumps(client.events(0))


def test_a_version_without_personal_data_is_made_and_nothing_of_it_is_recorded(client: Client) -> None:
    added = client.add_dataset(letters(), "letters")
    checked = client.post("/datasets/letters/check", {}).ok()["findings"]
    assert [(one["count"], one["lines"]) for one in checked if one["kind"] == "personal_data"] == [(2, [4, 8])]
    found = client.post("/datasets/letters/personal-data").ok()
    assert found["version_id"] == added["version_id"]
    kinds = {one["kind"]: (one["rows"], one["lines"]) for one in found["personal_data"]["kinds"]}
    assert kinds == {"email": (1, [4]), "phone": (1, [8])}
    assert any("Names" in one for one in found["not_found"])
    shown = client.post("/datasets/letters/anonymise/preview", {"examples": 1}).ok()
    assert {(one["kind"], one["found"]) for one in shown["findings"]} == {("email", ADDRESS), ("phone", PHONE)}
    assert client.get("/datasets/letters").ok()["version_id"] == added["version_id"]
    made = client.post("/datasets/letters/anonymise", {}).ok()
    assert (made["anonymised"], made["changes"]["rows_changed"], made["changes"]["lines"]) == (True, 2, [4, 8])
    newest = client.get("/datasets/letters").ok()
    assert newest["version_id"] == made["dataset"]["version_id"] != added["version_id"]
    assert newest["versions"][0]["made"] == "anonymise"
    assert newest["versions"][0]["parent"] == added["version_id"]
    assert client.post("/datasets/letters/personal-data").ok()["personal_data"]["kinds"] == []
    again = client.post("/datasets/letters/anonymise", {}).ok()
    assert (again["anonymised"], again["dataset"]["version_id"]) == (False, newest["version_id"])
    assert ADDRESS not in everything_recorded(client)
    assert PHONE not in everything_recorded(client)


def test_the_same_key_makes_one_version(client: Client) -> None:
    client.add_dataset(letters(13), "keyed")
    first = client.post("/datasets/keyed/anonymise", {}, idempotency_key="k1").ok()
    second = client.post("/datasets/keyed/anonymise", {}, idempotency_key="k1").ok()
    assert second["dataset"]["version_id"] == first["dataset"]["version_id"]
    assert (second["anonymised"], second["changes"]) == (True, first["changes"])


def test_columns_come_from_a_file_that_is_sent_again_and_does_not_stay(client: Client, daemon: ThreadedDaemon) -> None:
    client.add_dataset(letters(14), "tickets")
    client.post("/datasets/tickets/anonymise", {"columns": {"who": "name"}}).refused(422, "invalid_value")
    content = client.upload(b"who,where\nSchritte,here\n")
    source = {"content": content, "file_name": "people.csv"}
    made = client.post("/datasets/tickets/anonymise", {"columns": {"who": "NAME"}, "source": source}).ok()
    assert made["changes"]["kinds"]["name"]["different"] == 1
    assert client.send("HEAD", f"/contents/{content}").status == 404


@pytest.mark.parametrize(
    "body",
    [
        {"patterns": [{"kind": "x", "expression": "("}]},
        {"patterns": [{"kind": "x", "expression": "a*"}]},
        {"lists": [{"kind": "no kind!", "words": ["a"]}]},
        {"regions": ["Germany"]},
        {"columns": {"who": "name"}, "source": {"content": "0" * 64, "file_name": "x.csv"}},
    ],
)
def test_what_cannot_be_looked_for_is_refused(client: Client, body: dict[str, Any]) -> None:
    client.add_dataset(letters(15), "refused")
    versions = len(client.get("/datasets/refused").ok()["versions"])
    answer = client.post("/datasets/refused/anonymise", body)
    assert answer.status in (404, 422)
    assert len(client.get("/datasets/refused").ok()["versions"]) == versions


def test_training_asks_while_personal_data_remains_and_the_answer_is_recorded(client: Client, tiny: Any) -> None:
    client.add_model(tiny)
    client.add_dataset(letters(40), "door")
    asked = {"model_id": "tiny", "dataset_id": "door", "preset_name": "quick_test"}
    told = client.post("/start", {**asked, "dry_run": True}).ok()["plan"]["personal_data"]
    assert {one["kind"]: one["rows"] for one in told["kinds"]} == {"email": 1, "phone": 1}
    assert client.post("/plans", asked).ok()["personal_data"] == told
    before = client.events(0)[-1]["seq"]
    refused = client.post("/start", asked).refused(409, "personal_data_found")
    assert "e-mail addresses in 1 row" in refused["detail"]
    assert "accept_personal_data" in refused["hint"]
    assert client.events(before) == []
    job_id = client.start(**asked, accept_personal_data=True)
    accepted = next(one for one in client.events(before) if one["type"] == "PersonalDataAccepted")
    assert accepted["data"]["kinds"] == {"email": 1, "phone": 1}
    assert accepted["data"]["version_id"] == client.get("/datasets/door").ok()["version_id"]
    audited = next(one for one in client.get("/audit").ok() if one["type"] == "PersonalDataAccepted")
    assert "door" in audited["what"]
    assert "e-mail addresses in 1 row, phone" in audited["what"]
    assert audited["actor"]["uid"] == accepted["actor"]["uid"]
    client.post(f"/cancel/{job_id}").ok()
    client.post("/datasets/door/anonymise", {}).ok()
    client.post(f"/cancel/{client.start(**asked)}").ok()
    assert sum(one["type"] == "PersonalDataAccepted" for one in client.events(before)) == 1
