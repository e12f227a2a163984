"""What the OpenAPI document says of answers: every operation has a schema and an example that fits it."""

from typing import Any

import fastjsonschema
import pytest

from btmd.api.application import OPERATIONS, ROOT
from btmd.api.shapes import either, example_of, keyed, missing, no, nullable, one_of, optional, schema_of
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
