"""What the OpenAPI document says of answers: every operation has a schema and an example that fits it."""

from typing import Any

import fastjsonschema
import pytest

from btmd.api.application import OPERATIONS, ROOT
from btmd.api.problems import CONTENT, NAME
from btmd.api.shapes import either, example_of, keyed, missing, no, nullable, one_of, optional, schema_of
from tests.fixtures.daemon import Client
from tests.fixtures.documented import JSON, described, require_fits, strict_check

NO_JSON = {
    ("get", "/jobs/{job_id}/logs"): "text",
    ("get", "/preset-definitions/{key}/file"): "a TOML file",
    ("get", "/metrics"): "text",
    ("post", "/jobs/{job_id}/chat"): "lines, as words come",
    ("get", "/audit/export"): "lines, one for each event",
    ("get", "/exports/{export_id}/files/{path}"): "a file",
    ("get", "/backups/{backup_id}/files/{path}"): "a file",
    ("head", "/contents/{sha256}"): "headers alone",
    ("head", "/model-files/{sha256}"): "headers alone",
}
"""Operations that answer something else."""


def answers() -> list[tuple[str, str, str, dict[str, Any]]]:
    return [
        (method, path, status, answer)
        for path, operations in described()["paths"].items()
        for method, operation in operations.items()
        for status, answer in operation["responses"].items()
        if status.startswith("2")
    ]


def test_every_operation_says_what_it_answers() -> None:
    every = {(method, path.removeprefix(ROOT)): answer for method, path, _, answer in answers()}
    assert len(every) == len(OPERATIONS)
    assert {one for one, answer in every.items() if JSON not in answer.get("content", {})} == set(NO_JSON)


def test_every_example_fits_its_schema() -> None:
    for method, path, status, answer in answers():
        content = answer.get("content", {}).get(JSON)
        if content is not None:
            assert content.get("schema"), f"{method} {path} may be anything"
            require_fits(method.upper(), path, int(status), content["example"])


def test_every_refusal_is_described_as_the_problem_document_that_it_is(client: Client) -> None:
    schema = described()["components"]["schemas"][NAME]
    for operations in described()["paths"].values():
        for method, operation in operations.items():
            refusals = [answer for status, answer in operation["responses"].items() if status >= "4"]
            assert method == "head" or all(answer["content"] == CONTENT for answer in refusals)
    strict_check(schema)(client.get("/jobs/nowhere").json)


PRESET = {
    "string": "key name description difficulty training_type estimated_time verdict",
    "integer": "num_epochs batch_size max_length",
    "number": "learning_rate warmup_ratio memory_requirements_gb",
    "boolean": "use_mixed_precision gradient_checkpointing",
    "array": "recommended_for",
}
BACKUP = {"string": "backup_id created_at description backup_path", "number": "size_mb"}
PROMISED = {
    ("get", "/presets"): PRESET,
    ("get", "/presets/{model_id}"): PRESET,
    ("post", "/start"): {"string": "job_id model_id status created_at message state"},
    ("get", "/progress/{job_id}"): {
        "string": "job_id model_name status state status_message elapsed_time estimated_remaining",
        "integer": "current_step total_steps current_epoch total_epochs",
        "number": "progress_percentage",
        "number or null": "current_loss best_loss learning_rate memory_usage_gb gpu_utilization",
        "array": "warnings recommendations",
    },
    ("get", "/result/{job_id}"): {
        "string": "job_id model_name training_time performance_summary",
        "boolean": "success",
        "number or null": "final_loss improvement_percentage",
        "string or null": "model_path",
        "array": "recommendations warnings next_steps",
    },
    ("post", "/cancel/{job_id}"): {"string": "message"},
    ("post", "/backup"): BACKUP,
    ("get", "/backups"): BACKUP,
    ("post", "/restore"): {"string": "message"},
    ("delete", "/backup/{backup_id}"): {"string": "message"},
    ("post", "/reset"): {"string": "message", "boolean": "preserve_user_data"},
    ("get", "/status"): {
        "string": "status",
        "object": "hardware",
        "integer": "active_training_jobs available_presets system_backups",
    },
    ("get", "/events"): {
        "integer": "seq version",
        "string": "stream event_id type recorded_at wall_at",
        "string or null": "correlation_id causation_id",
        "object": "actor data",
    },
}
"""What existing clients rely on: fields may be added, none removed or retyped."""


@pytest.mark.parametrize(("method", "path"), PROMISED)
def test_what_existing_clients_rely_on_stays_in_the_document(method: str, path: str) -> None:
    schema = described()["paths"][ROOT + path][method]["responses"]["200"]["content"][JSON]["schema"]
    # Of several forms the first is the usual one; the others are answered to a `dry_run`.
    schema = schema.get("anyOf", [schema])[0]
    schema = schema.get("items", schema)
    for kind, names in PROMISED[method, path].items():
        for name in names.split():
            assert name in schema["required"]
            types = schema["properties"][name]["type"]
            assert " or ".join([types] if isinstance(types, str) else types) == kind, name


@pytest.mark.parametrize(
    ("shape", "fits", "does_not"),
    [
        ({"a": 1}, {"a": 2}, {"a": 2, "b": 2}),
        ({"a": 1}, {"a": 2}, {}),
        ({"a": optional(1)}, {}, {"a": "x"}),
        ({"a": missing(1)}, {}, {"a": "x"}),
        (nullable(1), None, "x"),
        (nullable({"a": 1}), None, {"a": "x"}),
        (nullable(one_of("a", "ab")), None, "c"),
        ([1], [], ["x"]),
        ([1, "a"], ["x", 3], [None]),
        (no(1), [2], ["x"]),
        (0.5, 3, "x"),
        (1, 3, 0.5),
        (keyed({"a": 1}), {"b": 2}, {"b": "x"}),
        (either({"a": 1}, {"b": 1}), {"b": 2}, {"a": 1, "b": 1}),
        ("2026-11-22T14:00:00.000000Z", "2026-11-22T14:00:00.000001Z", "today"),
    ],
)
def test_a_schema_takes_what_the_example_shows_and_nothing_else(shape: Any, fits: Any, does_not: Any) -> None:
    check = strict_check(schema_of(shape))
    check(example_of(shape))
    check(fits)
    with pytest.raises(fastjsonschema.JsonSchemaValueException):
        check(does_not)


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
def test_a_wrong_answer_fails_the_test_that_asked(client: Client, monkeypatch: pytest.MonkeyPatch, accept: str) -> None:
    client.post("/backups/prune", {"dry_run": True}, accept=accept)
    monkeypatch.setattr("btmd.api.backups._mb", str)
    with pytest.raises(AssertionError, match="freed_mb must be number"):
        client.post("/backups/prune", {"dry_run": True}, accept=accept)
