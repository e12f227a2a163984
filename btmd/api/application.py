"""All operations under one root."""

from fastapi import FastAPI

from btmd import __version__
from btmd.api import (
    audit,
    backup_keys,
    backups,
    chat,
    contents,
    datasets,
    events,
    health,
    history,
    jobs,
    models,
    preset_definitions,
    presets,
    problems,
    restores,
    settings,
    training,
)
from btmd.api.guard import Guard
from btmd.api.parts import Parts

ROOT = "/api/basic-training"
ROUTERS = (
    training.router,
    health.router,
    presets.router,
    preset_definitions.router,
    models.router,
    contents.router,
    datasets.router,
    jobs.router,
    chat.router,
    settings.router,
    history.router,
    restores.router,
    backups.router,
    backup_keys.router,
    audit.router,
    events.router,
)


def build_application(parts: Parts) -> FastAPI:
    """The ASGI application; the OpenAPI document is at /openapi.json."""
    app = FastAPI(
        title="btmd",
        version=__version__,
        description="Fine-tune a language model on your own workstation. Errors are RFC 9457 problem documents.",
        docs_url=None,
        redoc_url=None,
        # Spans, metrics and exporters that the environment could switch on: nothing leaves this machine.
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
    )
    app.state.parts = parts
    for router in ROUTERS:
        app.include_router(router, prefix=ROOT)
    problems.install(app)
    app.add_middleware(Guard, parts=parts)
    return app
