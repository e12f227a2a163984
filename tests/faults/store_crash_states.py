"""What a disk may hold after a power cut, made from a record of all changes below SQLite.

Model: a sync makes everything written to that file before it durable, a sync of a folder makes names durable. Of what
was written since, any part may be there: dropped, torn at 512 bytes, in another order. Names (created, renamed,
removed) become durable in order, as journalling file systems do it, up to any point.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from tests.faults.store_shim import Change

SECTOR_BYTES = 512


@dataclass(slots=True)
class Inode:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)

    def sync(self) -> None:
        for change in self.pending:
            apply(self.durable, change)
        self.pending.clear()


def apply(content: bytearray, change: Change) -> None:
    if change.kind == "T":
        if change.number < len(content):
            del content[change.number :]
        else:
            content.extend(bytes(change.number - len(content)))
        return
    end = change.number + len(change.rest)
    if end > len(content):
        content.extend(bytes(end - len(content)))
    content[change.number : end] = change.rest


@dataclass(frozen=True, slots=True)
class CrashState:
    """Files by name as found after the cut, and how many bytes of acknowledgements had been written before it."""

    files: dict[str, bytes]
    acknowledged_bytes: int
    at_change: int


class Disk:
    """Replays the record and says, at any point, what a power cut there may leave."""

    def __init__(self) -> None:
        self.names: dict[str, Inode] = {}
        self.durable_names: dict[str, Inode] = {}
        self.pending_names: list[tuple[str, str, str, Inode | None]] = []

    def play(self, change: Change) -> None:
        name = PurePath(change.path).name
        match change.kind:
            case "C":
                inode = self.names[name] = Inode()
                self.pending_names.append(("C", name, "", inode))
            case "U":
                self.names.pop(name, None)
                self.pending_names.append(("U", name, "", None))
            case "R":
                new = PurePath(change.rest.decode()).name
                self.names[new] = self.names.pop(name)
                self.pending_names.append(("R", name, new, None))
            case "D":
                apply_names(self.durable_names, self.pending_names)
                self.pending_names.clear()
            case "S":
                self.names[name].sync()
            case _:
                self.names[name].pending.append(change)

    def after_power_cut(self, chance: random.Random) -> dict[str, bytes]:
        names = dict(self.durable_names)
        kept = chance.choice((0, len(self.pending_names), chance.randint(0, len(self.pending_names))))
        apply_names(names, self.pending_names[:kept])
        return {name: survivor(inode, chance) for name, inode in names.items()}


def apply_names(names: dict[str, Inode], changes: list[tuple[str, str, str, Inode | None]]) -> None:
    for kind, name, new, inode in changes:
        if kind == "C" and inode is not None:
            names[name] = inode
        elif kind == "U":
            names.pop(name, None)
        elif kind == "R":
            names[new] = names.pop(name)


def survivor(inode: Inode, chance: random.Random) -> bytes:
    """The durable content with a part of what was not synced."""
    content = bytearray(inode.durable)
    pending = list(inode.pending)
    match chance.randrange(6):
        case 0:
            pending = []
        case 1:
            pass
        case 2:
            pending = pending[: chance.randint(0, len(pending))]
        case 3:
            pending = [change for change in pending if chance.random() < 0.5]
        case 4:
            chance.shuffle(pending)
            pending = pending[: chance.randint(0, len(pending))]
        case _:
            pending = [piece for change in pending for piece in torn(change, chance)]
            if chance.random() < 0.5:
                chance.shuffle(pending)
    for change in pending:
        apply(content, change)
    return bytes(content)


def torn(change: Change, chance: random.Random) -> Iterator[Change]:
    """Some of the sectors that the write touched."""
    if change.kind == "T":
        if chance.random() < 0.5:
            yield change
        return
    for start in range(0, len(change.rest), SECTOR_BYTES):
        if chance.random() < 0.5:
            yield Change("W", change.path, change.rest[start : start + SECTOR_BYTES], change.number + start)


def crash_states(changes: list[Change], count: int, seed: int) -> Iterator[CrashState]:
    """``count`` states after power cuts at random points of the record."""
    chance = random.Random(seed)
    points = sorted(chance.randrange(1, len(changes) + 1) for _ in range(count))
    disk, acknowledged_bytes, position = Disk(), 0, 0
    for point in points:
        for change in changes[position:point]:
            if PurePath(change.path).name == "acks":
                acknowledged_bytes += len(change.rest)
            else:
                disk.play(change)
        position = point
        yield CrashState(disk.after_power_cut(chance), acknowledged_bytes, point)


def write_state(state: CrashState, folder: Path) -> None:
    for old in folder.iterdir():
        old.unlink()
    for name, content in state.files.items():
        (folder / name).write_bytes(content)
