"""The report of one job: everything that the log tells of it, for somebody who has only this document."""

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread
from starlette.responses import Response

from btmd import __version__
from btmd.api.answers import described, json_answer
from btmd.api.audit import VERIFIED_EXAMPLE, audit_document, audited
from btmd.api.job_examples import FORECAST_TEXTS_EXAMPLE, SCORE_EXAMPLE, VERDICT_EXAMPLE
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import JOB, Permission, role_of
from btmd.api.shapes import anything, keyed, missing, no, null_or, nullable, one_of, optional
from btmd.api.times import optional_rfc3339, rfc3339
from btmd.audit.job_report import Streams, job_report
from btmd.domain import dataset, model, ownership, settings, use
from btmd.domain.access import ADMIN
from btmd.domain.event import Actor
from btmd.domain.job import ENDED
from btmd.domain.job import stream_name as job_stream
from btmd.domain.job_events import JobSubmitted
from btmd.errors import BtmdError, JobNotFound
from btmd.jobs.outcome import job_result
from btmd.jobs.report import result_folder
from btmd.naming import find_job
from btmd.projections.job import JobRow
from btmd.store.event_log import Store
from btmd.store.reader import last_version, read_stream
from btmd.store.recorded import Recorded

router = Router(prefix="/audit", tags=("audit",))

