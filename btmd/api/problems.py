"""Refusals and failures as RFC 9457 problem documents; never a traceback."""

import logging
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from sqlalchemy.exc import DatabaseError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from btmd.api.refusals import record_refusal
from btmd.errors import BtmdError, DatasetRefused, NotEnoughDisk, NotEnoughMemory, TooMany, ViewWrong

log = logging.getLogger("btmd.api")

MEDIA_TYPE = "application/problem+json"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "hint"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "the plain sentence"},
        "code": {"type": "string", "description": "stable"},
        "hint": {"type": "string", "description": "the next thing to do"},
        "allow": {
            "type": "array",
            "items": {"type": "string"},
            "description": "changes of what was asked for with which it would be possible, to send as `allow`",
        },
        "suggestions": {
            "type": "array",
            "items": {"type": "object", "additionalProperties": {"type": "string"}},
            "description": "how a dataset may be meant, the likeliest first, to send as `mapping`",
        },
    },
}
NAME = "Problem"
CONTENT: dict[str, Any] = {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{NAME}"}}}
"""What OpenAPI says of a refusal; the schema stands in the document once, under ``NAME``."""
_BY_STATUS = {404: ("not_found", "There is no such thing"), 405: ("method_not_allowed", "Not possible here")}


def problem(error: BtmdError) -> dict[str, Any]:
    """The document for an error of ours."""
    body = document(error.status, error.code, error.title, error.detail, error.hint)
    if isinstance(error, (NotEnoughMemory, NotEnoughDisk)) and error.allow:
        body["allow"] = list(error.allow)
    if isinstance(error, DatasetRefused) and error.suggestions:
        body["suggestions"] = [dict(mapping) for mapping in error.suggestions]
    return body


def document(status: int, code: str, title: str, detail: str, hint: str = "") -> dict[str, Any]:
    return {
        "type": f"urn:btmd:error:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "hint": hint,
    }


def problem_response(body: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(body), body["status"], headers, media_type=MEDIA_TYPE)


UNEXPECTED = document(
    500,
    "internal_error",
    "Something went wrong",
    "The daemon met an error of its own; nothing was changed by this request.",
    "The daemon's log says more; please report it.",
)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, BtmdError)
    await record_refusal(request, error)
    if error.status >= 500:
        log.warning("%s %s: %s", request.method, request.url.path, error.detail)
    waited = {"Retry-After": str(error.wait_s)} if isinstance(error, TooMany) else None
    return problem_response(problem(error), waited)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code, title = _BY_STATUS.get(error.status_code, ("bad_request", "The request cannot be read"))
    detail = {
        404: f"There is nothing at {request.url.path}.",
        405: f"{request.method} is not possible at {request.url.path}.",
    }.get(error.status_code, str(error.detail))
    return problem_response(
        document(error.status_code, code, title, detail, "/openapi.json lists everything there is."),
        dict(error.headers or {}),
    )


async def _unreadable(request: Request, error: Exception) -> Response:
    reason = str(getattr(error, "orig", None) or error)
    log.error("%s %s: %s", request.method, request.url.path, reason)
    request.app.state.parts.mend_views(reason)
    wrong = ViewWrong("A view of the log is damaged; it is being built anew.", hint="Ask again in a few seconds.")
    return problem_response(problem(wrong))


async def _waited_long(request: Request, error: Exception) -> Response:
    log.warning("%s %s: no connection to the database became free", request.method, request.url.path)
    busy = TooMany("More is asked at once than this daemon can look up.", hint="Ask again in a moment.")
    return problem_response(problem(busy), {"Retry-After": "1"})


HANDLERS: Mapping[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
    BtmdError: _refused,
    HTTPException: _http,
    DatabaseError: _unreadable,
    sqlite3.DatabaseError: _unreadable,
    PoolTimeout: _waited_long,
}
"""Every kind of failure is answered with a problem document."""
