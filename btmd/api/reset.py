"""Factory resets: previewed, never without a proved backup, and undone again."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from msgspec.structs import asdict
from starlette.requests import Request
from starlette.responses import Response

from btmd.api.answers import Progress, described, json_answer, working_answer
from btmd.api.idempotency import Key, kept_or, once, stored_answer
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import Permission
from btmd.api.restores import RESTORED_EXAMPLE
from btmd.api.shapes import either, typed
from btmd.api.work import heard
from btmd.backup.requests import ArtefactProblem
from btmd.domain.event import Actor
from btmd.domain.restore import COMPONENTS
from btmd.domain.units import format_count
from btmd.restoring.erasure import Part
from btmd.restoring.factory_reset import Preview, Reset, UndoPreview

router = Router(prefix="/reset", tags=("backups",))

EXAMPLE: dict[str, Any] = {
    "message": "Everything is as at the first start; datasets, models, jobs and own presets stay.",
    "preserve_user_data": True,
    "dry_run": False,
    "backup_id": "9f86d081884c7d65",
    "reset_id": "f21c6cfbcd",
    "changes": [RESTORED_EXAMPLE],
    "left_alone": ["access: ada stays"],
    "undo_seq": 57,
}
PART_EXAMPLE = typed(Part, {"what": "adapters", "count": 2, "size_bytes": 9_400_000, "then": ""})
PREVIEW_EXAMPLE = {
    "message": "Nothing was changed.",
    "preserve_user_data": True,
    "dry_run": True,
    **typed(
        Preview,
        {
            "changes": [RESTORED_EXAMPLE],
            "left_alone": [],
            "erased": [PART_EXAMPLE],
            "not_held": [PART_EXAMPLE],
            "backup_bytes": 9_600_000,
            "free_bytes": 120_000_000_000,
            "waits_for": [{"job_id": "k3q7zv2m5a", "state": "training"}],
        },
    ),
}


class FactoryResetBody(msgspec.Struct):
    """``dry_run`` only says what would go and what the backup before the reset would not hold."""

    preserve_user_data: bool = True
    dry_run: bool = False


@operation(
    router, "POST", "", Permission.ADMIN, **described(either(EXAMPLE, PREVIEW_EXAMPLE), errors=(409,), progress=True)
)
async def reset(
    request: Request, key: Key, parts: Parts, actor: Actor, body: FactoryResetBody | None = None
) -> Response:
    """Back to the defaults, after a backup that was read through. JSON lines where they are accepted.

    With user data erased, that backup holds the contents of datasets and the adapters too; without room for it nothing
    is done. `POST /reset/undo` brings all of it back.
    """
    asked = body or FactoryResetBody()
    preserve = asked.preserve_user_data
    if asked.dry_run:
        preview = await parts.factory_reset.preview(preserve, actor.uid)
        message = "Nothing was changed."
        return json_answer({"message": message, "preserve_user_data": preserve, "dry_run": True, **asdict(preview)})

    async def work(progress: Progress) -> dict[str, Any]:
        async with heard(progress) as on_progress:
            done = await parts.factory_reset.reset(
                preserve,
                actor=actor,
                on_progress=on_progress,
                idempotency=key,
                respond=lambda done: stored_answer(_reset_json(done, preserve)),
            )
        return await kept_or(parts, key, _reset_json(done, preserve))

    return await working_answer(request, work, parts.stopping)


UNDONE_EXAMPLE: dict[str, Any] = {
    "message": "The factory reset is undone: 3 changes, 5 files.",
    "dry_run": False,
    "changes": [RESTORED_EXAMPLE],
    "left_alone": ["datasets: faq is there again already"],
    "files": 5,
    "problems": [typed(ArtefactProblem, {"name": "adapter_model.safetensors", "code": "damaged", "detail": "..."})],
    "components": COMPONENTS,
    "undo_seq": 61,
}
UNDO_PREVIEW_EXAMPLE = {
    "message": "Nothing was changed.",
    "dry_run": True,
    **typed(
        UndoPreview,
        {
            "reset_id": "f21c6cfbcd",
            "backup_id": "9f86d081884c7d65",
            "changes": [RESTORED_EXAMPLE],
            "left_alone": [],
            "files": 5,
            "files_bytes": 9_400_000,
            "expected_head": 61,
        },
    ),
}


class ResetUndo(msgspec.Struct):
    """``dry_run`` only says what would change; its ``expected_head`` makes the undo do that or nothing."""

    dry_run: bool = False
    expected_head: Annotated[int, Meta(ge=0, le=2**62)] | None = None


@operation(
    router,
    "POST",
    "/undo",
    Permission.ADMIN,
    **described(either(UNDONE_EXAMPLE, UNDO_PREVIEW_EXAMPLE), errors=(404, 409), progress=True),
)
async def undo_reset(request: Request, key: Key, parts: Parts, actor: Actor, body: ResetUndo | None = None) -> Response:
    """Bring back what the newest factory reset took away, files included; what was added since stays.

    A value that was changed since gets the one from before the reset: `dry_run` shows each. A restore of `components`
    to `undo_seq` takes it back.
    """
    asked = body or ResetUndo()

    async def work(progress: Progress) -> dict[str, Any]:
        async with heard(progress) as on_progress:
            if asked.dry_run:
                preview = await parts.factory_reset.preview_undo(actor.uid, on_progress)
                return {"message": "Nothing was changed.", "dry_run": True, **asdict(preview)}
            done = await parts.factory_reset.undo(
                actor=actor, expected_head=asked.expected_head, on_progress=on_progress
            )
        return {
            "message": f"The factory reset is undone: {format_count(len(done.changes), 'change')}, "
            f"{format_count(done.files, 'file')}.",
            "dry_run": False,
            "changes": [asdict(one) for one in done.changes],
            "left_alone": done.left_alone,
            "files": done.files,
            "problems": msgspec.to_builtins(done.problems),
            "components": COMPONENTS,
            "undo_seq": done.undo_seq,
        }

    answered = work if asked.dry_run else once(parts, actor, key, work)
    return await working_answer(request, answered, parts.stopping)


def _reset_json(done: Reset, preserve_user_data: bool) -> dict[str, Any]:
    kept = "datasets, models, jobs and own presets stay" if preserve_user_data else "user data is erased"
    return {
        "message": f"Everything is as at the first start; {kept}. The backup {done.backup_id} holds what was.",
        "preserve_user_data": preserve_user_data,
        "dry_run": False,
        "reset_id": done.reset_id,
        "backup_id": done.backup_id,
        "changes": [asdict(one) for one in done.changes],
        "left_alone": done.left_alone,
        "undo_seq": done.undo_seq,
    }
