"""Every operation: one stated permission, a description, problem documents for whatever is wrong."""

import json
import socket

import msgspec
import pytest
from sqlalchemy.exc import TimeoutError as PoolTimeout

from btmd.api import application
from btmd.api.application import OPERATIONS
from btmd.api.permission import Permission
from tests.fixtures.daemon import ROOT, Client, ThreadedDaemon
from tests.fixtures.peers import Peers

FIXED = {
    ("get", "/presets"),
    ("get", "/presets/{model_id}"),
    ("post", "/start"),
    ("get", "/progress/{job_id}"),
    ("get", "/result/{job_id}"),
    ("post", "/cancel/{job_id}"),
    ("post", "/backup"),
    ("get", "/backups"),
    ("delete", "/backup/{backup_id}"),
    ("get", "/status"),
}


def test_every_operation_states_its_permission() -> None:
    assert len(OPERATIONS) > 50
    for one in OPERATIONS:
        assert isinstance(one.permission, Permission), one.path


def test_what_every_operation_takes_can_be_read() -> None:
    for one in OPERATIONS:
        for struct in (one.arguments.path, one.arguments.query, one.arguments.body):
            # A limit that does not fit its type is found here and not by the first request.
            assert struct is None or msgspec.json.Decoder(struct)


def test_the_openapi_document_is_not_made_for_each_who_asks(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    first = client.get("/openapi.json").ok()
    monkeypatch.setattr(application, "document", None)
    assert client.get("/openapi.json").ok() == first


def test_the_openapi_document_describes_every_operation(client: Client) -> None:
    document = client.get("/openapi.json").ok()
    described = {
        (method, path.removeprefix(ROOT)): operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert set(described) >= FIXED
    assert len(described) == len(OPERATIONS)
    schemas = document["components"]["schemas"]
    assert schemas["StartRequest"]["required"] == ["model_id", "dataset_id"]
    (name, limit), *_ = [(one["name"], one["schema"]) for one in described["get", "/jobs"]["parameters"]][1:]
    assert (name, limit["minimum"], limit["maximum"], limit["default"]) == ("limit", 1, 1000, 100)
    for (method, _), operation in described.items():
        assert operation["description"]
        statuses = set(operation["responses"])
        assert statuses >= {"403", "422", "429", "503"}
        assert method != "head" or not any("content" in answer for answer in operation["responses"].values())
        assert method in ("get", "head") or statuses >= {"400", "408", "409", "413"}
        named = {"job_id", "model_id", "thing_id", "at", "from", "since"}
        if any(one["in"] == "path" or one["name"] in named for one in operation["parameters"]):
            assert statuses >= {"404", "409"}
        assert operation["x-permission"] in tuple(Permission)


def test_somebody_else_is_refused_and_the_refusal_is_recorded(client: Client, peers: Peers) -> None:
    before = client.events()[-1]["seq"]
    with peers.as_(Peers.STRANGER):
        told = client.get("/settings").refused(403, "not_permitted")
    assert "btmctl access grant bin viewer" in told["hint"]
    refused = client.events(before)
    assert [event["type"] for event in refused] == ["OperationRefused"]
    assert refused[0]["data"] == {"operation": f"GET {ROOT}/settings", "code": "not_permitted", "more": 0}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nothing", None, 404, "not_found"),
        ("GET", "/jobs/", None, 404, "not_found"),
        ("DELETE", "/status", None, 405, "method_not_allowed"),
        ("POST", "/start", b"{", 400, "bad_request"),
        ("POST", "/start", b"[]", 422, "invalid_value"),
        ("POST", "/start", b'{"model_id": 7, "dataset_id": "x"}', 422, "invalid_value"),
        ("POST", "/start", b'{"model_id": "nowhere", "dataset_id": "x"}', 404, "model_not_found"),
        ("POST", "/start", b"\xff\xfe", 400, "bad_request"),
        ("POST", "/start", b"", 422, "invalid_value"),
        ("POST", "/start", None, 422, "invalid_value"),
        ("PATCH", "/settings", b'{"changes": {"a": ' + b"[" * 100_000, 400, "bad_request"),
        ("POST", "/start", b'{"model_id": "\\ud800", "dataset_id": "x"}', 400, "bad_request"),
        ("HEAD", "/nothing", None, 404, None),
        ("OPTIONS", "/jobs", None, 405, "method_not_allowed"),
        ("GET", "/jobs?limit=many", None, 422, "invalid_value"),
        ("PATCH", "/settings", b'{"changes": {"training.sed": 1}}', 422, "unknown_key"),
        ("PATCH", "/settings", b'{"changes": {"training.seed": "much"}}', 422, "invalid_value"),
        ("PATCH", "/settings", b'{"changes": {"training.tick_every_s": NaN}}', 400, "bad_request"),
        ("GET", "/settings/none", None, 422, "unknown_key"),
        ("GET", "/jobs/none", None, 404, "job_not_found"),
        ("GET", "/jobs/last", None, 404, "job_not_found"),
        ("GET", "/jobs?state=asleep", None, 422, "invalid_value"),
        ("GET", "/jobs?limit=0", None, 422, "invalid_value"),
        ("GET", "/progress/none", None, 404, "job_not_found"),
        ("GET", "/result/none", None, 404, "job_not_found"),
        ("POST", "/cancel/none", None, 404, "job_not_found"),
        ("GET", "/models/no/such", None, 404, "model_not_found"),
        ("GET", "/presets?model_id=none", None, 404, "model_not_found"),
        ("GET", "/preset-definitions/none", None, 404, "unknown_preset"),
        ("GET", "/datasets/none", None, 404, "dataset_not_found"),
        ("PUT", "/contents/123", b"x", 400, "bad_request"),
        ("GET", "/events?after=-1", None, 422, "invalid_value"),
        ("POST", "/models", b'{"path": "relative"}', 422, "invalid_value"),
        ("POST", "/models", b'{"path": "/no/such/folder"}', 404, "file_not_found"),
        ("POST", "/models", b'{"path": "/\\u0000"}', 422, "invalid_value"),
    ],
)
def test_bad_requests_are_refused_in_words(
    client: Client, method: str, path: str, body: bytes | None, status: int, code: str | None
) -> None:
    answer = client.send(method, path, body, content_type="application/json")
    if code is None:
        assert answer.status == status
    else:
        answer.refused(status, code)


