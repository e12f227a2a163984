"""Warnings of a job, as they are shown with it."""

from typing import Any

from btmd.api.parts import Parts
from btmd.api.shapes import anything, keyed, null_or, one_of
from btmd.api.times import optional_rfc3339, rfc3339
from btmd.domain.warning import SEVERITIES
from btmd.jobs.job_progress import job_warnings
from btmd.jobs.warned import ToldWarning
from btmd.projections.job import JobRow, job
from btmd.projections.warning import open_warnings

WARNING_EXAMPLE = {
    "kind": "loss_not_falling",
    "severity": one_of("warning", SEVERITIES),
    "text": "The loss has not fallen for 200 steps.",
    "advice": "A higher learning rate may help.",
    "evidence": keyed({"steps": anything(200)}),
    "attempt": 1,
    "raised_at": "2026-11-22T14:10:00.000000Z",
    "withdrawn_at": null_or("2026-11-22T14:20:00.000000Z"),
}


async def warnings_json(parts: Parts, row: JobRow) -> list[dict[str, Any]]:
    """All warnings of a job, those that hold first; ``withdrawn_at`` is empty for these."""
    return [_as_values(one) for one in await job_warnings(parts.store, row)]


async def present_warnings(parts: Parts) -> list[dict[str, Any]]:
    """What is wrong with any job now."""
    found: list[dict[str, Any]] = []
    async with parts.store.session() as session:
        rows = [await job(session, job_id) for job_id in {one.job_id for one in await open_warnings(session)}]
    for row in rows:
        if row is not None:
            found += [
                {"job_id": row.job_id, **_as_values(one)}
                for one in await job_warnings(parts.store, row)
                if one.row.holds
            ]
    return found


def _as_values(warning: ToldWarning) -> dict[str, Any]:
    row = warning.row
    return {
        "kind": row.kind,
        "severity": row.severity,
        "text": warning.text,
        "advice": warning.advice,
        "evidence": row.evidence,
        "attempt": row.attempt,
        "raised_at": rfc3339(row.raised_us),
        "withdrawn_at": optional_rfc3339(row.withdrawn_us),
    }
