"""Exports: a job's result in the form in which it is taken away, written here and fetched file by file."""

import re
from typing import Annotated, Any, Literal

import anyio
import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from btmd.api.answers import Progress, described, file_answer, json_answer, working_answer
from btmd.api.idempotency import Key, once
from btmd.api.jobs import found_job
from btmd.api.operation import Router, operation
from btmd.api.paging import PAGE, Before, Limit
from btmd.api.parts import Parts
from btmd.api.permission import JOB, Permission
from btmd.api.shapes import either, nullable, optional, typed
from btmd.api.times import rfc3339
from btmd.api.user_room import require_room
from btmd.api.work import heard
from btmd.domain import settings
from btmd.domain.event import Actor
from btmd.domain.settings import SettingsState
from btmd.domain.units import GIB
from btmd.domain.use import JobExported, stream_name
from btmd.errors import NotFound
from btmd.exporting.requests import Check
from btmd.jobs.exporting import Export, Exporting, Prepared, Wanted

router = Router(prefix="/exports", tags=("exports",))

_ID = re.compile(r"[0-9a-f]{32}-[0-9]{1,10}")

CHECK_EXAMPLE = typed(
    Check,
    {
        "prompts": 50,
        "own_rows": 40,
        "positions": 2134,
        "agreement": 99.2,
        "divergence": 0.0004,
        "limit": 97.0,
        "base_agreement": 61.5,
        "precision": "fp32",
    },
)
EXAMPLE = {
    "export_id": "0f1e2d3c4b5a69788796a5b4c3d2e1f0-1000",
    "job_id": "k3q7zv2m5a",
    "name": "smol-questions",
    "ollama_name": "smol-questions",
    "format": "gguf",
    "quant": "q8_0",
    "dtype": "Q8_0",
    "files": [{"path": "smol-questions-q8_0.gguf", "size_bytes": 144811072, "sha256": "9f86d0..."}],
    "check": nullable(CHECK_EXAMPLE),
}
PREPARED_EXAMPLE = {
    "job_id": "k3q7zv2m5a",
    "dry_run": True,
    **typed(Prepared, {"name": "smol-questions", "size_bytes": 144811072, "consent_needed": ["facts"]}),
}
LISTED_EXAMPLE = {
    "number": 51,
    "at": "2026-11-22T14:00:00.000000Z",
    "job_id": "k3q7zv2m5a",
    "export_id": "0f1e2d3c4b5a69788796a5b4c3d2e1f0-1000",
    "format": "gguf",
    "quant": "q8_0",
    "by_uid": 1000,
    "files": EXAMPLE["files"],
    "check": {name: optional(one) for name, one in CHECK_EXAMPLE.items()},
}


MADE_EXAMPLE = either(EXAMPLE, PREPARED_EXAMPLE)


class ExportWish(msgspec.Struct):
    """Which job, in which form; ``quant`` is of GGUF files, ``system`` of Ollama models."""

    job_id: str
    format: Literal["adapter", "merged", "gguf", "ollama", "card"]
    quant: Literal["q8_0", "f16"] = "q8_0"
    system: Annotated[str, Meta(max_length=20_000)] = ""
    dry_run: bool = False


async def exporting_of(parts: Parts) -> tuple[Exporting, SettingsState]:
    state, _ = await parts.handler.state(settings.STREAM)
    state = state or SettingsState()
    reserve_bytes = int(float(state.get("disk.reserve_gb")) * GIB)
    made = Exporting(
        store=parts.store,
        handler=parts.handler,
        jobs_dir=parts.config.jobs_dir,
        folder=parts.config.exports_dir,
        reserve_bytes=reserve_bytes,
        turn=parts.exporting,
    )
    return made, state


