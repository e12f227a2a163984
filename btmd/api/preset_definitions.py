"""Preset definitions: those that come with btmd, own ones, and the history of each of these."""

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from msgspec.structs import asdict
from starlette.responses import PlainTextResponse, Response

from btmd.api import presets
from btmd.api.answers import described, json_answer
from btmd.api.idempotency import Key, stored_answer
from btmd.api.operation import Router, operation
from btmd.api.paging import PAGE, Before, Limit
from btmd.api.parts import Parts
from btmd.api.permission import PRESET, Permission, require_own, role_of
from btmd.api.shapes import anything, either, nullable, one_of
from btmd.api.times import rfc3339
from btmd.domain.access import ADMIN
from btmd.domain.event import Actor
from btmd.domain.preset_definition import (
    DeletePreset,
    PresetCommand,
    PresetState,
    SavePreset,
    UndoPreset,
    stream_name,
    values_of,
)
from btmd.errors import InvalidValue, NotPermitted
from btmd.presets.catalogue import OWN
from btmd.presets.history import PresetChange, change_of_preset, changes_of_preset
from btmd.presets.reading import MAX_PRESET_BYTES, parse_preset, preset_of, require_key
from btmd.presets.text import rendered
from btmd.projections.preset import own_preset
from btmd.store.recorded import Recorded

router = Router(prefix="/preset-definitions", tags=("presets",))

EXAMPLE = {name: value for name, value in presets.EXAMPLE.items() if name != "verdict"}
OWN_EXAMPLE = {
    **EXAMPLE,
    "key": "mine",
    "name": "Mine",
    "origin": one_of("own", ("built-in", "own")),
    "version": 2,
    "made_from": "quick_test",
}
SAVED_EXAMPLE = {"number": nullable(17), "changed": ["num_epochs"], "preset": nullable(OWN_EXAMPLE)}
DELETED_EXAMPLE = {"message": "The preset mine is deleted; ...", "number": nullable(18)}
TOML = "application/toml"
WHY = Meta(max_length=1000, description="the reason, kept with the change")


class PresetWriting(msgspec.Struct):
    """Values by name, over those of ``made_from``, else over those that the preset has.

    ``must_be_new`` refuses a key that is taken, ``expected_version`` one that was changed since it was looked at.
    """

    made_from: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    values: Annotated[dict[str, Any], Meta(max_length=100)] = {}
    why: Annotated[str, Meta(max_length=1000)] = ""
    must_be_new: bool = False
    expected_version: Annotated[int, Meta(ge=0)] | None = None


class PresetFile(msgspec.Struct):
    """A preset as the text of a TOML file. An own one with its key is only replaced with ``replace``."""

    text: Annotated[str, Meta(max_length=MAX_PRESET_BYTES)]
    source: Annotated[str, Meta(max_length=255)] = "the file"
    why: Annotated[str, Meta(max_length=1000)] = ""
    replace: bool = False
    key: Annotated[str, Meta(max_length=64)] | None = None
    expected_version: Annotated[int, Meta(ge=0)] | None = None


class PresetUndo(msgspec.Struct):
    """``number``: the change to take back, the newest when left out."""

    number: Annotated[int, Meta(ge=1, le=2**62)] | None = None
    why: Annotated[str, Meta(max_length=1000)] = ""
    force: bool = False


def own_json(state: PresetState) -> dict[str, Any] | None:
    """An own preset with what is known of it; None for one that was deleted."""
    if state.preset is None:
        return None
    return {**asdict(state.preset), "origin": OWN, "version": state.version, "made_from": state.made_from}


def change_json(change: PresetChange) -> dict[str, Any]:
    """A change; the values that it differs in, none where it made or deleted the preset."""
    return {
        "number": change.number,
        "recorded_at": rfc3339(change.recorded_at_us),
        "wall_at": rfc3339(change.wall_at_us),
        "actor": {"uid": change.actor.uid, "name": change.actor.name},
        "why": change.why,
        "what": change.what,
        "changes": [{"key": name, "before": before, "after": after} for name, before, after in change.differences],
    }


