"""Making the next version of a dataset: once for an idempotency key, with progress, and told with what is different."""

from collections.abc import Awaitable, Callable
from typing import Any, TypedDict

from starlette.requests import Request
from starlette.responses import Response

from btmd.api.answers import Progress, working_answer
from btmd.api.dataset_documents import dataset_json, found_dataset
from btmd.api.idempotency import Key, earlier_facts, stored_facts
from btmd.api.parts import Parts
from btmd.api.user_room import require_room
from btmd.api.work import heard
from btmd.command_handler import Handled, Respond
from btmd.domain.event import Actor
from btmd.projections.dataset import DatasetRow, DatasetVersionRow
from btmd.store.event_log import IdempotencyKey, Recorded

Changes = dict[str, Any]


class Recording(TypedDict):
    """What whoever makes a version needs beside its own wishes."""

    actor: Actor
    on_progress: Callable[[float, str], None]
    idempotency: IdempotencyKey | None
    respond: Respond


Make = Callable[[DatasetRow, DatasetVersionRow, Recording], Awaitable[tuple[bool, Changes]]]
"""Makes a version of the dataset from its newest one: whether there is one now, and what is different."""


async def next_version(
    dataset_id: str,
    request: Request,
    key: Key,
    parts: Parts,
    actor: Actor,
    make: Make,
    *,
    done: str,
    more: Callable[[Changes], dict[str, Any]] = lambda changes: {},
) -> Response:
    """The dataset as it is then, the changes, and under the name ``done`` whether a version was made.

    ``more`` adds to the document. Raises DatasetNotFound, Ambiguous, and what ``make`` raises.
    """
    kept = await earlier_facts(parts, key)
    row, newest = await found_dataset(parts, dataset_id if kept is None else kept["dataset_id"])

    async def work(progress: Progress) -> dict[str, Any]:
        if kept is not None:
            made, changes = kept["made"], kept["changes"]
        else:
            # How much it takes shows when it is made: nobody makes more who is beyond their limit already.
            await require_room(1, actor, parts)
            async with heard(progress) as on_progress:
                recording = Recording(actor=actor, on_progress=on_progress, idempotency=key, respond=_kept)
                made, changes = await make(row, newest, recording)
        dataset = dataset_json(parts, *await found_dataset(parts, row.dataset_id))
        return {done: made, "changes": changes, "dataset": dataset, **more(changes)}

    return await working_answer(request, work, parts.stopping)


def told(handled: Handled) -> tuple[bool, Changes]:
    """Whether a version was recorded, and its changes."""
    return bool(handled.events), _changes(handled.events)


def _kept(state: Any, rows: list[Recorded]) -> bytes:
    return stored_facts({"dataset_id": state.dataset_id, "made": bool(rows), "changes": _changes(rows)})


def _changes(rows: list[Recorded]) -> Changes:
    return dict(rows[-1].data["changes"]) if rows else {}