def test_a_refusal_names_the_field_and_what_it_takes(client: Client) -> None:
    body = {"model_id": "m", "dataset_id": "d", "priority": 101}
    assert client.post("/start", body).refused(422, "invalid_value")["detail"] == "priority: expected `int` <= 100."
    found = client.get("/history?limit=0").refused(422, "invalid_value")
    assert found["detail"] == "limit: expected `int` >= 1."


def test_a_body_of_another_kind_is_refused(client: Client) -> None:
    client.send("PATCH", "/settings", b"a=1", content_type="text/plain").refused(422, "invalid_value")


def test_a_body_where_none_is_taken_is_refused_before_anything_is_done(client: Client) -> None:
    made = client.post("/backup", {}).ok()["backup_id"]
    problem = client.send("DELETE", f"/backup/{made}", b'{"dry_run": true}', content_type="application/json")
    assert "`dry_run`" in problem.refused(422, "invalid_value")["detail"]
    assert [one["backup_id"] for one in client.get("/backups").ok()] == [made]
    client.send("DELETE", f"/backup/{made}", b"dry_run=true", content_type="text/plain").refused(422, "invalid_value")
    client.send("POST", "/jobs/none/pause", b"{", content_type="application/json").refused(400, "bad_request")
    client.send("POST", "/jobs/none/pause", b"{}", content_type="application/json").refused(404, "job_not_found")
    client.send("DELETE", f"/backup/{made}").ok()


def test_a_method_that_is_not_there_is_told_which_are(client: Client) -> None:
    answer = client.send("DELETE", "/settings")
    answer.refused(405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) >= {"GET", "PATCH"}


def test_a_body_beyond_the_limit_is_refused(client: Client) -> None:
    body = json.dumps({"changes": {"training.preset": "x" * 5_000_000}}).encode()
    client.send("PATCH", "/settings", body, content_type="application/json").refused(413, "too_large")


def test_broken_http_does_not_hurt_the_daemon(daemon: ThreadedDaemon) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as raw:
        raw.connect(str(daemon.config.socket_path))
        raw.sendall(b"\x16\x03\x01nonsense\r\n\r\n")
        raw.recv(1000)
    daemon.client.get("/status").ok()


def test_an_error_of_our_own_is_told_without_a_traceback(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("btmd.api.health.probe", broken)
    problem = client.get("/status").refused(500, "internal_error")
    assert "secret" not in json.dumps(problem)


def test_waiting_for_the_database_in_vain_is_told_as_too_much_at_once(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waited(*_: object) -> None:
        raise PoolTimeout("QueuePool limit of size 2 overflow 0 reached")

    monkeypatch.setattr("btmd.api.health.probe", waited)
    answer = client.get("/status")
    answer.refused(429, "too_many")
    assert answer.headers["retry-after"] == "1"


def test_the_request_is_recorded_with_who_asked(client: Client, daemon: ThreadedDaemon) -> None:
    import os

    client.patch("/settings", {"changes": {"training.seed": 5}, "why": "luck"}).ok()
    changed = client.events(type="SettingChanged")[-1]
    assert changed["data"] == {"key": "training.seed", "before": None, "after": 5, "why": "luck", "change_id": ""}
    assert changed["actor"]["uid"] == os.getuid()
    assert changed["actor"]["pid"] == os.getpid()
    assert client.get("/settings/training.seed").ok()["value"] == 5
    client.patch("/settings", {"changes": {"training.seed": None}}).ok()
    assert client.get("/settings/training.seed").ok()["is_default"] is True


def test_status_has_the_fields_of_the_contract(client: Client) -> None:
    status = client.get("/status").ok()
    assert status["status"] == "operational"
    hardware = {"available_memory_gb", "available_gpu_memory_gb", "gpu_count", "cpu_cores", "supports_mixed_precision"}
    assert set(status["hardware"]) >= hardware
    assert (status["active_training_jobs"], status["available_presets"], status["system_backups"]) == (0, 8, 0)


def test_presets_have_the_fields_of_the_contract(client: Client) -> None:
    presets = client.get("/presets").ok()
    fields = {
        "name", "description", "difficulty", "training_type", "num_epochs", "learning_rate", "batch_size",
        "max_length", "warmup_ratio", "use_mixed_precision", "gradient_checkpointing", "recommended_for",
        "estimated_time", "memory_requirements_gb", "key", "verdict",
    }  # fmt: skip
    assert len(presets) == 8
    assert {preset["key"] for preset in presets} >= {"quick_test", "chat_fine_tune", "code_assistant", "domain_expert"}
    assert all(set(preset) >= fields for preset in presets)
    assert client.get("/preset-definitions/Quick%20TEST").ok()["key"] == "quick_test"


def test_a_model_that_is_not_here_gets_a_guess_that_says_so(client: Client) -> None:
    guessed = client.get("/presets/org/some-coder-1.5b").ok()
    assert guessed["key"] in ("code_assistant", "quick_test")
    assert guessed["verdict"].startswith("A guess")
    assert "code, 1.5b" in guessed["verdict"]
