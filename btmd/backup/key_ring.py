"""The key ring: all keys of one store's backups, in one small file that each backup folder has a copy of.

Backups are sealed with random data keys, each dataset's contents with a key of its own; none of them stands in a
backup. The ring holds them, encrypted with a random ring key that is new each time the ring is written, and this ring
key is sealed once for each *slot*: a key file, a passphrase, a systemd credential, a recovery key. A slot has an X25519
key pair whose private half follows from its secret. So whoever can open the ring can write it anew for all slots
without knowing their secrets, and who held one secret once can open no ring that was written after its slot went.

So that nobody can put a ring of their own in its place, the ring is signed (Ed25519; the signing key is inside it),
and each slot holds an HMAC, made when its secret was known, that vouches for the signing key.

A file is ``MAGIC``, the length (4 bytes, big endian) and JSON of ``RingHead``, the encrypted content, the signature (64
bytes) and the SHA-256 of all before.
"""

import hashlib
import hmac
import os
import struct
import unicodedata
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from btmd.errors import Damaged, InvalidValue, Tampered, WrongKey

MAGIC = b"btmdKR\x00\x01"
ARGON2_MEMORY_KIB = 64 * 1024
ARGON2_PASSES = 3
ARGON2_LANES = 4
MIN_PASSPHRASE_LENGTH = 8
MIN_CREDENTIAL_BYTES = 16

_LENGTH = struct.Struct(">I")
_NONCE = bytes(12)  # each key encrypts one message

SlotKind = Literal["key_file", "passphrase", "credential", "recovery_key"]


class Secret(msgspec.Struct, frozen=True):
    """What a person or a file gives to open a ring."""

    kind: SlotKind
    value: bytes

    def __repr__(self) -> str:
        return f"Secret({self.kind})"


class Slot(msgspec.Struct, frozen=True):
    """The public part of a secret. ``vouch`` binds the ring's signing key to it."""

    kind: SlotKind
    created_at_us: int
    salt: bytes
    public_key: bytes
    vouch: bytes


class SlotSeal(msgspec.Struct, frozen=True):
    """The ring key for one slot: an ephemeral public key and the sealed key."""

    ephemeral: bytes
    sealed: bytes


class RingHead(msgspec.Struct, frozen=True):
    """What stands in the file unencrypted."""

    store_id: str
    generation: int
    signer: bytes
    slots: list[Slot]
    seals: list[SlotSeal]


class DataKey(msgspec.Struct, frozen=True):
    key: bytes
    created_at_us: int
    dataset_id: str | None = None

    def __repr__(self) -> str:
        return f"DataKey({key_id_of(self.key)})"


class KeyRing(msgspec.Struct):
    """The opened ring. ``keys`` by key id; ``current`` seals what is new; ``erased`` ids are gone on purpose.

    ``folders``: the backup folders that were given a copy.
    """

    store_id: str
    generation: int
    signing_key: bytes
    current: str
    keys: dict[str, DataKey]
    slots: list[Slot]
    erased: dict[str, str] = msgspec.field(default_factory=dict)
    """Key id to the dataset it was for."""
    folders: list[str] = msgspec.field(default_factory=list)
    recovery_confirmed: bool = False

    def __repr__(self) -> str:
        return f"KeyRing({self.store_id}, generation {self.generation})"

    @property
    def opening_keys(self) -> dict[str, bytes]:
        return {key_id: held.key for key_id, held in self.keys.items()}

    @property
    def current_key(self) -> bytes:
        return self.keys[self.current].key

    def has_slot(self, kind: SlotKind) -> bool:
        return any(slot.kind == kind for slot in self.slots)

    def dataset_key_id(self, dataset_id: str) -> str | None:
        """The key that seals this dataset's contents; None where there is none yet."""
        return next((key_id for key_id, held in self.keys.items() if held.dataset_id == dataset_id), None)


def new_ring(store_id: str, now_us: int) -> KeyRing:
    """A ring with a fresh data key and no slot yet."""
    ring = KeyRing(store_id, 0, os.urandom(32), "", {}, [])
    ring.current = add_data_key(ring, now_us)
    return ring


def add_data_key(ring: KeyRing, now_us: int, dataset_id: str | None = None) -> str:
    """Put a random key into the ring; returns its id."""
    key = os.urandom(32)
    key_id = key_id_of(key)
    ring.keys[key_id] = DataKey(key, now_us, dataset_id)
    return key_id


