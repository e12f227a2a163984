"""Verifies an export of btmd's event log. Needs Python 3.9 or newer and nothing else, btmd least of all.

    python3 verify_audit.py export.jsonl [--public-key HEX] [--head EPOCH:EVENT:HASH ...] [--json]

Exit code 0: everything fits. 1: something does not; the first line that does not fit is named, and how. 2: this is no
export, or the command cannot be understood. 3: the export fits in itself, but a head that was given lies outside of it.

The format (docs/audit.md of btmd says more). A file of JSON objects, one a line, UTF-8, each written without white
space, keys in the order given here, with only what JSON demands escaped; lines end with a line feed.

- Opening line: ``btmd_audit_export`` (1), ``line`` ("begin"), ``store_id``, ``before_seq`` and ``before_hash`` (of the
  event before the first one; 0 and SHA-256("btmd event log\\n" + store_id) where there is none), ``since``, ``until``,
  ``made_at``, ``made_by``, ``btmd``.
- A line for each event, in order: the 14 values of ``HASHED`` as they were recorded, ``prev_hash``, ``hash`` (in hex).
  ``hash`` is SHA-256 over the 32 bytes of ``prev_hash`` and the 14 values as a JSON array in the form of these lines.
  ``actor`` and ``data`` are strings that hold JSON; times are microseconds since 1970, UTC.
- Closing line: ``btmd_audit_export`` (1), ``line`` ("end"), ``store_id``, ``first_seq``, ``last_seq``, ``events`` (how
  many), ``last_hash``, ``head_seq``, ``head_epoch`` and ``head_hash`` (where the log ended when this was made),
  ``marks`` (pairs of an event's number and its hash: of all events, or of every n-th), ``sha256`` (of every byte before
  this line) and ``seal``: null, or ``algorithm`` ("Ed25519"), ``public_key`` and ``signature``, both in hex. What is
  signed is "btmd audit export 1\\n" + hex SHA-256 of the closing line without ``seal``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

HASHED = (
    "seq", "epoch", "stream", "version", "event_id", "type", "schema_version", "recorded_at", "wall_at", "boot_id",
    "actor", "correlation_id", "causation_id", "data",
)  # fmt: skip
EVENT = (*HASHED, "prev_hash", "hash")
BEGIN = (
    "btmd_audit_export", "line", "store_id", "before_seq", "before_hash", "since", "until", "made_at", "made_by",
    "btmd",
)  # fmt: skip
END = (
    "btmd_audit_export", "line", "store_id", "first_seq", "last_seq", "events", "last_hash", "head_seq", "head_epoch",
    "head_hash", "marks", "sha256", "seal",
)  # fmt: skip
SIGNED = "btmd audit export 1\n"
ACCEPTED, REFUSED, UNUSABLE, NOT_COMPARED = 0, 1, 2, 3


@dataclass(frozen=True)
class Fault:
    """The first line that does not fit, counted from 1, and the events that are concerned.

    ``kind``: changed, removed, re-ordered, added, re-hashed (events were changed and everything after them was hashed
    anew), or not sealed.
    """

    line: int
    kind: str
    what: str
    first_event: int = 0
    last_event: int = 0


@dataclass
class Finding:
    """What was found. ``shown`` and ``not_shown`` say what this proves, and what nobody can tell from it."""

    fault: Fault | None = None
    store_id: str = ""
    events: int = 0
    first_event: int = 0
    last_event: int = 0
    last_hash: str = ""
    epochs: list[int] = field(default_factory=list)
    seal: str = ""
    """``of the given key``, ``of the key in the export``, ``missing``, ``of another key`` or ``broken``."""
    public_key: str = ""
    heads: list[str] = field(default_factory=list)
    not_compared: int = 0

    @property
    def exit_code(self) -> int:
        if self.fault is not None:
            return REFUSED
        return NOT_COMPARED if self.not_compared else ACCEPTED


@dataclass(frozen=True)
class Head:
    """Where the log ended once, by somebody who kept it. ``epoch`` 0: not known."""

    epoch: int
    seq: int
    hash: str


@dataclass(frozen=True)
class Row:
    """An event's line. ``sound``: its content fits its own hash."""

    line: int
    seq: int
    epoch: int
    stream: str
    version: int
    recorded_at: int
    prev_hash: str
    hash: str
    sound: bool


