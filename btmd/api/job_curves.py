"""The course of a training, for plots."""

from typing import Annotated

from msgspec import Meta
from starlette.responses import Response

from btmd.api.answers import described, json_answer
from btmd.api.jobs import found_job
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import Permission
from btmd.api.shapes import typed
from btmd.monitoring.curves import Curves

router = Router(prefix="/jobs", tags=("jobs",))

EXAMPLE = typed(
    Curves,
    {
        "last_step": 100,
        "total_steps": 100,
        "curves": [
            {
                "key": "loss",
                "title": "training loss",
                "unit": "",
                "step": [50, 100],
                "low": [1.9, 1.4],
                "high": [3.1, 2.0],
                "mean": [2.4, 1.7],
                "values": 100,
                "said": "The training loss fell from 2.4 to 1.7.",
            }
        ],
        "resumed_at": [],
        "thinned": True,
    },
)


@operation(router, "GET", "/{job_id}/curves", Permission.READ, **described(EXAMPLE, errors=(404,)))
async def curves(job_id: str, parts: Parts, points: Annotated[int, Meta(ge=10, le=5000)] = 500) -> Response:
    """Losses, learning rate, speed and memory by step, each in at most about `points` points, and in a sentence.

    A point tells the lowest, the highest and the mean value of the steps after the point before it.
    """
    row = await found_job(parts, job_id)
    return json_answer(await parts.curve_reading.curves(parts.store, row, points))
