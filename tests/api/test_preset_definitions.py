"""Own presets over the socket: made, changed, undone, used, and never those that come with btmd."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.daemon import Answer, Client, ThreadedDaemon, config_of, end_trainers, rows
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama


@pytest.fixture
def client() -> Iterator[Client]:
    with short_folder() as folder, ThreadedDaemon(config_of(folder)) as running:
        yield running.client


def put(client: Client, key: str, values: dict[str, Any] | None = None, **more: Any) -> Answer:
    body = json.dumps({"values": values or {}, **more}).encode()
    return client.send("PUT", f"/preset-definitions/{key}", body, content_type="application/json")


def made(client: Client, key: str = "mine", **values: Any) -> dict[str, Any]:
    return dict(put(client, key, values, made_from="quick_test", must_be_new=True).ok())


def history(client: Client, key: str = "mine") -> list[tuple[str, str]]:
    return [(one["what"], one["why"]) for one in client.get(f"/preset-definitions/{key}/history").ok()]


def test_a_preset_is_made_from_another_and_found_like_it(client: Client) -> None:
    answer = made(client, num_epochs=3)
    assert answer["preset"]["num_epochs"] == 3
    assert (answer["preset"]["name"], answer["preset"]["made_from"]) == ("Mine", "quick_test")
    for wanted in ("mine", "Mine", "MINE"):
        assert client.get(f"/preset-definitions/{wanted}").ok()["origin"] == "own"
    own = client.get("/preset-definitions?origin=own").ok()
    assert [(one["key"], one["learning_rate"]) for one in own] == [("mine", 3e-4)]
    assert "mine" in {one["key"] for one in client.get("/presets").ok()}
    assert client.get("/status").ok()["available_presets"] == 9


def test_auto_is_the_choice_by_itself_and_no_preset(client: Client) -> None:
    refused = put(client, "auto", made_from="quick_test").refused(422, "invalid_value")
    assert "auto" in refused["detail"]
    text = client.get("/preset-definitions/quick_test/file").body.decode().replace('"quick_test"', '"auto"')
    assert "key: auto" in client.post("/preset-definitions", {"text": text}).refused(422, "preset_refused")["detail"]


def test_the_setting_takes_no_preset_that_is_not_there(client: Client) -> None:
    made(client)
    refused = client.patch("/settings", {"changes": {"training.preset": "mime"}}).refused(422, "invalid_value")
    assert "Did you mean mine?" in refused["hint"]
    for there in ("mine", "quick_test", "auto", None, "mine"):
        client.patch("/settings", {"changes": {"training.preset": there}}).ok()
    # One that goes later is no obstacle to any other change.
    client.send("DELETE", "/preset-definitions/mine").ok()
    client.patch("/settings", {"changes": {"training.seed": 7}}).ok()
    assert client.get("/settings/training.preset").ok()["value"] == "mine"


def test_one_that_comes_with_btmd_is_never_changed(client: Client) -> None:
    refusals = [
        put(client, "quick_test", {"num_epochs": 2}),
        client.send("DELETE", "/preset-definitions/quick_test"),
        client.post("/preset-definitions/quick_test/undo"),
        client.post("/preset-definitions", {"text": client.get("/preset-definitions/quick_test/file").body.decode()}),
    ]
    for answer in refusals:
        assert "btmctl presets create KEY --from quick_test" in answer.refused(409, "preset_read_only")["hint"]
    assert client.get("/preset-definitions?origin=own").ok() == []


def test_changes_are_told_and_undone_deletions_and_undos_too(client: Client) -> None:
    made(client)
    first = put(client, "mine", {"num_epochs": 4, "lora_r": 32}, why="more").ok()
    assert first["changed"] == ["num_epochs", "lora_r"]
    assert put(client, "mine", {"num_epochs": 4}).ok()["number"] is None
    client.send("DELETE", "/preset-definitions/mine?why=gone").ok()
    client.get("/preset-definitions/mine").refused(404, "unknown_preset")
    undo = "/preset-definitions/mine/undo"
    assert client.post(undo).ok()["preset"]["num_epochs"] == 4
    assert client.post(undo).ok()["preset"] is None
    assert client.post(undo).ok()["preset"]["lora_r"] == 32
    assert client.post(undo, {"number": first["number"]}).ok()["preset"]["lora_r"] == 16
    told = history(client)
    assert [what for what, _ in told] == ["changed", "created", "deleted", "created", "deleted", "changed", "created"]
    assert (told[4][1], told[5][1], told[0][1]) == ("gone", "more", f"undo of {first['number']}")
    client.post(undo, {"number": 1}).refused(404, "change_not_found")
    client.get("/preset-definitions/none/history").refused(404, "unknown_preset")


def test_wrong_values_are_named_and_change_nothing(client: Client) -> None:
    made(client)
    refused = [
        ({"num_epochs": 0}, "num_epochs"),
        ({"learning_rte": 1}, "learning_rate"),
        ({"difficulty": "x"}, "one of"),
    ]
    for values, named in refused:
        assert named in put(client, "mine", values).refused(422, "preset_refused")["detail"]
    put(client, "mine", {"key": "other"}).refused(422, "invalid_value")
    put(client, "Not%20A%20Key", made_from="quick_test").refused(422, "invalid_value")
    put(client, "new").refused(422, "preset_refused")
    put(client, "new", made_from="nothing").refused(404, "unknown_preset")
    put(client, "new", {"name": "Quick Test"}, made_from="quick_test").refused(409, "name_taken")
    put(client, "mine", made_from="quick_test", must_be_new=True).refused(409, "preset_exists")
    put(client, "mine", {"num_epochs": 2}, expected_version=0).refused(409, "changed_since")
    assert len(history(client)) == 1


def test_a_preset_goes_out_as_a_file_and_comes_in_again(client: Client) -> None:
    made(client, recommended_for="letters, poems", target_modules="q_proj,v_proj", description='with "quotes"')
    before = client.get("/preset-definitions/mine").ok()
    text = client.get("/preset-definitions/mine/file").body.decode()
    client.post("/preset-definitions", {"text": text}).refused(409, "preset_exists")
    assert client.post("/preset-definitions", {"text": text, "replace": True}).ok()["number"] is None
    client.send("DELETE", "/preset-definitions/mine").ok()
    after = client.post("/preset-definitions", {"text": text}).ok()["preset"]
    assert {**after, "version": 0, "made_from": ""} == {**before, "version": 0, "made_from": ""}
    assert before["recommended_for"] == ["letters", "poems"]


@pytest.mark.parametrize("key", ["../evil", "/tmp/evil", "..", "a/b", "evil\\u0000", ""])
def test_a_key_that_leads_elsewhere_is_refused(client: Client, key: str) -> None:
    text = client.get("/preset-definitions/quick_test/file").body.decode().replace('"quick_test"', f'"{key}"')
    client.post("/preset-definitions", {"text": text}).refused(422, "preset_refused")
    assert not client.events(stream=f"preset-{key}")


def test_the_same_request_again_answers_the_same(client: Client) -> None:
    body = json.dumps({"made_from": "quick_test", "must_be_new": True}).encode()
    sent = [
        client.send("PUT", "/preset-definitions/mine", body, content_type="application/json", idempotency_key="k")
        for _ in range(2)
    ]
    assert sent[0].ok() == sent[1].ok()
    assert len(history(client)) == 1


def test_a_job_keeps_the_values_it_began_with(tmp_path: Path) -> None:
    with short_folder() as folder, ThreadedDaemon(config_of(folder)) as running:
        client = running.client
        client.add_model(make_tiny_llama(folder / "tiny"))
        client.add_dataset(rows(20))
        made(client, num_epochs=2)
        asked = {"model_id": "tiny", "dataset_id": "facts", "preset_name": "Mine"}
        plan = client.post("/plans", asked).ok()
        assert (plan["preset"], plan["values"]["num_epochs"]["value"]) == ("mine", 2)
        client.patch("/settings", {"changes": {"training.preset": "mine"}}).ok()
        assert client.post("/plans", {**asked, "preset_name": None}).ok()["preset"] == "mine"
        job_id = client.start(preset_name="mine")
        put(client, "mine", {"num_epochs": 7}).ok()
        client.send("DELETE", "/preset-definitions/mine").ok()
        assert client.job(job_id)["plan"]["values"]["num_epochs"]["value"] == 2
        client.post(f"/cancel/{job_id}")
        client.post("/plans", asked).refused(404, "unknown_preset")
        end_trainers(running.config.jobs_dir)


def test_a_backup_holds_presets_and_access(client: Client) -> None:
    made(client, num_epochs=3)
    put(client, "mine", {"num_epochs": 4}).ok()
    body = json.dumps({"role": "viewer"}).encode()
    client.send("PUT", "/access/@root", body, content_type="application/json").ok()
    backup_id = client.post("/backup", {"kind": "config"}).ok()["backup_id"]
    client.send("DELETE", "/preset-definitions/mine").ok()
    made(client, "later")
    asked = {"backup_id": backup_id, "only": ["presets"]}
    preview = client.post("/restores", {**asked, "dry_run": True}).ok()
    assert {(one["subject"], one["after"]) for one in preview["changes"]} == {("mine", "defined"), ("later", None)}
    client.post("/restores", asked).ok()
    assert client.get("/preset-definitions/mine").ok()["num_epochs"] == 4
    assert [one["key"] for one in client.get("/preset-definitions?origin=own").ok()] == ["mine"]
