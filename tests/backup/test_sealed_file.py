"""Every encrypted file: what goes in comes out, and anything else is named."""

import hashlib
import io
import os
import random

import pytest

from btmd.backup.sealed_file import CHUNK_BYTES, SALT_BYTES, TAG_BYTES, Sealed, open_sealed, seal_into
from btmd.errors import BtmdError, Damaged, Tampered, WrongKey

PROOF = os.environ.get("BTMD_PROOF") == "1"
KEY, OTHER_KEY = bytes(range(32)), bytes(32)
HEADER = {"kind": "segment", "key_id": "one", "first_seq": 1}


def sealed(content: bytes, header: dict[str, object] = HEADER, names: tuple[str, ...] = ()) -> tuple[Sealed, bytes]:
    file = io.BytesIO()
    return seal_into(file, header, KEY, [content], names), file.getvalue()


def opened(data: bytes, name: str, keys: dict[str, bytes] | None = None) -> bytes:
    _, blocks = open_sealed(io.BytesIO(data), name, keys or {"one": KEY})
    return b"".join(blocks)


def with_checksum(data: bytes) -> tuple[bytes, str]:
    """What somebody would write who changes a file and its checksum."""
    digest = hashlib.sha256(data)
    return data + digest.digest(), digest.hexdigest()


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_content_comes_back_with_its_header(size: int) -> None:
    content = random.Random(size).randbytes(size)
    made, data = sealed(content, names=("ab" * 32,))
    assert made.size_bytes == len(data)
    assert made.id == data[-32:].hex() == hashlib.sha256(data[:-32]).hexdigest()
    prologue, blocks = open_sealed(io.BytesIO(data), made.id, {"one": KEY})
    assert b"".join(blocks) == content
    assert (prologue.header, prologue.names) == (HEADER, ("ab" * 32,))


def test_the_same_content_is_never_sealed_alike() -> None:
    assert sealed(b"content")[0].id != sealed(b"content")[0].id


def test_a_bit_flip_anywhere_is_damage(small_chunks: int) -> None:
    drawn = random.Random(1)
    made, data = sealed(drawn.randbytes(5 * small_chunks))
    for _ in range(2000 if PROOF else 300):
        bit = drawn.randrange(len(data) * 8)
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Damaged):
            opened(bytes(changed), made.id)


def test_a_cut_anywhere_is_damage(small_chunks: int) -> None:
    drawn = random.Random(2)
    made, data = sealed(drawn.randbytes(5 * small_chunks))
    for _ in range(200 if PROOF else 60):
        with pytest.raises(Damaged):
            opened(data[: drawn.randrange(len(data))], made.id)


def test_another_key_is_named_as_such() -> None:
    made, data = sealed(b"content")
    with pytest.raises(WrongKey):
        opened(data, made.id, {"two": KEY})


def test_a_key_that_only_claims_to_be_the_right_one_opens_nothing() -> None:
    made, data = sealed(b"content")
    with pytest.raises(Tampered):
        opened(data, made.id, {"one": OTHER_KEY})


def test_a_whole_file_under_another_name_is_tampering() -> None:
    _, data = sealed(b"content")
    other, _ = sealed(b"other")
    with pytest.raises(Tampered):
        opened(data, other.id)


def chunk_range(data: bytes, number: int, small_chunks: int) -> slice:
    start = len(data) - 32 - 4 * (small_chunks + TAG_BYTES) + number * (small_chunks + TAG_BYTES)
    return slice(start, start + small_chunks + TAG_BYTES)


@pytest.mark.parametrize("what", ["swapped", "repeated", "left out", "cut off", "lengthened"])
def test_chunks_moved_by_somebody_are_tampering(what: str, small_chunks: int) -> None:
    _, data = sealed(random.Random(3).randbytes(4 * small_chunks))
    first, second, last = (chunk_range(data, number, small_chunks) for number in (0, 1, 3))
    body = data[:-32]
    match what:
        case "swapped":
            body = body[: first.start] + body[second] + body[first] + body[second.stop :]
        case "repeated":
            body = body[: first.stop] + body[first] + body[second.stop :]
        case "left out":
            body = body[: first.start] + body[first.stop :]
        case "cut off":
            body = body[: last.start]
        case _:
            body = body + body[last]
    changed, name = with_checksum(body)
    with pytest.raises(Tampered):
        opened(changed, name)


def test_an_older_header_on_a_newer_body_is_tampering() -> None:
    _, newer = sealed(b"x" * 100, {**HEADER, "first_seq": 2})
    _, older = sealed(b"x" * 100)
    salt_at = len(older) - 32 - 100 - TAG_BYTES - SALT_BYTES
    changed, name = with_checksum(older[:salt_at] + newer[salt_at:-32])
    with pytest.raises(Tampered):
        opened(changed, name)


@pytest.mark.parametrize("size", [0, 31, 32, 33, 100, 127, 4000])
def test_any_other_bytes_are_refused(size: int) -> None:
    data, name = with_checksum(random.Random(size).randbytes(size))
    with pytest.raises((Damaged, Tampered)):
        opened(data, name)


def test_a_header_that_claims_too_much_is_refused() -> None:
    data, name = with_checksum(b"btmdSF\x00\x01\xff\xff\xff\xff" + bytes(200))
    with pytest.raises(BtmdError) as refused:
        opened(data, name)
    assert refused.value.exit_code == 9
