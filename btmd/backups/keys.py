"""The keys of the backups: what opens them besides this machine's key file, and changing that."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from btmd.backup.requests import (
    ConfirmRecoveryRequest,
    KeysAnswer,
    KeysRequest,
    PassphraseRequest,
    RenewKeyFileRequest,
    Request,
    RotateRequest,
    ShowRecoveryRequest,
)
from btmd.backups.child import BackupChild
from btmd.backups.keeper import Backups
from btmd.child.caller import OnProgress, ignore_progress
from btmd.command_handler import CommandHandler
from btmd.domain.backup import STREAM, BackupsState, KeyAction, RecordKeyAction
from btmd.domain.event import Actor
from btmd.errors import InvalidValue
from btmd.store.event_log import IdempotencyKey, Store


class Asking(Struct, frozen=True):
    """Who asks, and how the answer is kept for the same request again."""

    actor: Actor
    idempotency: IdempotencyKey | None = None
    respond: Callable[[KeysAnswer], bytes] | None = None


class BackupKeys:
    """Changes the key ring and records that it was done, never what the keys are.

    Each change returns None where an earlier request with the same idempotency key did it. All raise PartMissing where
    the key file is gone, WrongKey, Damaged, Tampered, BackupFolderUnusable.
    """

    def __init__(self, *, store: Store, handler: CommandHandler, child: BackupChild, backups: Backups) -> None:
        self._store, self._handler, self._child, self._backups = store, handler, child, backups

    async def show(self) -> KeysAnswer:
        """What opens the backups; nothing before the first one, as looking makes no keys."""
        async with self._child.turn:
            return await self._child.ask(KeysRequest(**self._place), KeysAnswer)

    async def state(self) -> BackupsState:
        state, _ = await self._handler.state(STREAM)
        return state or BackupsState()

    async def show_recovery(self, asking: Asking) -> KeysAnswer | None:
        """A new recovery key, which is kept nowhere; an earlier one opens nothing any more."""
        return await self._change(ShowRecoveryRequest(**self._place), "shown", asking)

    async def confirm_recovery(self, recovery_key: str, asking: Asking) -> KeysAnswer | None:
        """Somebody typed it back. Raises RecoveryKeyMistyped."""
        request = ConfirmRecoveryRequest(**self._place, recovery_key=recovery_key)
        return await self._change(request, "confirmed", asking)

    async def rotate(self, asking: Asking, on_progress: OnProgress = ignore_progress) -> KeysAnswer | None:
        """New keys for what comes, after a backup under the old ones that was read through again."""
        if asking.idempotency is None or await self._store.earlier(asking.idempotency) is None:
            await self._backups.create_before("key rotation", actor=asking.actor, on_progress=on_progress)
        return await self._change(RotateRequest(**self._place), "rotated", asking)

    async def set_passphrase(self, passphrase: str, asking: Asking) -> KeysAnswer | None:
        """Raises InvalidValue for one that is too short."""
        request = PassphraseRequest(**self._place, passphrase=passphrase)
        return await self._change(request, "passphrase_set", asking)

    async def renew_key_file(
        self, recovery_key: str, passphrase: str, asking: Asking, *, anew: bool = False
    ) -> KeysAnswer | None:
        """A new key file where the old one is lost or damaged; ``anew``: other keys, where no secret is left.

        Raises RecoveryKeyMistyped, InvalidValue.
        """
        if [bool(recovery_key), bool(passphrase), anew].count(True) != 1:
            raise InvalidValue("Give exactly one of recovery_key, passphrase and anew.")
        if anew:
            return await self._change(RenewKeyFileRequest(**self._place, anew=True), "begun_anew", asking)
        request = RenewKeyFileRequest(**self._place, recovery_key=recovery_key, passphrase=passphrase)
        return await self._change(request, "key_file_renewed", asking)

    @property
    def _place(self) -> dict[str, Any]:
        return self._child.place(self._backups.known.own_folder)

    async def _change(self, request: Request, action: KeyAction, asking: Asking) -> KeysAnswer | None:
        async with self._child.turn:
            if asking.idempotency is not None and await self._store.earlier(asking.idempotency) is not None:
                return None
            answer = await self._child.ask(request, KeysAnswer)
            respond = asking.respond
            await self._handler.handle(
                RecordKeyAction(action, answer.unreached),
                actor=asking.actor,
                idempotency=asking.idempotency,
                respond=None if respond is None else lambda state, rows: respond(answer),
            )
            return answer