class NoExport(Exception):
    """The file cannot be read, or is something else."""


# --- the form of lines --------------------------------------------------------------------------


def written(value: Any) -> bytes:
    """JSON in the one form in which it is hashed."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def parsed(raw: bytes, keys: Sequence[str]) -> dict[str, Any] | None:
    """The line's object; None where it is not one with these keys, or not written in the one form."""
    try:
        found = json.loads(raw.decode())
        fits = isinstance(found, dict) and tuple(found) == tuple(keys) and written(found) == raw.rstrip(b"\n")
    except (ValueError, RecursionError):
        return None
    return found if fits else None


def row_of(raw: bytes, line: int) -> Row | None:
    """An event's line; None for any other."""
    found = parsed(raw, EVENT)
    if found is None or not raw.endswith(b"\n"):
        return None
    numbers = [found[name] for name in ("seq", "epoch", "version", "recorded_at")]
    if any(type(one) is not int for one in numbers) or not _is_hash(found["prev_hash"]) or not _is_hash(found["hash"]):
        return None
    values = written([found[name] for name in HASHED])
    digest = hashlib.sha256(bytes.fromhex(found["prev_hash"]) + values).hexdigest()
    seq, epoch, version, recorded_at = numbers
    stream, sound = str(found["stream"]), digest == found["hash"]
    return Row(line, seq, epoch, stream, version, recorded_at, found["prev_hash"], found["hash"], sound)


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_end(raw: bytes) -> bool:
    return raw.startswith(b'{"btmd_audit_export":1,"line":"end"')


@dataclass(frozen=True)
class Closing:
    """The closing line. ``fields`` is None where it is not written as one; ``fits_before``: it has the hash of all
    bytes before it."""

    line: int
    lines: int
    fields: dict[str, Any] | None
    fits_before: bool

    @property
    def marks(self) -> dict[int, str]:
        return {} if self.fields is None else {seq: digest for seq, digest in self.fields["marks"]}


def closing_of(path: str) -> Closing | None:
    """The first closing line that fits all before it, else the last one in the file; None where there is none."""
    digest = hashlib.sha256()
    found: Closing | None = None
    number = 0
    for number, raw in _lines(path):
        if _is_end(raw) and (found is None or not found.fits_before):
            fields = parsed(raw, END)
            if fields is not None and not _is_closing(fields):
                fields = None
            found = Closing(number, 0, fields, fields is not None and fields["sha256"] == digest.hexdigest())
        digest.update(raw)
    return None if found is None else replace(found, lines=number)


def _is_closing(fields: dict[str, Any]) -> bool:
    marks, seal = fields["marks"], fields["seal"]
    numbers = [fields[name] for name in ("first_seq", "last_seq", "events", "head_seq", "head_epoch")]
    return (
        all(type(one) is int for one in numbers)
        and all(_is_hash(fields[name]) for name in ("last_hash", "head_hash", "sha256"))
        and isinstance(marks, list)
        and all(isinstance(one, list) and len(one) == 2 and type(one[0]) is int and _is_hash(one[1]) for one in marks)
        and (seal is None or (isinstance(seal, dict) and tuple(seal) == ("algorithm", "public_key", "signature")))
    )


def _lines(path: str) -> Iterator[tuple[int, bytes]]:
    """The lines with their numbers. Raises NoExport."""
    try:
        with open(path, "rb") as file:
            yield from enumerate(file, start=1)
    except OSError as error:
        raise NoExport(f"{path} cannot be read: {error.strerror or error}.") from None


# --- the walk -----------------------------------------------------------------------------------