@operation(router, "GET", "", Permission.READ, **described([EXAMPLE]))
async def preset_definitions(
    parts: Parts,
    origin: Annotated[str, Meta(pattern="^(built-in|own)$")] | None = None,
    limit: Limit = PAGE,
    after: Annotated[str, Meta(max_length=200, description="only those behind the one with this key")] | None = None,
) -> Response:
    """The presets there are, whether they fit this machine or not; `origin` (built-in, own) gives those alone.

    Those that come with btmd are first, then own ones by their keys; `after` goes on behind one.
    """
    found = (await parts.presets.behind(after)).values()
    told = [{**asdict(one), "origin": parts.presets.origin(one.key)} for one in found]
    return json_answer([one for one in told if origin in (None, one["origin"])][:limit])


@operation(router, "POST", "", Permission.TRAIN, **described(SAVED_EXAMPLE, errors=(409,)))
async def import_preset(body: PresetFile, idempotency: Key, parts: Parts, actor: Actor) -> Response:
    """Take a preset from the text of a file. Its key, not the file's name, says which one it is."""
    preset = parse_preset(body.text, body.source)
    if body.key is not None and preset.key != body.key:
        raise InvalidValue(
            f"The key of a preset cannot be changed: this is {body.key}, not {preset.key}.",
            hint=f"`btmctl presets create {preset.key} --from {body.key}` makes another one.",
        )
    if body.replace:
        await require_own(PRESET, preset.key, actor, parts)
    command = SavePreset(preset, "", body.why, not body.replace, body.expected_version)
    return await _save(idempotency, parts, actor, command)


@operation(router, "GET", "/{key}", Permission.READ, **described(either(OWN_EXAMPLE, EXAMPLE), errors=(404,)))
async def preset_definition(key: str, parts: Parts) -> Response:
    """One preset, by key or display name."""
    preset = await parts.presets.find(key)
    origin = parts.presets.origin(preset.key)
    if origin == OWN:
        state, _ = await parts.handler.state(stream_name(preset.key))
        own = own_json(state)
        if own is not None:
            return json_answer(own)
    return json_answer({**asdict(preset), "origin": origin})


@operation(router, "PUT", "/{key}", Permission.OWN, PRESET, **described(SAVED_EXAMPLE, errors=(404, 409)))
async def write_preset(key: str, body: PresetWriting, idempotency: Key, parts: Parts, actor: Actor) -> Response:
    """Make an own preset, or change values of one. One that comes with btmd is never changed."""
    parts.presets.require_own(key)
    require_key(key)
    base: dict[str, Any] = {}
    made_from = ""
    if body.made_from is not None:
        source = await parts.presets.find(body.made_from)
        made_from = source.key
        base = {**values_of(source), "name": key.replace("_", " ").replace("-", " ").title()}
    else:
        state, _ = await parts.handler.state(stream_name(key))
        if state is not None and state.preset is not None:
            base = values_of(state.preset)
    if body.values.get("key", key) != key:
        raise InvalidValue("The key of a preset cannot be changed.", hint="`btmctl presets create` makes another one.")
    preset = preset_of({**base, **body.values, "key": key})
    command = SavePreset(preset, made_from, body.why, body.must_be_new, body.expected_version)
    return await _save(idempotency, parts, actor, command)


@operation(router, "DELETE", "/{key}", Permission.OWN, PRESET, **described(DELETED_EXAMPLE, errors=(404, 409)))
async def delete_preset(
    key: str, idempotency: Key, parts: Parts, actor: Actor, why: Annotated[str, WHY] = ""
) -> Response:
    """Delete an own preset; its history stays, and an undo gives it back. Jobs have values of their own already."""
    parts.presets.require_own(key)

    def answer(state: PresetState, rows: list[Recorded]) -> dict[str, Any]:
        return {
            "message": f"The preset {key} is deleted; `btmctl presets undo {key}` gives it back.",
            "number": rows[-1].seq if rows else None,
        }

    return await _handled(idempotency, parts, actor, DeletePreset(key, why), answer)


