"""A job's sample answers on the disk: held-out rows and what was answered, under a key of the dataset.

The keys are files of 32 random bytes in a folder for each dataset, named by their id; the process that writes the
first answers makes the first key. So the daemon holds none in its memory, a trainer needs no daemon, and nobody reads
the answers once the folder is gone. The file is JSON: ``key_id``, ``nonce`` and ``sealed`` (base 64), AES-256-GCM with
the key's id as associated data. Answers that an earlier release wrote are plain JSON and are read as they are.
"""

import hashlib
import os
from pathlib import Path
from typing import Final

import msgspec

from btmd.errors import Damaged, PartMissing, Tampered
from btmd.files.durable import write_atomically

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class _Sealed(msgspec.Struct, frozen=True):
    key_id: str
    nonce: bytes
    sealed: bytes


def seal(data: bytes, keys: Path) -> bytes:
    """The file for ``data``, under a key from the folder ``keys``, which is made at its first use. Raises OSError."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key_id, key = _key_to_seal_with(keys)
    nonce = os.urandom(_NONCE_BYTES)
    return msgspec.json.encode(_Sealed(key_id, nonce, AESGCM(key).encrypt(nonce, data, key_id.encode())))


def open_sealed(data: bytes, keys: Path) -> bytes:
    """What was sealed. Raises PartMissing where the key is gone, Damaged, Tampered."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        found = msgspec.json.decode(data, type=_Sealed)
    except msgspec.ValidationError:
        return data  # plain, from an earlier release
    except msgspec.DecodeError:
        raise Damaged("The sample answers are damaged.", hint="Train again to have others.") from None
    key = _read_key(keys / Path(found.key_id).name)
    if key is None:
        raise PartMissing("The key of these answers is gone: their dataset was erased.", hint="Nothing brings it back.")
    try:
        return AESGCM(key).decrypt(found.nonce, found.sealed, found.key_id.encode())
    except InvalidTag:
        raise Tampered("The sample answers were changed by somebody.", hint="Train again to have others.") from None


def key_files(keys: Path) -> list[Path]:
    """All keys of a dataset, in a fixed order."""
    return sorted(path for path in keys.iterdir() if not path.name.startswith(".")) if keys.is_dir() else []


def _key_to_seal_with(keys: Path) -> tuple[str, bytes]:
    for path in key_files(keys):
        if (key := _read_key(path)) is not None:
            return path.name, key
    key = os.urandom(KEY_BYTES)
    key_id = hashlib.sha256(b"btmd answers key\n" + key).hexdigest()[:16]
    keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(keys / key_id, key)
    return key_id, key


def _read_key(path: Path) -> bytes | None:
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        return None
    return key if len(key) == KEY_BYTES else None