FORMAT = 1
SURROUNDINGS = (
    "The trainer is a process of its own under the daemon's user, with the libraries' access to hubs switched off."
    " The log does not tell how far the machine kept it from the network: the unit of the service and the machine's"
    " own records do."
)
_BY = {"uid": 1000, "name": "ada"}
_TOLD = {"event": 10, "at": "2026-11-22T14:00:00.000000Z", "by": _BY}
_EVENT = keyed({"type": anything("ThingShared"), **_TOLD})
"""Of what stands in an event, the most; the fields depend on its type."""
_CONSENT = {"scopes": ["train"], "purpose": "our help desk", "event": nullable(7)}
_FIGURES = keyed({"held_out_after": anything(1.4)})
_FILE = {"path": "adapter_model.safetensors", "size_bytes": 19_500_000, "sha256": "9f86d081884c7d65..."}
EXAMPLE = {
    "report": FORMAT,
    "made": {"at": "2026-11-22T16:00:00.000000Z", "by": _BY, "btmd": __version__},
    "store_id": "0f3b5c7d9e1a2b4c",
    "job": {
        "job_id": "k3q7zv2m5a",
        "name": "help desk",
        "description": "",
        "preset": "quick_test",
        "asked": _TOLD,
        "ended": nullable(_TOLD),
        "owners": [_EVENT],
    },
    "model": {
        "model_id": "smollm2",
        "added": nullable(_TOLD),
        "name": optional("SmolLM2"),
        "architecture": optional("LlamaForCausalLM"),
        "parameters": optional(134_515_008),
        "dtype": optional("bfloat16"),
        "size_bytes": optional(269_060_552),
        "license": optional("apache-2.0"),
        "quantised": optional(""),
        "fingerprint": "be01c1439c3d3126...",
        "files": keyed({"model.safetensors": "9f86d081884c7d65..."}),
        "hashed": nullable(_TOLD),
        "verified": [_EVENT],
    },
    "dataset": {
        "dataset_id": "faq",
        "version_id": "0a1b2c3d4e5f6071",
        "rows_sha256": "2d7243faa3e5a560...",
        "anonymised": False,
        "versions": [
            {
                "version_id": "0a1b2c3d4e5f6071",
                "made": "add",
                "rows": 500,
                "size_bytes": 45_000,
                "source_sha256": "b5bb9d8014a0f9b1...",
                "rows_sha256": "2d7243faa3e5a560...",
                "changes": keyed({"rows_added": anything(12)}),
                **_TOLD,
            }
        ],
        "name": optional("faq"),
        "source_name": optional("faq.jsonl"),
        "added": nullable(_TOLD),
    },
    "consent": {
        "when_asked": _CONSENT,
        "now": _CONSENT,
        "history": [
            {
                "type": "ConsentGranted",
                "purpose": optional("our help desk"),
                "scopes": optional(["train"]),
                **_TOLD,
            }
        ],
    },
    "personal_data": [{"rows_affected": 2, "kinds": keyed({"email": 2}), **_TOLD}],
    "plan": {
        "values": keyed({"seed": {"value": anything(42), "source": "setting", "reason": "..."}}),
        "notes": ["..."],
        "preset_reason": "It was asked for.",
        "overrides": keyed({"seed": anything(42)}),
        "allow": no("shorten"),
        "total_steps": nullable(113),
        "train_rows": nullable(450),
        "held_out_rows": nullable(50),
        "seed": nullable(42),
        "device": nullable("cpu"),
        "from_job": null_or("p5xw2jc7qd"),
        "adapter_sha256": null_or("9f86d081884c7d65..."),
        "rerun_of": null_or("p5xw2jc7qd"),
    },
    "settings": [{"key": "training.threads", "value": anything(2), **_TOLD}],
    "forecast": {
        "made": [{"basis": "formula", "texts": FORECAST_TEXTS_EXAMPLE, **_TOLD}],
        "scores": [{**SCORE_EXAMPLE, "inside": True}],
    },
    "attempts": [
        {
            "attempt": 1,
            "why": "first",
            "device": "cpu",
            "ended_at": nullable("2026-11-22T14:06:00.000000Z"),
            "ended": "JobCompleted",
            **_TOLD,
        }
    ],
    "recoveries": [_EVENT],
    "notices": [_EVENT],
    "measurements": [_EVENT],
    "result": nullable(
        {
            "type": one_of("JobCompleted", ("JobCompleted", "JobFailed", "JobCancelled")),
            **_TOLD,
            "ended_by": optional("finished"),
            "best_step": optional(nullable(100)),
            "figures": optional(_FIGURES),
            "steps": optional(nullable(113)),
            "reason": missing("out_of_memory"),
            "text": missing("..."),
            "verdict": nullable(VERDICT_EXAMPLE),
            "summary": "It was worth it: ...",
            "account": no("The training ran out of memory at step 12."),
            "files": [_FILE],
            "files_missing": "",
        }
    ),
    "exports": [_EVENT],
    "chats": {"messages": 3, "by": keyed({"ada": 3})},
    "ticks": {
        "count": 113,
        "first": nullable({"event": 14, "hash": "9f86d081884c7d65..."}),
        "last": nullable({"event": 230, "hash": "60303ae22b998861..."}),
    },
    "events": [
        {
            "event": 10,
            "epoch": 1,
            "stream": "job-k3q7zv2m5a",
            "type": "JobSubmitted",
            "at": "2026-11-22T14:00:00.000000Z",
            "by": _BY,
            "hash": "9f86d081884c7d65...",
        }
    ],
    "surroundings": SURROUNDINGS,
    "log": VERIFIED_EXAMPLE,
}


@operation(router, "GET", "/jobs/{job_id}", Permission.SEE, JOB, **described(EXAMPLE, errors=(404,)))
async def report(job_id: str, parts: Parts, actor: Actor) -> Response:
    """Who asked for a job, with which model, data, consent, plan and settings, what came of it and who took it away.

    With the numbers and hashes of the events that say so, and whether the whole log is the one that was written. Of a
    deleted job its full id is needed. No text of any row is in it.
    """
    row, streams = await _found(job_id, parts, actor)
    body = job_report(streams)
    if body["result"] is not None:
        body["result"] |= await _beside_the_log(row, parts)
    whole = {
        "report": FORMAT,
        "made": {"at": rfc3339(parts.clock()), "by": {"uid": actor.uid, "name": actor.name}, "btmd": __version__},
        "store_id": parts.store.store_id,
        **_with_times(body),
        "surroundings": SURROUNDINGS,
        "log": audit_document(await audited(parts)),
    }
    return json_answer(whole)


