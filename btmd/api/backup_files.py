"""The files of a backup, for admins whose folders the daemon may not write to: their own program brings them there."""

from typing import Annotated

import anyio.to_thread
from msgspec import Meta
from starlette.responses import Response

from btmd.api.answers import described, file_answer, json_answer
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import Permission
from btmd.backups.files import files_of, path_of

router = Router(prefix="/backups", tags=("backups",))

EXAMPLE = {
    "backup_id": "9f86d081884c7d65",
    "files": [{"path": "manifests/9f86d081884c7d65...", "size_bytes": 4711}],
    "size_bytes": 4711,
}


@operation(router, "GET", "/{backup_id}/files", Permission.ADMIN, **described(EXAMPLE, errors=(404,)))
async def list_backup_files(backup_id: str, parts: Parts) -> Response:
    """What a whole copy of a backup consists of, in the order in which it is to be written: the manifest last."""
    row = await parts.backups.known.find(backup_id)
    shown = await parts.backups.show(row)
    found = await anyio.to_thread.run_sync(files_of, row, shown.parts)
    return json_answer(
        {
            "backup_id": row.backup_id,
            "files": [{"path": path, "size_bytes": size_bytes} for path, size_bytes in found],
            "size_bytes": sum(size_bytes for _, size_bytes in found),
        }
    )


@operation(
    router,
    "GET",
    "/{backup_id}/files/{path:path}",
    Permission.ADMIN,
    responses={200: {"description": "the file", "content": {"application/octet-stream": {}}}},
    response_model=None,
)
async def fetch_backup_file(
    backup_id: str, path: str, parts: Parts, offset: Annotated[int, Meta(ge=0, le=2**62)] = 0
) -> Response:
    """One file of a backup as it stands in its folder, sealed, from `offset` to its end."""
    row = await parts.backups.known.find(backup_id)
    found = await anyio.to_thread.run_sync(path_of, row, path)
    return await file_answer(found, offset, parts.stopping)
