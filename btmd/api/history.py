"""The history of the settings: changes, differences between two moments, and who set what."""

from typing import Annotated, Any

from msgspec import Meta
from starlette.responses import Response

from btmd.api.answers import described, json_answer
from btmd.api.operation import Router, operation
from btmd.api.paging import PAGE, Before
from btmd.api.parts import Parts
from btmd.api.permission import Permission
from btmd.api.shapes import either, null_or, nullable
from btmd.api.times import rfc3339
from btmd.domain import settings, settings_schema
from btmd.domain.history import Change, ValueChange, difference
from btmd.projections.settings import changed_settings
from btmd.store.past import Position

router = Router(prefix="/history", tags=("settings",))

AT = Meta(max_length=100, description="a time (RFC 3339, or as a person types it) or the number of an event")
VALUE_EXAMPLE = either(5, 0.5, True, "cpu")
CHANGE_EXAMPLE = {
    "number": 17,
    "recorded_at": "2026-11-22T14:00:00.000000Z",
    "wall_at": "2026-11-22T14:00:00.000000Z",
    "actor": {"uid": 1000, "name": "ada"},
    "why": "a larger disk",
    "changes": [{"key": "checkpoints.keep", "before": null_or(VALUE_EXAMPLE), "after": nullable(VALUE_EXAMPLE)}],
}
LISTED_EXAMPLE = {**CHANGE_EXAMPLE, "confirm_by": null_or("2026-11-22T14:05:00.000000Z")}


def change_json(change: Change) -> dict[str, Any]:
    """A change; a value of None is the default."""
    return {
        "number": change.number,
        "recorded_at": rfc3339(change.recorded_at_us),
        "wall_at": rfc3339(change.wall_at_us),
        "actor": {"uid": change.actor.uid, "name": change.actor.name},
        "why": change.why,
        "changes": [value_json(one) for one in change.values],
    }


def value_json(one: ValueChange) -> dict[str, Any]:
    return {"key": one.key, "before": one.before, "after": one.after}


def position_json(position: Position) -> dict[str, Any]:
    """A moment of the log; the times are None before the first event."""
    begun = position.recorded_at_us > 0
    return {
        "seq": position.seq,
        "wall_at": rfc3339(position.wall_at_us) if begun else None,
        "recorded_at": rfc3339(position.recorded_at_us) if begun else None,
    }


@operation(router, "GET", "", Permission.READ, **described([LISTED_EXAMPLE], text="newest first"))
async def list_changes(
    parts: Parts,
    key: Annotated[str, Meta(max_length=200)] | None = None,
    limit: Annotated[int, Meta(ge=1, le=10_000)] = PAGE,
    before: Before = None,
) -> Response:
    """Changes of the settings: who, when, from what, to what, why.

    Of one setting with `key`; older ones with `before`, the number of a change. `confirm_by` is when a change is taken
    back that nobody has confirmed yet.
    """
    found = await parts.history.changes(key=key, limit=limit, before=before)
    if key is not None and not found:
        settings_schema.setting(key)
    state, _ = await parts.handler.state(settings.STREAM)
    waiting = {one.change_id: rfc3339(one.deadline_us) for one in (state.unconfirmed if state else ())}
    return json_answer([{**change_json(one), "confirm_by": waiting.get(one.correlation_id or "")} for one in found])


POSITION_EXAMPLE = {
    "seq": 17,
    "wall_at": nullable("2026-11-22T14:00:00.000000Z"),
    "recorded_at": nullable("2026-11-22T14:00:00.000000Z"),
}
DIFF_EXAMPLE = {
    "from": {**POSITION_EXAMPLE, "seq": 3},
    "to": POSITION_EXAMPLE,
    "changes": CHANGE_EXAMPLE["changes"],
}


@operation(router, "GET", "/diff", Permission.READ, **described(DIFF_EXAMPLE, errors=(409,)))
async def diff(
    parts: Parts,
    from_: Annotated[str, Meta(max_length=100, description=AT.description)] = "0",
    to: Annotated[str, AT] = "now",
) -> Response:
    """What differs between two moments; without `from`, between the defaults and the second one."""
    first, second = await parts.history.find(from_), await parts.history.find(to)
    states = [await parts.history.settings_at(one.seq) for one in (first, second)]
    return json_answer(
        {
            "from": position_json(first),
            "to": position_json(second),
            "changes": [value_json(one) for one in difference(states[0].values, states[1].values)],
        }
    )


BLAME_EXAMPLE = {
    "key": "checkpoints.keep",
    "value": VALUE_EXAMPLE,
    "is_default": False,
    "set_by": nullable(CHANGE_EXAMPLE),
}


@operation(router, "GET", "/blame", Permission.READ, **described([BLAME_EXAMPLE]))
async def blame(parts: Parts, key: Annotated[str, Meta(max_length=200)] | None = None) -> Response:
    """For every setting, or one, the change that gave it its present value; None where it was never changed."""
    wanted = settings_schema.SCHEMA if key is None else (settings_schema.setting(key),)
    state, _ = await parts.handler.state(settings.STREAM)
    present = state or settings.SettingsState()
    async with parts.store.session() as session:
        changed = {row.key: row.changed_seq for row in await changed_settings(session)}
    answer = []
    for one in wanted:
        by = await parts.history.change(changed[one.key]) if one.key in changed else None
        answer.append(
            {
                "key": one.key,
                "value": present.get(one.key),
                "is_default": one.key not in present.values,
                "set_by": None if by is None else change_json(by),
            }
        )
    return json_answer(answer)
