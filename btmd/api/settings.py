"""Settings: what can be changed, and changing it."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from btmd.api.answers import described, json_answer
from btmd.api.history import AT, CHANGE_EXAMPLE, VALUE_EXAMPLE, change_json
from btmd.api.idempotency import Key, stored_answer
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import Permission
from btmd.api.shapes import no, null_or, nullable
from btmd.api.times import rfc3339
from btmd.domain import settings, settings_schema
from btmd.domain.event import Actor
from btmd.domain.settings import ChangeSettings, ConfirmChange, SettingChanged, SettingsState
from btmd.store.recorded import Recorded

router = Router(prefix="/settings", tags=("settings",))

EXAMPLE = {
    "key": "training.seed",
    "value": VALUE_EXAMPLE,
    "default": VALUE_EXAMPLE,
    "is_default": True,
    "type": "whole number",
    "unit": "",
    "allowed": "0 to 2147483647",
    "meaning": "...",
    "needs_restart": False,
}

LONGEST_CONFIRMATION_S = 7 * 24 * 3600
SCHEMA_EXAMPLE = {
    **{name: one for name, one in EXAMPLE.items() if name not in ("value", "is_default")},
    "minimum": nullable(0.0),
    "maximum": nullable(2147483647.0),
    "choices": no("cpu"),
}
_SET = {"number": nullable(17), "changed": ["training.seed"], "settings": [EXAMPLE]}
CHANGED_EXAMPLE = {**_SET, "confirm_by": null_or("2026-11-22T14:05:00.000000Z")}
UNDONE_EXAMPLE = {**_SET, "undone": CHANGE_EXAMPLE}


class SettingsChange(msgspec.Struct):
    """New values by key; null takes the default again. Unconfirmed after ``confirm_s`` seconds, all goes back."""

    changes: Annotated[dict[str, Any], Meta(min_length=1, max_length=200)]
    why: Annotated[str, Meta(max_length=1000)] = ""
    confirm_s: Annotated[float, Meta(gt=0, le=LONGEST_CONFIRMATION_S)] | None = None


async def _state(parts: Parts) -> SettingsState:
    state, _ = await parts.handler.state(settings.STREAM)
    return state or SettingsState()


class Undo(msgspec.Struct):
    """``number``: the change to take back, the newest when left out."""

    number: Annotated[int, Meta(ge=1, le=2**62)] | None = None
    why: Annotated[str, Meta(max_length=1000)] = ""
    force: bool = False


@operation(router, "GET", "", Permission.READ, **described([EXAMPLE], text="every setting"))
async def list_settings(parts: Parts, at: Annotated[str, AT] | None = None) -> Response:
    """Every setting with its value, its default, what is allowed, and what it means; those of a moment with `at`."""
    if at is None:
        state = await _state(parts)
    else:
        state = await parts.history.settings_at((await parts.history.find(at)).seq)
    return json_answer([settings.describe(one, state) for one in settings_schema.SCHEMA])


@operation(router, "GET", "/schema", Permission.READ, **described([SCHEMA_EXAMPLE]))
async def schema(parts: Parts) -> Response:
    """What can be set: name, type, default, unit, range, meaning, and whether it takes a restart."""
    return json_answer([settings_schema.schema_entry(one) for one in settings_schema.SCHEMA])


@operation(router, "POST", "/undo", Permission.ADMIN, **described(UNDONE_EXAMPLE, errors=(404, 409)))
async def undo(key: Key, parts: Parts, actor: Actor, body: Undo | None = None) -> Response:
    """Take a change back: each setting that it changed gets the value it had before.

    An undo is a change like any other, so it can be undone. A setting that was changed again since is refused, unless
    `force` is true.
    """
    body = body or Undo()
    undone = await parts.history.change(body.number)
    await parts.presets.require_choice(undone.before.get("training.preset"))
    command = settings.UndoChange(undone.number, undone.before, undone.after, body.why, body.force)
    keys = [one for one in undone.before if one in settings_schema.BY_KEY]
    handled = await parts.handler.handle(
        command,
        actor=actor,
        correlation_id=parts.new_id(),
        idempotency=key,
        respond=lambda state, rows: stored_answer({**_changed(state, rows, keys), "undone": change_json(undone)}),
    )
    return json_answer({**_changed(handled.state, handled.events, keys), "undone": change_json(undone)})


@operation(router, "GET", "/{key}", Permission.READ, **described(EXAMPLE, text="one setting"))
async def get_setting(key: str, parts: Parts) -> Response:
    """One setting."""
    return json_answer(settings.describe(settings_schema.setting(key), await _state(parts)))


@operation(router, "PATCH", "", Permission.ADMIN, **described(CHANGED_EXAMPLE))
async def change_settings(body: SettingsChange, request: Request, parts: Parts, actor: Actor) -> Response:
    """Change several settings at once: all of them or none.

    With `confirm_s` they are taken back after so many seconds, unless `POST /settings/confirm` keeps them.
    """
    await parts.presets.require_choice(body.changes.get("training.preset"))
    change_id = parts.new_id()
    deadline_us = None if body.confirm_s is None else parts.clock() + round(body.confirm_s * 1e6)
    command = ChangeSettings(body.changes, body.why, deadline_us, change_id)
    handled = await parts.handler.handle(command, actor=actor, correlation_id=change_id)
    answer = _changed(handled.state, handled.events, list(body.changes))
    waits = answer["number"] is not None and deadline_us is not None
    return json_answer({**answer, "confirm_by": rfc3339(deadline_us) if waits and deadline_us else None})


class Confirmation(msgspec.Struct):
    """``number``: the change to keep, the newest that waits for it when left out."""

    number: Annotated[int, Meta(ge=1, le=2**62)] | None = None


@operation(
    router, "POST", "/confirm", Permission.ADMIN, **described({"message": "The change stays."}, errors=(404, 409))
)
async def confirm(key: Key, parts: Parts, actor: Actor, body: Confirmation | None = None) -> Response:
    """Keep a change that is taken back otherwise."""
    number = None if body is None else body.number
    change_id = None if number is None else (await parts.history.change(number)).correlation_id or ""
    answer = {"message": "The change stays."}
    await parts.handler.handle(
        ConfirmChange(change_id),
        actor=actor,
        correlation_id=parts.new_id(),
        idempotency=key,
        respond=lambda state, rows: stored_answer(answer),
    )
    return json_answer(answer)


def _changed(state: SettingsState | None, rows: list[Recorded], keys: list[str]) -> dict[str, Any]:
    """``number`` is the one that the change is found and undone by; None where nothing changed."""
    present = state or SettingsState()
    changed = [row for row in rows if isinstance(row.event, SettingChanged)]
    return {
        "number": changed[-1].seq if changed else None,
        "changed": [row.data["key"] for row in changed],
        "settings": [settings.describe(settings_schema.setting(key), present) for key in keys],
    }
