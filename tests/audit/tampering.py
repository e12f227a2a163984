"""Somebody tampers with an export: what was done, and where it has to be found."""

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from btmd.audit.verify_audit import HASHED, SIGNED, Head, written
from tests.audit.exports import OTHER_KEY, public

Lines = list[bytes]


@dataclass(frozen=True)
class Tampered:
    """``kinds`` and ``lines`` are those that a right answer may name; ``event`` has to be among those it names."""

    what: str
    lines: Lines
    kinds: tuple[str, ...]
    at: tuple[int, ...]
    event: int | None = None
    heads: tuple[Head, ...] = ()
    need_key: bool = False
    """Whether it can be found only by who knows whose seal it has to be, or a head."""


def row(line: bytes) -> dict[str, Any]:
    return dict(json.loads(line))


def line(fields: dict[str, Any]) -> bytes:
    return written(fields) + b"\n"


def hashed(fields: dict[str, Any]) -> dict[str, Any]:
    """The row with the hash that its content has."""
    values = written([fields[name] for name in HASHED])
    return {**fields, "hash": hashlib.sha256(bytes.fromhex(fields["prev_hash"]) + values).hexdigest()}


def other(fields: dict[str, Any], drawn: random.Random) -> dict[str, Any]:
    """The row with something else in it, its place and its hashes as they were."""
    name = drawn.choice(("data", "data", "actor", "type", "wall_at", "boot_id", "correlation_id", "event_id"))
    value = fields[name]
    changed = value + 1 if isinstance(value, int) else (value or "") + "x"
    if name == "data":
        changed = value.replace('"', '"x', 1) if drawn.random() < 0.5 else value[:-1] + ',"more":1}'
    return {**fields, name: changed}


def changed(lines: Lines, drawn: random.Random) -> Tampered:
    at = drawn.randrange(1, len(lines) - 1)
    fields = row(lines[at])
    match drawn.randrange(5):
        case 0:
            new, how = line(other(fields, drawn)), "content"
        case 1:
            name = drawn.choice(("hash", "prev_hash"))
            digit = drawn.randrange(64)
            text = fields[name]
            new, how = line({**fields, name: text[:digit] + _another(text[digit]) + text[digit + 1 :]}), name
        case 2:
            place = drawn.randrange(len(lines[at]) - 1)
            byte = drawn.choice([one for one in range(32, 127) if one != lines[at][place]])
            new, how = lines[at][:place] + bytes([byte]) + lines[at][place + 1 :], "one byte"
        case 3:
            new, how = lines[at].replace(b'{"seq"', b'{"more":1,"seq"').replace(b'"epoch"', b' "epoch"'), "its form"
        case _:
            new, how = line(hashed(other(fields, drawn))), "content, hashed anew"
    found = [*lines[:at], new, *lines[at + 1 :]]
    # Hashed anew, the last event is a tail of one.
    kinds = ("changed", "re-hashed") if at == len(lines) - 2 else ("changed",)
    return Tampered(f"changed: {how}", found, kinds, (at + 1,), fields["seq"])


def _another(digit: str) -> str:
    return "0" if digit != "0" else "f"


def removed(lines: Lines, drawn: random.Random) -> Tampered:
    match drawn.randrange(8):
        case 0:
            return Tampered("removed: the opening line", lines[1:], ("removed",), (1,))
        case 1:
            return Tampered("removed: the closing line", lines[:-1], ("removed",), (len(lines),))
    at = drawn.randrange(1, len(lines) - 1)
    until = min(len(lines) - 1, at + drawn.choice((1, 1, 2, 10)))
    found = [*lines[:at], *lines[until:]]
    return Tampered(f"removed: {until - at}", found, ("removed",), (at + 1,), row(lines[at])["seq"])


def reordered(lines: Lines, drawn: random.Random) -> Tampered:
    one, two = sorted(drawn.sample(range(1, len(lines) - 1), 2))
    found = list(lines)
    match drawn.randrange(3):
        case 0:
            found[one], found[two] = found[two], found[one]
        case 1:
            found.insert(one, found.pop(two))
        case _:
            found.insert(two, found.pop(one))
    return Tampered("re-ordered", found, ("re-ordered",), (one + 1,))