@operation(
    router, "GET", "/{key}/file", Permission.READ, **described(text="a TOML file", errors=(404,), media_type=TOML)
)
async def export_preset(key: str, parts: Parts) -> Response:
    """A preset as the text of a file that an import takes."""
    return PlainTextResponse(rendered(await parts.presets.find(key)), media_type=TOML)


CHANGE_EXAMPLE = {
    "number": 17,
    "recorded_at": "2026-11-22T14:00:00.000000Z",
    "wall_at": "2026-11-22T14:00:00.000000Z",
    "actor": {"uid": 1000, "name": "ada"},
    "why": "longer",
    "what": "changed",
    "changes": [{"key": "num_epochs", "before": anything(1), "after": anything(3)}],
}


@operation(
    router, "GET", "/{key}/history", Permission.READ, **described([CHANGE_EXAMPLE], text="newest first", errors=(404,))
)
async def preset_history(key: str, parts: Parts, limit: Limit = PAGE, before: Before = None) -> Response:
    """The changes of an own preset: who, when, why, and what differs; of a deleted one too; older with `before`."""
    parts.presets.require_own(key)
    await change_of_preset(parts.store, key, None)
    found = await changes_of_preset(parts.store, key)
    return json_answer([change_json(one) for one in found if before is None or one.number < before][:limit])


@operation(
    router,
    "POST",
    "/{key}/undo",
    Permission.OWN,
    PRESET,
    **described({**SAVED_EXAMPLE, "undone": CHANGE_EXAMPLE}, errors=(404, 409)),
)
async def undo_preset(
    key: str, idempotency: Key, parts: Parts, actor: Actor, body: PresetUndo | None = None
) -> Response:
    """Take a change of an own preset back: a creation, a change, a deletion, or an undo.

    Values that were changed again since are refused, unless `force` is true. What was deleted goes back to its owner,
    who can do it, or an admin.
    """
    parts.presets.require_own(key)
    await _require_was_own(key, actor, parts)
    body = body or PresetUndo()
    undone = await change_of_preset(parts.store, key, body.number)
    command = UndoPreset(key, undone.number, undone.before, undone.after, body.why, body.force)
    return await _handled(
        idempotency,
        parts,
        actor,
        command,
        lambda state, rows: {**_saved(state, rows), "undone": change_json(undone)},
    )


async def _require_was_own(key: str, actor: Actor, parts: Parts) -> None:
    """Raises NotPermitted for one that was deleted and was somebody else's."""
    async with parts.store.session() as session:
        gone = await own_preset(session, key, deleted=True)
    if gone is not None and gone.owner_uid != actor.uid and await role_of(actor, parts) != ADMIN:
        raise NotPermitted(
            f"The preset {key} belonged to somebody else.",
            hint="They or an admin can give it back; one of the same name can be made anew.",
        )


async def _save(idempotency: Key, parts: Parts, actor: Actor, command: SavePreset) -> Response:
    parts.presets.require_own(command.preset.key)
    await parts.presets.require_free_name(command.preset)
    return await _handled(idempotency, parts, actor, command, _saved)


async def _handled(
    idempotency: Key,
    parts: Parts,
    actor: Actor,
    command: PresetCommand,
    answer: Callable[[PresetState, list[Recorded]], dict[str, Any]],
) -> Response:
    handled = await parts.handler.handle(
        command,
        actor=actor,
        correlation_id=parts.new_id(),
        idempotency=idempotency,
        respond=lambda state, rows: stored_answer(answer(state, rows)),
    )
    return json_answer(answer(handled.state, handled.events))


def _saved(state: PresetState, rows: list[Recorded]) -> dict[str, Any]:
    """``number`` is the one that the change is found and undone by; None where nothing changed."""
    changed: list[str] = []
    if rows:
        data = rows[-1].data
        before, after = data.get("before") or {}, data.get("after") or data.get("preset") or {}
        changed = [name for name in after or before if before.get(name) != after.get(name)]
    return {"number": rows[-1].seq if rows else None, "changed": changed, "preset": own_json(state)}