@dataclass
class Walk:
    """Goes from line to line. ``seq`` and ``hash`` are those of the event before the next one."""

    closing: Closing | None
    heads: Sequence[Head]
    finding: Finding
    seq: int = 0
    hash: str = ""
    before: Row | None = None
    other_mark: Row | None = None
    """The first event that is not the one that the closing line marks."""
    marked: int = 0
    """The last event that is."""
    known: int = 0
    """The last event that a head vouches for."""
    versions: dict[str, int] = field(default_factory=dict)
    marks: dict[int, str] = field(default_factory=dict)

    def begins(self, raw: bytes) -> Fault | None:
        """Take the opening line."""
        fields = parsed(raw, BEGIN)
        if fields is None or fields["line"] != "begin":
            if row_of(raw, 1) is not None:
                return Fault(1, "removed", "the opening line is missing")
            if not raw.startswith(b'{"btmd_audit_export":'):
                raise NoExport("This is no export of btmd's log: its first line is none that begins one.")
            return Fault(1, "changed", "the opening line is not written as btmd writes it")
        if fields["btmd_audit_export"] != 1:
            raise NoExport(f"The export has the format {fields['btmd_audit_export']}; this program knows 1.")
        self.seq, self.hash = fields["before_seq"], fields["before_hash"]
        if type(self.seq) is not int or not _is_hash(self.hash):
            return Fault(1, "changed", "the opening line does not tell where the events begin")
        self.finding.store_id = str(fields["store_id"])
        if self.seq == 0 and self.hash != genesis_hash(self.finding.store_id):
            return Fault(1, "changed", "the events do not begin as those of this store do")
        self.finding.first_event = self.seq + 1
        self.marks = {} if self.closing is None else self.closing.marks
        return self._compare_heads(self.seq, self.hash, 0, 1)

    def fits(self, row: Row) -> bool:
        return row.sound and row.seq == self.seq + 1 and row.prev_hash == self.hash

    def take(self, row: Row) -> Fault | None:
        """Go on over a row that fits the chain."""
        reason = self._out_of_order(row)
        if reason:
            return Fault(row.line, "changed", reason, row.seq, row.seq)
        self.seq, self.hash, self.before = row.seq, row.hash, row
        self.versions[row.stream] = row.version
        self.finding.events += 1
        if row.epoch not in self.finding.epochs:
            self.finding.epochs.append(row.epoch)
        mark = self.marks.get(row.seq)
        if mark == row.hash:
            self.marked = row.seq
        elif mark is not None and self.other_mark is None:
            self.other_mark = row
        return self._compare_heads(row.seq, row.hash, row.epoch, row.line)

    def _out_of_order(self, row: Row) -> str:
        """What no log that btmd wrote would hold, although the hashes fit."""
        if self.before is not None and row.recorded_at <= self.before.recorded_at:
            return "it was recorded before the event before it"
        if self.before is not None and row.epoch < self.before.epoch:
            return "it is of an earlier epoch than the event before it"
        version = self.versions.get(row.stream, 0 if self.finding.first_event == 1 else row.version - 1)
        return "" if row.version == version + 1 else f"{row.stream} goes from version {version} to {row.version}"

    def _compare_heads(self, seq: int, digest: str, epoch: int, line: int) -> Fault | None:
        for head in self.heads:
            if head.seq != seq:
                continue
            if head.epoch and epoch > head.epoch:
                self.finding.not_compared += 1
                self.finding.heads.append(f"event {seq}: of a later epoch, as the log was rebuilt from a backup since")
            elif head.hash == digest:
                self.finding.heads.append(f"event {seq}: the same")
                self.known = seq
            else:
                said = f"event {seq} is not the one that is known: events up to it were hashed anew"
                return self._rehashed(line, self.known + 1, seq, said)
        return None

    def _rehashed(self, line: int, first: int, last: int, what: str) -> Fault:
        """Hashed anew from ``first`` at the earliest; the closing line may tell more exactly."""
        if self.other_mark is not None and self.other_mark.seq <= last:
            first = max(first, self.marked + 1)
            return Fault(self.other_mark.line, "re-hashed", what, first, self.other_mark.seq)
        return Fault(line, "re-hashed", what, max(first, min(self.finding.first_event, last)), last)

    def breaks(self, first: Row | None, rest: Sequence[Row | None], line: int) -> Fault:
        """What is wrong with a line that does not fit, by itself and those after it. ``first``: as a row, if it is."""
        if self._begins_elsewhere(first):
            return Fault(1, "changed", "the opening line does not tell where the events begin")
        wanted = next((row for row in rest if row is not None and self.fits(row)), None)
        twin = self._twin(first, rest)
        if twin is not None:
            return twin
        if self._is_complete() and (first is None or first.seq > self.seq):
            return Fault(line, "added", "the closing line knows nothing of it", *_numbers(first))
        if first is None or not first.sound:
            if wanted is not None:
                return Fault(line, "added", "it is none of the events that are chained here", *_numbers(first))
            what = "its content does not fit its hash" if first is not None else "it is not written as an event is"
            return Fault(line, "changed", what, self.seq + 1, self.seq + 1)
        if first.seq <= self.seq:
            return Fault(line, "added", f"event {first.seq} is there already", first.seq, first.seq)
        if wanted is not None:
            others = [row for row in rest if row is not None]
            copied = any(row.seq == first.seq and row is not first for row in others)
            follows = any(row.hash == first.prev_hash for row in others)
            if copied or not follows:
                return Fault(line, "added", "it is none of the events that are chained here", first.seq, first.seq)
            what = f"event {self.seq + 1} stands further down"
            return Fault(line, "re-ordered", what, first.seq, first.seq)
        if first.seq > self.seq + 1:
            begin, end = self.seq + 1, first.seq - 1
            return Fault(line, "removed", f"{_events(begin, end)} missing", begin, end)
        return self._other_past(first)

    def _is_complete(self) -> bool:
        """Whether all events that the closing line tells of have come."""
        fields = None if self.closing is None else self.closing.fields
        return fields is not None and (fields["last_seq"], fields["last_hash"]) == (self.seq, self.hash)

    def _begins_elsewhere(self, first: Row | None) -> bool:
        """Whether the first event is the one that the closing line tells of, but not the opening line."""
        fields = None if self.closing is None else self.closing.fields
        if self.before is not None or first is None or not first.sound or fields is None:
            return False
        told = int(fields["first_seq"])
        return first.seq == told != self.finding.first_event

    def _other_past(self, row: Row) -> Fault:
        """A sound row of the right number that names another hash for the event before it."""
        if self.before is None:
            return Fault(1, "changed", "the opening line names another event before the first one", row.seq, row.seq)
        if self.marked == self.seq:
            return Fault(row.line, "changed", "it does not continue the event before it", row.seq, row.seq)
        what = f"event {row.seq} names another hash for event {self.seq}"
        if self.other_mark is not None and self.other_mark.seq < self.seq:
            return self._rehashed(self.before.line, self.known + 1, self.seq, what)
        return Fault(self.before.line, "changed", f"it was hashed anew: {what}", self.seq, self.seq)

    def _twin(self, first: Row | None, rest: Sequence[Row | None]) -> Fault | None:
        """Two rows that continue the same one: that which nothing continues was put in."""
        before = self.before
        if before is None or first is None or not first.sound:
            return None
        if (first.seq, first.prev_hash) != (before.seq, before.prev_hash) or first.hash == before.hash:
            return None
        following = rest[1] if len(rest) > 1 else None
        genuine = self.marks.get(first.seq) == before.hash or (
            following is not None and following.prev_hash == before.hash
        )
        line = first.line if genuine else before.line
        return Fault(line, "added", f"there are two events {first.seq}", first.seq, first.seq)

    def ends(self) -> Fault | None:
        """Compare with the closing line, after all events were found to be chained."""
        closing = self.closing
        assert closing is not None
        fields = closing.fields
        if fields is None:
            return Fault(closing.line, "changed", "the closing line is not written as btmd writes it")
        finding, mark = self.finding, self.other_mark
        if mark is not None and self.marked < mark.seq and fields["last_hash"] != self.hash:
            what = "from here on all is chained, but to other events than the closing line knows"
            return self._rehashed(mark.line, self.known + 1, self.seq, what)
        if self.seq < fields["last_seq"]:
            first, last = self.seq + 1, fields["last_seq"]
            return Fault(closing.line, "removed", f"{_events(first, last)} missing at the end", first, last)
        if self.seq > fields["last_seq"] >= self.seq - finding.events:
            first, last = fields["last_seq"] + 1, self.seq
            line = closing.line - (last - first + 1)
            return Fault(line, "added", "the closing line knows nothing of it", first, last)
        told = (fields["first_seq"], fields["last_seq"], fields["events"], fields["last_hash"])
        head_fits = fields["head_seq"] > self.seq or (fields["head_seq"], fields["head_hash"]) == (self.seq, self.hash)
        if told != (finding.first_event, self.seq, finding.events, self.hash) or mark is not None or not head_fits:
            return Fault(closing.line, "changed", "the closing line does not fit the events before it")
        if not closing.fits_before or fields["store_id"] != finding.store_id:
            line = closing.line if finding.seal == "broken" else 1
            return Fault(line, "changed", "opening line and closing line do not fit one another")
        return self._seal_fault(closing)

    def _seal_fault(self, closing: Closing) -> Fault | None:
        first, last = max(self.known + 1, self.finding.first_event), self.seq
        if self.finding.seal == "broken":
            what = (
                "everything fits but the seal: the closing line was changed, or events were hashed anew and the closing"
                " line with them. A head that was kept elsewhere tells from where on: --head"
            )
            return Fault(closing.line, "re-hashed", what, first, last)
        if self.finding.seal in ("missing", "of another key"):
            if self.finding.seal == "missing" and not self.finding.public_key:
                return None
            said = "it has no seal" if self.finding.seal == "missing" else "it is sealed with another key"
            what = f"{said}: events may have been hashed anew. A head that was kept elsewhere tells: --head"
            return Fault(closing.line, "not sealed", what, first, last)
        return None