def added(lines: Lines, drawn: random.Random) -> Tampered:
    at = drawn.randrange(1, len(lines))
    before = row(lines[at - 1])
    seq, digest = (before["seq"], before["hash"]) if "seq" in before else (before["before_seq"], before["before_hash"])
    like = row(lines[drawn.randrange(1, len(lines) - 1)])
    match drawn.randrange(4):
        case 0:
            copied = drawn.randrange(1, len(lines) - 1)
            found = [*lines[:at], lines[copied], *lines[at:]]
            return Tampered("added: a copy", found, ("added",), (at + 1, at + 2) if at == copied else (at + 1,))
        case 1:
            new = line({**other(like, drawn), "seq": seq + 1})
            return Tampered("added: unchained", [*lines[:at], new, *lines[at:]], ("added",), (at + 1,))
        case 2:
            found = [*lines, drawn.choice((lines[-2], lines[-1][:-2] + b" }\n", b"\n", b"more\n"))]
            return Tampered("added: behind the end", found, ("added",), (len(lines) + 1,))
    later = before.get("recorded_at", like["recorded_at"]) + 1
    shape = {**like, "seq": seq + 1, "recorded_at": later, "stream": "made-up", "version": 1, "prev_hash": digest}
    shape["epoch"] = before.get("epoch", like["epoch"])
    found = [*lines[:at], line(hashed(shape)), *lines[at:]]
    return Tampered("added: chained", found, ("added",), (at + 1,), seq + 1)


def rehashed(lines: Lines, drawn: random.Random) -> Tampered:
    """Events are changed from one on, and everything after it is hashed anew."""
    at = drawn.randrange(1, len(lines) - 1)
    found, first = list(lines), row(lines[at])["seq"]
    digest = row(lines[at])["prev_hash"]
    for number in range(at, len(lines) - 1):
        fields = row(lines[number])
        fields = hashed({**(other(fields, drawn) if number == at else fields), "prev_hash": digest})
        found[number], digest = line(fields), fields["hash"]
    if drawn.random() < 0.25:
        return Tampered("re-hashed: the closing line as it was", found, ("re-hashed",), (at + 1,), first)
    how = drawn.choice(("the old seal", "no seal", "another's seal"))
    found[-1] = closing(lines[-1], found, how)
    heads = tuple(head_at(lines, one) for one in sorted(drawn.sample(range(1, len(lines) - 1), drawn.randrange(4))))
    beyond = [head for head in heads if head.seq >= first]
    if beyond:
        place = next(at + 1 for at, one in enumerate(lines) if at and row(one).get("seq") == beyond[0].seq)
        return Tampered(f"re-hashed: {how}, heads", found, ("re-hashed",), (place,), first, heads)
    kinds = ("re-hashed",) if how == "the old seal" else ("not sealed",)
    whole = Tampered(f"re-hashed: {how}", found, kinds, (len(lines),), first, heads)
    return Tampered(**{**vars(whole), "need_key": how != "the old seal"})


def closing(old: bytes, lines: Lines, how: str) -> bytes:
    """The closing line as it has to be after that."""
    fields = row(old)
    seal, digests = fields.pop("seal"), {one["seq"]: one["hash"] for one in map(row, lines[1:-1])}
    fields["marks"] = [[seq, digests[seq]] for seq, _ in fields["marks"]]
    fields["last_hash"] = digests[fields["last_seq"]]
    if fields["head_seq"] == fields["last_seq"]:
        fields["head_hash"] = fields["last_hash"]
    fields["sha256"] = hashlib.sha256(b"".join(lines[:-1])).hexdigest()
    if how == "no seal":
        seal = None
    elif how == "another's seal":
        message = SIGNED + hashlib.sha256(written(fields)).hexdigest()
        signature = OTHER_KEY.sign(message.encode()).hex()
        seal = {"algorithm": "Ed25519", "public_key": public(OTHER_KEY), "signature": signature}
    return line({**fields, "seal": seal})


def head_at(lines: Sequence[bytes], at: int) -> Head:
    fields = row(lines[at])
    return Head(fields["epoch"], fields["seq"], fields["hash"])


KINDS: tuple[Callable[[Lines, random.Random], Tampered], ...] = (changed, removed, reordered, added, rehashed)
