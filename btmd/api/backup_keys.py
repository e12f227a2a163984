"""The keys of the backups: what opens them, a recovery key to write down, a passphrase, rotation."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.responses import Response

from btmd.api.answers import described, json_answer
from btmd.api.idempotency import Key, earlier_answer, stored_answer, stored_facts
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import Permission
from btmd.api.shapes import one_of
from btmd.api.times import rfc3339
from btmd.backup.requests import KeysAnswer
from btmd.backups.keys import Asking
from btmd.domain.event import Actor
from btmd.errors import Conflict

router = Router(prefix="/backup-keys", tags=("backups",))

EXAMPLE = {
    "slots": [{"kind": "key_file", "created_at": "2026-11-22T14:00:00.000000Z"}],
    "key_id": "9f86d081884c7d65",
    "recovery_key": one_of("confirmed", ("none", "shown", "confirmed")),
    "passphrase": False,
}
CHANGED_EXAMPLE = {"message": "...", "unreached": ["/media/stick/backups"]}


class RecoveryKey(msgspec.Struct):
    recovery_key: Annotated[str, Meta(min_length=1, max_length=500)]


class Passphrase(msgspec.Struct):
    passphrase: Annotated[str, Meta(min_length=1, max_length=10_000)]


class OtherSecret(msgspec.Struct):
    """Exactly one of them; ``anew``: no secret is left, so other keys are begun with."""

    recovery_key: Annotated[str, Meta(max_length=500)] = ""
    passphrase: Annotated[str, Meta(max_length=10_000)] = ""
    anew: bool = False


@operation(router, "GET", "", Permission.ADMIN, **described(EXAMPLE))
async def show_keys(parts: Parts) -> Response:
    """What opens the backups, never the keys themselves; `recovery_key` is none, shown, or confirmed."""
    answer, state = await parts.backup_keys.show(), await parts.backup_keys.state()
    return json_answer(
        {
            "slots": [{"kind": slot.kind, "created_at": rfc3339(slot.created_at_us)} for slot in answer.slots],
            "key_id": answer.key_id,
            "recovery_key": state.recovery_key,
            "passphrase": state.passphrase,
        }
    )


SHOWN_EXAMPLE = {**CHANGED_EXAMPLE, "recovery_key": "0A1B2-..."}


@operation(router, "POST", "/recovery-key", Permission.ADMIN, **described(SHOWN_EXAMPLE, errors=(409,)))
async def show_recovery_key(key: Key, parts: Parts, actor: Actor) -> Response:
    """A new recovery key to write down; it is shown this once and kept nowhere, and ends an earlier one."""
    answer = await parts.backup_keys.show_recovery(Asking(actor, key, lambda answer: stored_facts({})))
    if answer is None:
        raise Conflict(
            "This was done already: the answer to this Idempotency-Key was a recovery key, which is kept nowhere.",
            hint="Ask with a new Idempotency-Key for another recovery key, which ends that one.",
        )
    message = "Write the recovery key down, then type it back."
    return json_answer({**_changed(answer, message), "recovery_key": answer.recovery_key})


@operation(
    router, "POST", "/recovery-key/confirm", Permission.ADMIN, secret=True, **described(CHANGED_EXAMPLE, errors=(409,))
)
async def confirm_recovery_key(body: RecoveryKey, key: Key, parts: Parts, actor: Actor) -> Response:
    """The recovery key typed back; 422 names the group that is mistyped."""
    message = "This is the recovery key. It opens every backup, here and anywhere else."

    async def change(asking: Asking) -> KeysAnswer | None:
        return await parts.backup_keys.confirm_recovery(body.recovery_key, asking)

    return await _done(key, parts, actor, message, change)


@operation(router, "POST", "/rotate", Permission.ADMIN, **described(CHANGED_EXAMPLE))
async def rotate_keys(key: Key, parts: Parts, actor: Actor) -> Response:
    """New keys for what comes, after a backup; what is there stays readable. Passphrase and recovery key stay valid."""
    message = "New backups are sealed with a new key; the old ones stay readable."
    return await _done(key, parts, actor, message, parts.backup_keys.rotate)


@operation(router, "POST", "/passphrase", Permission.ADMIN, secret=True, **described(CHANGED_EXAMPLE))
async def set_passphrase(body: Passphrase, key: Key, parts: Parts, actor: Actor) -> Response:
    """A passphrase that opens every backup, in place of an earlier one."""
    message = "The passphrase opens every backup, here and anywhere else."

    async def change(asking: Asking) -> KeysAnswer | None:
        return await parts.backup_keys.set_passphrase(body.passphrase, asking)

    return await _done(key, parts, actor, message, change)


@operation(router, "POST", "/key-file", Permission.ADMIN, secret=True, **described(CHANGED_EXAMPLE, errors=(403,)))
async def renew_key_file(body: OtherSecret, key: Key, parts: Parts, actor: Actor) -> Response:
    """A new key file where the old one is lost or damaged, by the recovery key or the passphrase."""
    message = "This machine has a new key file. The old one opens nothing that comes."
    if body.anew:
        message = "New backups are sealed with new keys. Make a recovery key: the earlier one does not open them."

    async def change(asking: Asking) -> KeysAnswer | None:
        return await parts.backup_keys.renew_key_file(body.recovery_key, body.passphrase, asking, anew=body.anew)

    return await _done(key, parts, actor, message, change)


async def _done(
    key: Key,
    parts: Parts,
    actor: Actor,
    message: str,
    change: Callable[[Asking], Awaitable[KeysAnswer | None]],
) -> Response:
    answer = await change(Asking(actor, key, lambda answer: stored_answer(_changed(answer, message))))
    if answer is not None:
        return json_answer(_changed(answer, message))
    earlier = await earlier_answer(parts, key)
    assert earlier is not None
    return earlier


def _changed(answer: KeysAnswer, message: str) -> dict[str, Any]:
    return {"message": message, "unreached": answer.unreached}