def absorb(ring: KeyRing, other: KeyRing) -> bool:
    """Take over another ring's keys of the same store; what either erased stays erased. Returns whether it changed.

    So that older backups stay readable where a ring was lost or put back from an older copy.
    """
    before = (len(ring.keys), len(ring.erased), ring.generation)
    ring.erased = other.erased | ring.erased
    ring.keys = {key_id: held for key_id, held in (other.keys | ring.keys).items() if key_id not in ring.erased}
    if other.signing_key == ring.signing_key:
        ring.generation = max(ring.generation, other.generation)
    return before != (len(ring.keys), len(ring.erased), ring.generation)


def key_id_of(key: bytes) -> str:
    return hashlib.sha256(b"btmd key id\n" + key).hexdigest()[:16]


def passphrase_secret(passphrase: str) -> Secret:
    """Raises InvalidValue for one that is too short."""
    # The same letters typed on another keyboard may arrive composed differently.
    normal = unicodedata.normalize("NFC", passphrase)
    if len(normal) < MIN_PASSPHRASE_LENGTH:
        raise InvalidValue(
            f"A passphrase needs at least {MIN_PASSPHRASE_LENGTH} characters.", hint="Four or five words are good."
        )
    return Secret("passphrase", normal.encode())


def credential_secret(content: bytes) -> Secret:
    """Raises InvalidValue for one that is too short."""
    if len(content) < MIN_CREDENTIAL_BYTES:
        raise InvalidValue(
            f"The credential has {len(content)} bytes; it needs at least {MIN_CREDENTIAL_BYTES} random ones.",
            hint="`systemd-creds` can make one from 32 bytes of /dev/urandom.",
        )
    return Secret("credential", content)


def add_slot(ring: KeyRing, secret: Secret, now_us: int) -> None:
    """Let ``secret`` open the ring once it is written again; takes the place of no other slot."""
    salt = os.urandom(16)
    private, vouching = _derive(secret, salt)
    public = private.public_key().public_bytes_raw()
    vouch = _vouch(vouching, ring.store_id, public, _signer(ring))
    ring.slots.append(Slot(secret.kind, now_us, salt, public, vouch))


def matching_slot(slots: list[Slot], secret: Secret) -> Slot | None:
    """The slot that ``secret`` opens."""
    found = _matching(slots, secret)
    return None if found is None else found[0]


def write_ring(ring: KeyRing) -> bytes:
    """The file for the ring, one generation on, under a fresh ring key."""
    ring.generation += 1
    ring_key = os.urandom(32)
    seals = [_seal(slot, ring_key) for slot in ring.slots]
    head = msgspec.json.encode(RingHead(ring.store_id, ring.generation, _signer(ring), ring.slots, seals))
    start = MAGIC + _LENGTH.pack(len(head)) + head
    body = start + AESGCM(ring_key).encrypt(_NONCE, msgspec.msgpack.encode(ring), hashlib.sha256(start).digest())
    signed = body + Ed25519PrivateKey.from_private_bytes(ring.signing_key).sign(body)
    return signed + hashlib.sha256(signed).digest()


def public_key(ring: KeyRing) -> bytes:
    """What proves that the store's keys signed something; it stands in every copy of the ring, unencrypted."""
    return _signer(ring)


def sign(ring: KeyRing, purpose: str, message: bytes) -> bytes:
    """Sign with the store's key; ``purpose`` keeps it from being taken for something else, a ring least of all."""
    return Ed25519PrivateKey.from_private_bytes(ring.signing_key).sign(purpose.encode() + b"\n" + message)


def read_head(data: bytes) -> RingHead:
    """The unencrypted part; not yet proved by a key. Raises Damaged."""
    return _split(data)[0]