async def _found(job_id: str, parts: Parts, actor: Actor) -> tuple[JobRow | None, Streams]:
    """The job's row, None of a deleted one, and what was recorded of it. Raises JobNotFound, Ambiguous."""
    try:
        async with parts.store.session() as session:
            row: JobRow | None = await find_job(session, job_id)
    except JobNotFound:
        row = None
        rows = await parts.store.read_stream(job_stream(job_id[:80]))
        if not rows or not await _may_see(rows, actor, parts):
            raise
    else:
        assert row is not None
        rows = await parts.store.read_stream(job_stream(row.job_id))
    return row, await _streams(rows, parts.store)


async def _may_see(rows: Sequence[Recorded], actor: Actor, parts: Parts) -> bool:
    submitted = rows[0].event
    owned = isinstance(submitted, JobSubmitted) and submitted.owner_uid == actor.uid
    return owned or await role_of(actor, parts) == ADMIN


async def _streams(rows: Sequence[Recorded], store: Store) -> Streams:
    submitted = rows[0].event
    assert isinstance(submitted, JobSubmitted)
    ticks = f"ticks-{submitted.job_id}"
    first = await store.read(streams=(ticks,), limit=1)
    last = await store.query(lambda connection: _newest_tick(connection, ticks))
    owners = [
        one
        for one in await store.read_stream(ownership.STREAM)
        if (one.data.get("kind"), one.data.get("thing_id")) == ("job", submitted.job_id)
    ]
    return Streams(
        job=rows,
        use=await store.read_stream(use.stream_name(submitted.job_id)),
        dataset=await store.read_stream(dataset.stream_name(submitted.dataset_id)),
        model=await store.read_stream(model.stream_name(submitted.model_id)),
        settings=await store.read_stream(settings.STREAM),
        ownership=owners,
        tick_count=last[0].version if last else 0,
        ticks=(*first, *last),
    )


def _newest_tick(connection: sqlite3.Connection, stream: str) -> list[Recorded]:
    version = last_version(connection, stream)
    return read_stream(connection, stream, version - 1) if version else []


async def _beside_the_log(row: JobRow | None, parts: Parts) -> dict[str, Any]:
    """The verdict in words, and the hashes that the result's files have just now."""
    told: dict[str, Any] = {"verdict": None, "summary": "", "account": [], "files": [], "files_missing": ""}
    if row is None:
        return told | {"files_missing": "The job was deleted, and its files with it."}
    if row.state not in ENDED:
        return told
    found = await job_result(parts.store, row, parts.config.jobs_dir)
    told |= {"verdict": found.verdict, "summary": found.performance_summary, "account": found.account}
    folder = result_folder(row, parts.config.jobs_dir)
    if folder is None:
        return told
    try:
        return told | {"files": await anyio.to_thread.run_sync(_hashed, folder)}
    except BtmdError as error:
        return told | {"files_missing": error.detail.replace(str(folder), "of the result")}


def _hashed(folder: Path) -> list[dict[str, Any]]:
    """Name, size in bytes and SHA-256 of the files of a result. Raises FileMissing."""
    from btmd.inspection.hashes import hash_files

    hashes = hash_files(folder, lambda share, text: None).files
    return [{"path": name, "size_bytes": (folder / name).stat().st_size, "sha256": hashes[name]} for name in hashes]


def _with_times(value: Any) -> Any:
    """The same with every ``..._us`` as RFC 3339, under its name without that."""
    if isinstance(value, Mapping):
        return {
            name.removesuffix("_us"): optional_rfc3339(one or None) if name.endswith("_us") else _with_times(one)
            for name, one in value.items()
        }
    if isinstance(value, list | tuple):
        return [_with_times(one) for one in value]
    return value
