"""The one form of every encrypted file in a backup folder.

A file is, in this order:

- the 8 bytes of ``MAGIC``;
- the header's length (4 bytes, big endian) and the header: a JSON object with sorted keys, readable without a key;
- the number of ids that the file names (4 bytes) and those ids, 32 bytes each (a manifest's parts; else none);
- a random salt of 32 bytes;
- the content in chunks of ``CHUNK_BYTES``, the last one shorter or empty, each sealed with AES-256-GCM (16 bytes more);
- the SHA-256 of everything before it.

That SHA-256 is the file's id and, in hex, its name. So bytes that rotted are told from bytes that somebody put there:
if the last 32 bytes do not fit those before them the file is *damaged*; if they do, but the name, the seal or the
content does not, somebody made the file: it is *tampered* with.

Chunks follow the STREAM construction (Hoang, Reyhanitabar, Rogaway and Vizar, "Online Authenticated-Encryption and its
Nonce-Reuse Misuse-Resistance", 2015): the nonce is the chunk's number (11 bytes) and a byte that is 1 on the last
chunk, so that none can be left out, repeated, moved or cut off. The key is used for this file only: HKDF-SHA256 of the
data key with the file's salt. Header and ids are the associated data of every chunk.
"""

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct

from btmd.errors import Damaged, Tampered, WrongKey

MAGIC = b"btmdSF\x00\x01"
CHUNK_BYTES = 256 * 1024
TAG_BYTES = 16
DIGEST_BYTES = 32
SALT_BYTES = 32
MAX_HEADER_BYTES = 1 << 20

_LENGTH = struct.Struct(">I")
_SMALLEST = len(MAGIC) + 2 * _LENGTH.size + SALT_BYTES + TAG_BYTES + DIGEST_BYTES


class Sealed(Struct, frozen=True):
    """What was written: ``id`` is the file's name (64 hex digits)."""

    id: str
    size_bytes: int


class Prologue(Struct, frozen=True):
    """What stands before the content: header, named ids (hex), and what is needed to open the rest."""

    header: dict[str, Any]
    names: tuple[str, ...]
    raw: bytes
    salt: bytes


def seal_into(
    file: BinaryIO, header: Mapping[str, Any], key: bytes, blocks: Iterable[bytes], names: Sequence[str] = ()
) -> Sealed:
    """Write a whole sealed file; ``key`` has 32 bytes, ``header`` says which one it is under ``key_id``."""
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    listed = b"".join(bytes.fromhex(name) for name in names)
    prologue = b"".join((MAGIC, _LENGTH.pack(len(text)), text, _LENGTH.pack(len(names)), listed))
    salt = os.urandom(SALT_BYTES)
    cipher = AESGCM(_file_key(key, salt))
    bound = hashlib.sha256(prologue).digest()
    digest = hashlib.sha256(prologue + salt)
    file.write(prologue + salt)
    size_bytes = len(prologue) + SALT_BYTES
    for number, (chunk, is_last) in enumerate(_chunks(blocks)):
        sealed = cipher.encrypt(_nonce(number, is_last), chunk, bound)
        digest.update(sealed)
        file.write(sealed)
        size_bytes += len(sealed)
    file.write(digest.digest())
    return Sealed(digest.hexdigest(), size_bytes + DIGEST_BYTES)


def check_whole(file: BinaryIO, name: str) -> int:
    """Compare the file with its own checksum and with its name; returns its size. Raises Damaged, Tampered."""
    file.seek(0)
    digest, held, size_bytes = hashlib.sha256(), b"", 0
    while block := file.read(CHUNK_BYTES):
        size_bytes += len(block)
        held += block
        digest.update(held[:-DIGEST_BYTES])
        held = held[-DIGEST_BYTES:]
    if size_bytes < _SMALLEST or digest.digest() != held:
        raise Damaged(
            f"{_short(name)} is damaged: its bytes do not fit their checksum.",
            hint="Take this file from a copy of the backup folder, or use another backup. Nothing was changed.",
        )
    if digest.hexdigest() != name:
        raise _tampered(name, "it is a whole file, but not the one that belongs under this name")
    return size_bytes