def open_ring(data: bytes, secret: Secret) -> KeyRing:
    """Raises Damaged, WrongKey, Tampered."""
    head, start, sealed, signature = _split(data)
    found = _matching(head.slots, secret)
    if found is None:
        raise _wrong_key(head, secret)
    slot, private, vouching = found
    if not hmac.compare_digest(_vouch(vouching, head.store_id, slot.public_key, head.signer), slot.vouch):
        raise _tampered("it was signed by somebody else")
    try:
        Ed25519PublicKey.from_public_bytes(head.signer).verify(signature, start + sealed)
        seal = head.seals[head.slots.index(slot)]
        wrap = _wrapping_key(private.exchange(X25519PublicKey.from_public_bytes(seal.ephemeral)), seal.ephemeral, slot)
        ring_key = AESGCM(wrap).decrypt(_NONCE, seal.sealed, None)
        content = AESGCM(ring_key).decrypt(_NONCE, sealed, hashlib.sha256(start).digest())
    except (InvalidSignature, InvalidTag, ValueError, IndexError):
        raise _tampered("its signature does not fit") from None
    return msgspec.msgpack.decode(content, type=KeyRing)


def _split(data: bytes) -> tuple[RingHead, bytes, bytes, bytes]:
    """Head, all bytes up to its end, encrypted content, signature."""
    if len(data) < 150 or hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise Damaged(
            "The key ring is damaged: its bytes do not fit their checksum.",
            hint="Take the ring from the state folder (keys/ring) or from another backup folder; all are alike.",
        )
    at = len(MAGIC) + _LENGTH.size
    try:
        if not data.startswith(MAGIC):
            raise ValueError("another kind of file")
        end = at + _LENGTH.unpack_from(data, len(MAGIC))[0]
        head = msgspec.json.decode(data[at:end], type=RingHead)
    except (ValueError, msgspec.MsgspecError):
        raise _tampered("it cannot be read") from None
    return head, data[:end], data[end:-96], data[-96:-32]


def _matching(slots: list[Slot], secret: Secret) -> tuple[Slot, X25519PrivateKey, bytes] | None:
    """The slot that ``secret`` opens, with its private key and the key it vouches with."""
    for slot in slots:
        if slot.kind == secret.kind:
            private, vouching = _derive(secret, slot.salt)
            if _public(private) == slot.public_key:
                return slot, private, vouching
    return None


def _derive(secret: Secret, salt: bytes) -> tuple[X25519PrivateKey, bytes]:
    """The slot's private key, and the key it vouches with."""
    if secret.kind == "passphrase":
        stretched = Argon2id(
            salt=salt, length=64, iterations=ARGON2_PASSES, lanes=ARGON2_LANES, memory_cost=ARGON2_MEMORY_KIB
        ).derive(secret.value)
    else:
        stretched = HKDF(SHA512(), 64, salt, f"btmd slot {secret.kind}".encode()).derive(secret.value)
    return X25519PrivateKey.from_private_bytes(stretched[:32]), stretched[32:]


def _seal(slot: Slot, ring_key: bytes) -> SlotSeal:
    ephemeral = X25519PrivateKey.generate()
    public = _public(ephemeral)
    wrap = _wrapping_key(ephemeral.exchange(X25519PublicKey.from_public_bytes(slot.public_key)), public, slot)
    return SlotSeal(public, AESGCM(wrap).encrypt(_NONCE, ring_key, None))


def _wrapping_key(shared: bytes, ephemeral: bytes, slot: Slot) -> bytes:
    return HKDF(SHA256(), 32, slot.salt, b"btmd ring key" + ephemeral + slot.public_key).derive(shared)


def _vouch(key: bytes, store_id: str, slot_public: bytes, signer: bytes) -> bytes:
    return hmac.digest(key, b"btmd ring signer\n" + store_id.encode() + b"\n" + slot_public + signer, "sha256")


def _signer(ring: KeyRing) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(ring.signing_key).public_key().public_bytes_raw()


def _public(private: X25519PrivateKey) -> bytes:
    return private.public_key().public_bytes_raw()


def _wrong_key(head: RingHead, secret: Secret) -> WrongKey:
    names = {"key_file": "key file", "recovery_key": "recovery key"}
    given = names.get(secret.kind, secret.kind)
    kinds = sorted({names.get(slot.kind, slot.kind) for slot in head.slots})
    return WrongKey(
        f"This {given} does not open the backups here.",
        hint=f"They open with: {', '.join(kinds)}. It must be the one of the store {head.store_id}.",
    )


def _tampered(reason: str) -> Tampered:
    return Tampered(
        f"The key ring was tampered with: {reason}.", hint="Use the ring of another backup folder. Nothing was changed."
    )
