"""Which column is what: a few rows as a mapping would make them, before a dataset is added with it."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from btmd.api.answers import Progress, described, working_answer
from btmd.api.dataset_documents import UploadedData
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import Permission
from btmd.api.shapes import missing, optional
from btmd.domain.event import Actor
from btmd.registry.sources import Source

router = Router(prefix="/datasets", tags=("datasets",))

_MESSAGES = [{"role": "user", "content": "Where is it?"}]
EXAMPLE = {
    "rows": [
        {
            "line": 1,
            "messages": optional(_MESSAGES),
            "rejected": missing(_MESSAGES),
            "text": missing("Where is it?"),
            "split": missing("train"),
        }
    ],
    "layout": "mapped",
}


class MappingPreview(UploadedData):
    """An uploaded content, and which column is to be what."""

    mapping: Annotated[dict[str, str], Meta(max_length=100)] = msgspec.field(default_factory=dict)


@operation(router, "POST", "/mapping-preview", Permission.TRAIN, **described(EXAMPLE, errors=(400, 404), progress=True))
async def preview_mapping(body: MappingPreview, request: Request, parts: Parts, actor: Actor) -> Response:
    """The first rows with their text, shortened. Nothing of it is kept, and the content is removed again."""

    async def work(progress: Progress) -> dict[str, Any]:
        shown = await parts.dataset_adding.mapped_rows(
            Source(body.content, body.file_name, body.mapping, folder=body.folder), actor
        )
        return {"rows": list(shown.rows), "layout": shown.layout}

    return await working_answer(request, work, parts.stopping)
