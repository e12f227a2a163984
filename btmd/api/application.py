"""All operations under one root."""

import zlib
from collections.abc import Mapping
from functools import cache

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from btmd.api import (
    access,
    anonymising,
    audit,
    audit_export,
    audit_report,
    backup_files,
    backup_keys,
    backups,
    chat,
    consents,
    contents,
    dataset_check,
    dataset_erasure,
    dataset_mapping,
    dataset_preview,
    dataset_versions,
    datasets,
    disk,
    events,
    exports,
    health,
    history,
    job_answer,
    job_comparison,
    job_curves,
    job_rerun,
    jobs,
    metrics,
    model_files,
    models,
    ownership,
    preset_definitions,
    presets,
    problems,
    queue,
    reset,
    restores,
    settings,
    training,
)
from btmd.api.budgets import Budgets
from btmd.api.guard import Guard
from btmd.api.openapi import document
from btmd.api.operation import Operation, by_path
from btmd.api.parts import Parts
from btmd.api.refusals import BURST, EVERY_S

ROOT = "/api/basic-training"
CHANGES_BURST, CHANGES_PER_S = 500, 1.0
"""What one user who is no admin may ask for at once and a second that may be recorded."""
WRITTEN_BURST_BYTES, WRITTEN_BYTES_PER_S = 32 * 1024 * 1024, 1024.0
"""How much of the log that may fill."""
ROUTERS = (
    training.router,
    health.router,
    metrics.router,
    presets.router,
    preset_definitions.router,
    models.router,
    model_files.router,
    contents.router,
    datasets.router,
    anonymising.router,
    dataset_versions.router,
    dataset_erasure.router,
    dataset_check.router,
    dataset_mapping.router,
    dataset_preview.router,
    consents.router,
    jobs.router,
    job_answer.router,
    job_rerun.router,
    job_comparison.router,
    job_curves.router,
    disk.router,
    queue.router,
    chat.router,
    exports.router,
    settings.router,
    history.router,
    access.router,
    ownership.router,
    restores.router,
    backups.router,
    backup_files.router,
    backup_keys.router,
    reset.router,
    audit.router,
    audit_export.router,
    audit_report.router,
    events.router,
)


OPERATIONS = tuple(one for router in ROUTERS for one in router.operations)


class _Methods:
    """The operations at one path, as an ASGI application. HEAD is answered only where it is an operation."""

    def __init__(self, operations: Mapping[str, Operation]) -> None:
        self._operations = operations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._operations.get(scope["method"])
        if found is None:
            raise HTTPException(405, headers={"Allow": ", ".join(self._operations)})
        answer = await found(Request(scope, receive, send))
        await answer(scope, receive, send)


async def _openapi(request: Request) -> Response:
    return Response(zlib.decompress(_packed_document()), media_type="application/json")


@cache
def _packed_document() -> bytes:
    """Made once: whoever may connect may ask, and making it holds up everybody else. Packed, it takes no room."""
    return zlib.compress(msgspec.json.encode(document(ROOT, OPERATIONS)))


def build_application(parts: Parts) -> Starlette:
    """The ASGI application; the OpenAPI document is at /openapi.json."""
    app = Starlette(
        routes=[
            Route("/openapi.json", _openapi),
            *(
                # With its methods named, a path that others match too does not answer for them.
                Route(ROOT + path, _Methods(methods), methods=list(methods))
                for path, methods in by_path(OPERATIONS).items()
            ),
        ],
        middleware=[Middleware(Guard, parts=parts)],
        exception_handlers=problems.HANDLERS,
    )
    # An address that is not there is told as such: without an id it is not the list that was meant.
    app.router.redirect_slashes = False
    app.state.parts = parts
    app.state.refusals = Budgets(BURST, 1 / EVERY_S)
    app.state.changes = Budgets(CHANGES_BURST, CHANGES_PER_S)
    app.state.written = written = Budgets(WRITTEN_BURST_BYTES, WRITTEN_BYTES_PER_S)
    parts.handler.on_appended = lambda actor, rows: written.spend(actor.uid, sum(len(one.data_json) for one in rows))
    return app