@operation(router, "POST", "", Permission.TRAIN, JOB, **described(MADE_EXAMPLE, errors=(404, 409), progress=True))
async def make_export(body: ExportWish, request: Request, key: Key, parts: Parts, actor: Actor) -> Response:
    """Write a job's result in a form to take away, read it again and compare it with the model the training made.

    It waits here to be fetched: `GET /exports/{export_id}/files/{path}`, then `DELETE`. Whoever does not fetch it finds
    it gone after a day, or when the daemon is started anew. JSON lines with progress where they are accepted.
    `dry_run` only says what it would be called, how large it becomes, and which datasets' consent it needs first.
    """
    row = await found_job(parts, body.job_id)
    exporting, state = await exporting_of(parts)
    wanted = Wanted(body.format, body.quant, body.system, float(state.get("chat.temperature")))
    if body.dry_run:
        prepared = await exporting.prepare(row, wanted)
        return json_answer({"job_id": row.job_id, "dry_run": True, **msgspec.to_builtins(prepared)})
    # Who asked stands in the name: the files are for nobody else.
    export_id = f"{parts.new_id()}-{actor.uid}"

    async def work(progress: Progress) -> dict[str, Any]:
        async with heard(progress) as on_progress:
            made = await exporting.make(
                row,
                wanted,
                export_id,
                actor,
                on_progress,
                lambda needed_bytes: require_room(needed_bytes, actor, parts),
            )
        return _as_json(made)

    return await working_answer(request, once(parts, actor, key, work), parts.stopping)


def _as_json(made: Export) -> dict[str, Any]:
    return {
        "export_id": made.export_id,
        "job_id": made.job_id,
        "name": made.name,
        "ollama_name": made.name,
        "format": made.wanted.format,
        "quant": made.wanted.quant if made.wanted.format in ("gguf", "ollama") else "",
        "dtype": made.facts.dtype,
        "files": [msgspec.to_builtins(one) for one in made.facts.files],
        "check": None if made.facts.check is None else msgspec.to_builtins(made.facts.check),
    }


@operation(router, "GET", "", Permission.READ, **described([LISTED_EXAMPLE], text="newest first", errors=(404,)))
async def list_exports(parts: Parts, job_id: str, limit: Limit = PAGE, before: Before = None) -> Response:
    """What was taken away of a job: when, by whom, in which form, with the hashes of all files.

    Older ones with `before`.
    """
    row = await found_job(parts, job_id)
    told = [
        {"number": one.seq, "at": rfc3339(one.recorded_at_us), **msgspec.to_builtins(one.event)}
        for one in reversed(await parts.store.read_stream(stream_name(row.job_id)))
        if isinstance(one.event, JobExported) and (before is None or one.seq < before)
    ]
    return json_answer(told[:limit])


@operation(
    router,
    "GET",
    "/{export_id}/files/{path:path}",
    Permission.TRAIN,
    responses={200: {"description": "the file", "content": {"application/octet-stream": {}}}},
    response_model=None,
)
async def fetch_file(
    export_id: str, path: str, parts: Parts, actor: Actor, offset: Annotated[int, Meta(ge=0, le=2**62)] = 0
) -> Response:
    """One file of an export from `offset` to its end, for who asked for it."""
    exporting, _ = await _own(parts, export_id, actor)
    found = exporting.path(export_id, path)
    if found is None:
        raise _gone(export_id)
    return await file_answer(found, offset, parts.stopping)


@operation(
    router,
    "DELETE",
    "/{export_id}",
    Permission.TRAIN,
    **described({"message": "What was written for the export is gone."}, errors=(404,)),
)
async def end_export(export_id: str, parts: Parts, actor: Actor) -> Response:
    """Take away what was written for an export: it was fetched, or is not wanted any more."""
    exporting, _ = await _own(parts, export_id, actor)
    await anyio.to_thread.run_sync(exporting.remove, export_id)
    return json_answer({"message": "What was written for the export is gone."})


async def _own(parts: Parts, export_id: str, actor: Actor) -> tuple[Exporting, SettingsState]:
    """Raises NotFound for an export that is none of the asking user's."""
    if _ID.fullmatch(export_id) is None or int(export_id.rpartition("-")[2]) != actor.uid:
        raise _gone(export_id)
    return await exporting_of(parts)


def _gone(export_id: str) -> NotFound:
    return NotFound(
        f"There is no such file of the export {export_id[:60]}.", hint="`btmctl jobs export` makes it anew."
    )