def _numbers(row: Row | None) -> tuple[int, int]:
    return (0, 0) if row is None else (row.seq, row.seq)


def _events(first: int, last: int) -> str:
    return f"event {first} is" if first == last else f"events {first} to {last} are"


def genesis_hash(store_id: str) -> str:
    """The hash before a store's first event."""
    return hashlib.sha256(b"btmd event log\n" + store_id.encode()).hexdigest()


def verify(path: str, public_key: str = "", heads: Sequence[Head] = ()) -> Finding:
    """Read the export at ``path``. ``public_key``: hex, of whom it has to be sealed. Raises NoExport."""
    finding = Finding()
    closing = closing_of(path)
    finding.seal, finding.public_key = _seal(closing, public_key)
    walk = Walk(closing, heads, finding)
    finding.fault = _walked(path, walk, closing)
    finding.last_event, finding.last_hash = walk.seq, walk.hash
    for head in heads if finding.fault is None else ():
        if head.seq > walk.seq or head.seq < finding.first_event - 1:
            finding.heads.append(f"event {head.seq}: outside of this export")
            finding.not_compared += 1
    return finding


def _walked(path: str, walk: Walk, closing: Closing | None) -> Fault | None:
    lines = _lines(path)
    _, raw = next(lines, (0, b""))
    fault = walk.begins(raw)
    if fault is not None:
        return fault
    number, last = 1, closing.line if closing is not None else sys.maxsize
    for number, raw in lines:
        if number == last:
            break
        row = row_of(raw, number)
        if row is None or not walk.fits(row):
            rest = [row, *(row_of(one, at) for at, one in lines if at < last)]
            return walk.breaks(row, rest, number)
        fault = walk.take(row)
        if fault is not None:
            return fault
    if closing is None:
        return Fault(number + 1, "removed", "the export is cut off: it has no closing line", walk.seq + 1)
    fault = walk.ends()
    if fault is None and closing.lines > closing.line:
        return Fault(closing.line + 1, "added", "it stands behind the closing line")
    return fault