def read_prologue(file: BinaryIO, name: str) -> Prologue:
    """Header and named ids, from the file's beginning; not yet proved by a key. Raises Tampered."""
    file.seek(0)
    start = file.read(len(MAGIC) + _LENGTH.size)
    if not start.startswith(MAGIC) or len(start) < len(MAGIC) + _LENGTH.size:
        raise _tampered(name, "it is not a file of a backup")
    header_bytes = _LENGTH.unpack_from(start, len(MAGIC))[0]
    if header_bytes > MAX_HEADER_BYTES:
        raise _tampered(name, "its header is too long")
    rest = file.read(header_bytes + _LENGTH.size)
    count = _LENGTH.unpack_from(rest, header_bytes)[0] if len(rest) == header_bytes + _LENGTH.size else -1
    if not 0 <= count <= MAX_HEADER_BYTES:
        raise _tampered(name, "its header is cut off")
    listed = file.read(count * DIGEST_BYTES)
    salt = file.read(SALT_BYTES)
    if len(salt) < SALT_BYTES:
        raise _tampered(name, "its header is cut off")
    try:
        header = json.loads(rest[:header_bytes])
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise _tampered(name, "its header cannot be read")
    names = tuple(listed[at : at + DIGEST_BYTES].hex() for at in range(0, len(listed), DIGEST_BYTES))
    return Prologue(header, names, start + rest + listed, salt)


def open_blocks(file: BinaryIO, name: str, size_bytes: int, prologue: Prologue, key: bytes) -> Iterator[bytes]:
    """The content, chunk after chunk, each proved before it is given out. Raises Tampered.

    ``file`` went through :func:`check_whole` (which told ``size_bytes``) and :func:`read_prologue`.
    """
    cipher = AESGCM(_file_key(key, prologue.salt))
    bound = hashlib.sha256(prologue.raw).digest()
    left = size_bytes - len(prologue.raw) - SALT_BYTES - DIGEST_BYTES
    number = 0
    while True:
        sealed = file.read(min(CHUNK_BYTES + TAG_BYTES, left))
        left -= len(sealed)
        try:
            yield cipher.decrypt(_nonce(number, left == 0), sealed, bound)
        except InvalidTag:
            raise _tampered(name, "its content was not sealed with this key and this header") from None
        if left == 0:
            return
        number += 1


def open_sealed(file: BinaryIO, name: str, keys: Mapping[str, bytes]) -> tuple[Prologue, Iterator[bytes]]:
    """Check the file and open it with the key that its header names. Raises Damaged, Tampered, WrongKey."""
    size_bytes = check_whole(file, name)
    prologue = read_prologue(file, name)
    key_id = prologue.header.get("key_id")
    key = keys.get(key_id) if isinstance(key_id, str) else None
    if key is None:
        raise WrongKey(
            f"{_short(name)} is sealed with a key that is not in this key ring.",
            hint="Give the key that belongs to this backup: key file, passphrase or recovery key.",
        )
    return prologue, open_blocks(file, name, size_bytes, prologue, key)


def _chunks(blocks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Cut to ``CHUNK_BYTES``; the last chunk, possibly empty, is marked."""
    held = bytearray()
    for block in blocks:
        held += block
        while len(held) > CHUNK_BYTES:
            yield bytes(held[:CHUNK_BYTES]), False
            del held[:CHUNK_BYTES]
    yield bytes(held), True


def _nonce(number: int, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])


def _file_key(key: bytes, salt: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, b"btmd sealed file 1").derive(key)


def _short(name: str) -> str:
    return f"The backup's part {name[:12]}"


def _tampered(name: str, reason: str) -> Tampered:
    return Tampered(
        f"{_short(name)} was tampered with: {reason}.",
        hint="Do not trust this folder; use another copy of the backup. Nothing was changed.",
    )
