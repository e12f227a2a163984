"""Two trainings side by side."""

from starlette.responses import Response

from btmd.api.answers import described, json_answer
from btmd.api.jobs import found_job
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import Permission
from btmd.api.shapes import typed
from btmd.jobs.outcome import compare_jobs
from btmd.monitoring.comparison import Comparison

router = Router(prefix="/jobs", tags=("jobs",))

EXAMPLE = typed(
    Comparison,
    {
        "job_ids": ["k3q7zv2m5a", "p4w8xk2n7c"],
        "settings": [
            {
                "key": "learning_rate",
                "title": "learning_rate",
                "values": [0.0003, 0.001],
                "texts": ["0.0003", "0.001"],
                "better": None,
            }
        ],
        "figures": [
            {
                "key": "held_out_after",
                "title": "held-out loss after",
                "values": [1.42, 1.3],
                "texts": ["1.4200", "1.3000"],
                "better": 1,
            }
        ],
        "same_rows": True,
        "summary": "Job p4w8xk2n7c came out better: ...",
    },
)


@operation(router, "GET", "/{job_id}/comparison/{other_id}", Permission.READ, **described(EXAMPLE, errors=(404,)))
async def comparison(job_id: str, other_id: str, parts: Parts) -> Response:
    """What two jobs were made with, where that differs, and what came of each."""
    first, second = await found_job(parts, job_id), await found_job(parts, other_id)
    return json_answer(await compare_jobs(parts.store, first, second))