# --- the seal -----------------------------------------------------------------------------------


def _seal(closing: Closing | None, public_key: str) -> tuple[str, str]:
    """What the seal is worth, and the key that counts."""
    if closing is None or closing.fields is None:
        return "broken", public_key
    seal = closing.fields["seal"]
    if seal is None:
        return "missing", public_key
    unsealed = {name: value for name, value in closing.fields.items() if name != "seal"}
    message = SIGNED + hashlib.sha256(written(unsealed)).hexdigest()
    try:
        key, signature = bytes.fromhex(seal["public_key"]), bytes.fromhex(seal["signature"])
    except (TypeError, ValueError):
        return "broken", public_key
    if seal["algorithm"] != "Ed25519" or not ed25519_fits(key, message.encode(), signature):
        return "broken", public_key
    if public_key and public_key.lower() != key.hex():
        return "of another key", public_key
    return ("of the given key" if public_key else "of the key in the export"), key.hex()


# Ed25519 as RFC 8032 describes it, for checking only: points (X, Y, Z, T) with x = X/Z, y = Y/Z, x*y = T/Z.
_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_1 = pow(2, (_P - 1) // 4, _P)
_Point = tuple[int, int, int, int]


def ed25519_fits(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the holder of the key signed the message."""
    if len(public_key) != 32 or len(signature) != 64:
        return False
    key, nonce = _point(public_key), _point(signature[:32])
    scalar = int.from_bytes(signature[32:], "little")
    if key is None or nonce is None or scalar >= _ORDER:
        return False
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + public_key + message).digest(), "little") % _ORDER
    base = _point((4 * pow(5, -1, _P) % _P).to_bytes(32, "little"))
    assert base is not None
    left, right = _times(scalar, base), _plus(nonce, _times(challenge, key))
    return (left[0] * right[2] - right[0] * left[2]) % _P == 0 and (left[1] * right[2] - right[1] * left[2]) % _P == 0


def _point(encoded: bytes) -> _Point | None:
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, number & (2**255 - 1)
    if y >= _P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _ROOT_OF_MINUS_1 % _P
    if (x * x - square) % _P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = _P - x
    return x, y, 1, x * y % _P


def _plus(one: _Point, other: _Point) -> _Point:
    a = (one[1] - one[0]) * (other[1] - other[0]) % _P
    b = (one[1] + one[0]) * (other[1] + other[0]) % _P
    c = 2 * one[3] * other[3] * _D % _P
    d = 2 * one[2] * other[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times(scalar: int, point: _Point) -> _Point:
    found: _Point = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            found = _plus(found, point)
        point = _plus(point, point)
        scalar >>= 1
    return found


# --- what a person gets to see ------------------------------------------------------------------


def told(finding: Finding) -> list[str]:
    """The finding in sentences."""
    fault = finding.fault
    if fault is not None:
        where = f" ({_span(fault.first_event, fault.last_event)})" if fault.first_event else ""
        return [f"NOT ACCEPTED: line {fault.line}{where}: {fault.kind}: {fault.what}."]
    epochs = f"epoch {finding.epochs[0]}" if len(finding.epochs) == 1 else f"{len(finding.epochs)} epochs"
    said = [
        f"ACCEPTED: {finding.events} events, {finding.first_event} to {finding.last_event}, {epochs}, of the store "
        f"{finding.store_id}.",
        f"Last hash: {finding.last_hash}",
        "Shown: within the export nothing was changed, removed, re-ordered or added.",
    ]
    if finding.seal == "of the given key":
        said.append("Shown: it was sealed with the key that you gave, so no part of it was hashed anew afterwards.")
    elif finding.seal == "of the key in the export":
        said.append(f"It is sealed with the key {finding.public_key}. Whose that is, you have to know from elsewhere:")
        said.append("  `btmctl audit verify` shows the store's; give it with --public-key.")
    else:
        said.append("Not shown: that it was not hashed anew as a whole: it has no seal. --head compares with heads.")
    said.extend(f"Known head: {one}" for one in finding.heads)
    said.append("Not shown: that whoever held the store's keys wrote down what truly happened.")
    return said


def _span(first: int, last: int) -> str:
    return f"event {first}" if last <= first else f"events {first} to {last}"


def _shown(text: str) -> str:
    """What stands in the file does not steer the terminal."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _head(text: str) -> Head:
    match = re.fullmatch(r"(\d{1,9}):(\d{1,18}):([0-9a-f]{64})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not EPOCH:EVENT:HASH")
    return Head(int(match[1]), int(match[2]), match[3])


def _key(text: str) -> str:
    if re.fullmatch("[0-9a-fA-F]{64}", text) is None:
        raise argparse.ArgumentTypeError("a public key has 64 hex digits")
    return text.lower()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="Verifies an export of btmd's event log.")
    parser.add_argument("export", help="the file that `btmctl audit export` wrote")
    parser.add_argument("--public-key", type=_key, metavar="HEX", help="the key it has to be sealed with")
    parser.add_argument(
        "--head",
        type=_head,
        action="append",
        default=[],
        metavar="EPOCH:EVENT:HASH",
        help="where the log ended once, as `btmctl audit verify` showed it; may be given several times",
    )
    parser.add_argument("--json", action="store_true", help="the finding as one JSON document")
    given = parser.parse_args(arguments)
    try:
        finding = verify(given.export, given.public_key or "", given.head)
    except NoExport as error:
        print(_shown(str(error)), file=sys.stderr)
        return UNUSABLE
    if given.json:
        print(json.dumps({"accepted": finding.fault is None, **asdict(finding)}, indent=2))
    else:
        print("\n".join(map(_shown, told(finding))))
    return finding.exit_code


if __name__ == "__main__":
    sys.exit(main())
