"""What a backup child does with keys."""

from btmd.backup.key_ring import KeyRing, passphrase_secret
from btmd.backup.keys import Keys, recovery_secret
from btmd.backup.perform import Progress, keys_of, perform
from btmd.backup.private_files import read_private
from btmd.backup.requests import (
    ConfirmRecoveryRequest,
    EraseKeysRequest,
    KeysAnswer,
    KeysErasedAnswer,
    KeysRequest,
    PassphraseRequest,
    RenewKeyFileRequest,
    Request,
    RotateRequest,
    ShownSlot,
    ShowRecoveryRequest,
)
from btmd.backup.ring_copies import hand_out


def _opened(request: Request) -> tuple[Keys, KeyRing]:
    keys = keys_of(request)
    return keys, keys.open(request.store_id, request.now_us)


def _answer(keys: Keys, ring: KeyRing, *, changed: bool, recovery_key: str = "") -> KeysAnswer:
    slots = tuple(ShownSlot(slot.kind, slot.created_at_us) for slot in ring.slots)
    unreached = hand_out(ring, read_private(keys.ring_path)) if changed else []
    return KeysAnswer(ring.current, slots, tuple(unreached), recovery_key)


@perform.register
def _show(request: KeysRequest, progress: Progress) -> KeysAnswer:
    keys = keys_of(request)
    if not keys.were_made(request.store_id):
        return KeysAnswer("", ())
    return _answer(keys, keys.open(request.store_id, request.now_us, make=False), changed=False)


@perform.register
def _erase_keys(request: EraseKeysRequest, progress: Progress) -> KeysErasedAnswer:
    keys = keys_of(request)
    if not keys.were_made(request.store_id):
        return KeysErasedAnswer(0, ())
    ring = keys.open(request.store_id, request.now_us, make=False)
    erased = keys.erase_dataset(ring, request.dataset_id) if request.dataset_id else 0
    return KeysErasedAnswer(erased, tuple(hand_out(ring, read_private(keys.ring_path))))


@perform.register
def _show_recovery(request: ShowRecoveryRequest, progress: Progress) -> KeysAnswer:
    keys, ring = _opened(request)
    written_down = keys.new_recovery_key(ring, request.now_us)
    return _answer(keys, ring, changed=True, recovery_key=written_down)


@perform.register
def _confirm_recovery(request: ConfirmRecoveryRequest, progress: Progress) -> KeysAnswer:
    keys, ring = _opened(request)
    keys.confirm_recovery_key(ring, request.recovery_key)
    return _answer(keys, ring, changed=True)


@perform.register
def _rotate(request: RotateRequest, progress: Progress) -> KeysAnswer:
    keys, ring = _opened(request)
    keys.rotate(ring, request.now_us)
    return _answer(keys, ring, changed=True)


@perform.register
def _passphrase(request: PassphraseRequest, progress: Progress) -> KeysAnswer:
    keys, ring = _opened(request)
    keys.set_passphrase(ring, request.passphrase, request.now_us)
    return _answer(keys, ring, changed=True)


@perform.register
def _renew_key_file(request: RenewKeyFileRequest, progress: Progress) -> KeysAnswer:
    keys = keys_of(request)
    if request.anew:
        return _answer(keys, keys.begin_anew(request.store_id, request.now_us), changed=True)
    secret = recovery_secret(request.recovery_key) if request.recovery_key else passphrase_secret(request.passphrase)
    ring = keys.open_with(secret, request.store_id, request.now_us)
    keys.renew_key_file(ring, request.now_us)
    return _answer(keys, ring, changed=True)
