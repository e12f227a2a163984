"""The OpenAPI document, made from the operations when somebody asks for it."""

import inspect
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from btmd import __version__
from btmd.api import problems
from btmd.api.idempotency import LONGEST_KEY
from btmd.api.operation import ONLY_READING, Operation, by_path

REF = "#/components/schemas/{name}"
_CONVERTER = re.compile(r"{(\w+):\w+}")
_FOR_ALL = (403, 422, 429, 503)
_FOR_CHANGES = (400, 408, 409, 413)
"""A body that cannot be read, that does not come, a state that does not allow it, and a body that is too large."""
_FOR_NAMES = (404, 409)
"""A thing or a moment that is not there, and a name of several."""
_NAMES = ("job_id", "dataset_id", "model_id", "thing_id", "backup_id", "at", "from_", "to", "since", "until")
_TEXTS = {
    400: "the request cannot be read",
    403: "the user may not",
    404: "there is no such thing",
    408: "the body did not arrive in time",
    409: "the present state does not allow it",
    413: "too large",
    422: "a value cannot be used",
    429: "too much at once; `Retry-After` says when to ask again",
    503: "not possible at the moment",
}
_REFUSED: dict[int, dict[str, Any]] = {
    status: {"description": text, "content": problems.CONTENT} for status, text in _TEXTS.items()
}

_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
    "description": "for 24 hours the same key with the same request does nothing again and is answered the same",
}


def document(root: str, operations: Sequence[Operation]) -> dict[str, Any]:
    """OpenAPI 3.1 for ``operations`` below ``root``."""
    bodies = list({one.arguments.body: None for one in operations if one.arguments.body is not None})
    references, components = msgspec.json.schema_components(bodies, ref_template=REF)
    body_schemas = dict(zip(bodies, references, strict=True))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "btmd",
            "version": __version__,
            "description": "Fine-tune a language model on your own workstation. Errors are RFC 9457 problem documents.",
        },
        "paths": {
            root + _CONVERTER.sub(r"{\1}", path): {
                method.lower(): _described(one, body_schemas) for method, one in methods.items()
            }
            for path, methods in by_path(operations).items()
        },
        "components": {"schemas": {**components, problems.NAME: problems.SCHEMA}},
    }


def _described(one: Operation, body_schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    name = one.handler.__name__
    text = inspect.getdoc(one.handler) or ""
    found: dict[str, Any] = {
        "operationId": f"{one.handler.__module__.rpartition('.')[2]}_{name}",
        "summary": name.replace("_", " ").capitalize(),
        "description": text,
        "tags": list(one.tags),
        "x-permission": one.permission.value,
        "parameters": [
            *_parameters(one.arguments.path, "path"),
            *_parameters(one.arguments.query, "query"),
            *([_KEY] if one.arguments.takes_key else []),
        ],
        "responses": {str(status): answer for status, answer in sorted(_answers(one).items())},
    }
    body = one.arguments.body
    if body is not None:
        found["requestBody"] = {
            "required": one.arguments.body_needed,
            "content": {"application/json": {"schema": body_schemas[body]}},
        }
    elif "request_body" in one.described:
        found["requestBody"] = one.described["request_body"]
    return found


def _answers(one: Operation) -> dict[int, dict[str, Any]]:
    """Those that the operation states, and those that it shares with all of its form."""
    names_something = bool(one.things) or one.arguments.path is not None or any(map(one.arguments.has, _NAMES))
    changes = one.method not in ONLY_READING
    shared = {*_FOR_ALL, *(_FOR_NAMES if names_something else []), *(_FOR_CHANGES if changes else [])}
    answers = {**{status: _REFUSED[status] for status in shared}, **one.described.get("responses", {})}
    if one.method == "HEAD":
        return {status: {"description": answer["description"]} for status, answer in answers.items()}
    return answers


def _parameters(struct: type[msgspec.Struct] | None, place: str) -> list[dict[str, Any]]:
    if struct is None:
        return []
    _, components = msgspec.json.schema_components([struct], ref_template=REF)
    schema = components[struct.__name__]
    required = schema.get("required", [])
    return [
        {"name": name, "in": place, "required": place == "path" or name in required, **_parameter(of)}
        for name, of in schema["properties"].items()
    ]


def _parameter(schema: dict[str, Any]) -> dict[str, Any]:
    schema = dict(schema)
    text = schema.pop("description", "")
    return {"schema": schema, **({"description": text} if text else {})}
