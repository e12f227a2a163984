"""Which rows are held out to test on: a function of the seed and of what the rows say, never of their order."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from btmd.data.rows import Row, Side, row_key

SPLIT_RULE: Final = 1
"""How new trainings split: 0, by the prompt alone, as the first release did; 1, also by near-duplicates."""

_FEWEST_TO_SPLIT: Final = 4


def held_out(key: bytes, fraction: float, seed: int) -> bool:
    """Whether the prompt with this key belongs to the held-out part: a function of key and seed alone."""
    return _place(key, seed) < fraction


def _place(key: bytes, seed: int) -> float:
    digest = hashlib.blake2b(key, digest_size=8, key=seed.to_bytes(16, "little", signed=True)).digest()
    return int.from_bytes(digest, "little") / 2**64


class Split(Struct, frozen=True):
    """Which rows are held out. ``leaked`` counts held-out rows whose prompt or whose like is also trained on."""

    held_out: list[bool]
    leaked: int
    explicit: bool
    """The source said it itself."""


def split_rows(
    keys: Sequence[bytes],
    sides: Sequence[Side | None],
    *,
    fraction: float,
    seed: int,
    groups: Sequence[int] | None = None,
) -> Split:
    """Decide for every row, by its key from `row_key`, whether it is held out.

    ``groups`` are the labels of `Groups.labels`: rows with one prompt or one label are always on one side. A source
    that names held-out rows is obeyed (its unnamed rows are trained on). From four groups on there is at least one held
    out and one to train on; with ``groups``, none that has more rows than the fraction asks for is held out while
    there are smaller ones. A ``fraction`` of 0 holds nothing out.
    """
    if "held_out" in sides:
        chosen = [side == "held_out" for side in sides]
        return Split(chosen, sum(leaking_rows(keys, chosen, groups)), explicit=True)
    if fraction <= 0:
        return Split([False] * len(keys), 0, explicit=False)
    if groups is None:
        out = _chosen({key: _place(key, seed) for key in keys}, fraction)
        return Split([key in out for key in keys], 0, explicit=False)
    names = _names(keys, groups)
    places = {name: _place(name, seed) for name in names}
    # A crowd of like rows, held out, would leave little to train on and say little of the rest.
    sizes = Counter(names)
    most = max(int(len(keys) * fraction), min(sizes.values(), default=0))
    small = {name: place for name, place in places.items() if sizes[name] <= most}
    out = _chosen(small, fraction, of=len(places))
    return Split([name in out for name in names], 0, explicit=False)


def leaking_rows(keys: Sequence[bytes], held_out: Sequence[bool], groups: Sequence[int] | None) -> list[bool]:
    """Which held-out rows have the prompt or the like of a row that is trained on."""
    trained = {key for key, out in zip(keys, held_out, strict=True) if not out}
    labels = range(len(keys)) if groups is None else groups
    alike = {label for label, out in zip(labels, held_out, strict=True) if not out}
    return [out and (key in trained or label in alike) for key, label, out in zip(keys, labels, held_out, strict=True)]


def _chosen(places: dict[bytes, float], fraction: float, of: int | None = None) -> set[bytes]:
    """The prompts or groups to hold out; ``of`` is how many there are when some cannot be."""
    total = len(places) if of is None else of
    out = {key for key, place in places.items() if place < fraction}
    if total < _FEWEST_TO_SPLIT or not places:
        return set()
    if not out:
        return {min(places, key=lambda key: (places[key], key))}
    if len(out) == total:
        out.discard(max(places, key=lambda key: (places[key], key)))
    return out


def _names(keys: Sequence[bytes], groups: Sequence[int]) -> list[bytes]:
    """For each row the least key among all rows that share a prompt or a label with it, over any number of steps."""
    above = list(range(len(keys)))

    def first(index: int) -> int:
        while above[index] != index:
            above[index] = above[above[index]]
            index = above[index]
        return index

    by_key: dict[bytes, int] = {}
    for index, (key, label) in enumerate(zip(keys, groups, strict=True)):
        for other in (by_key.setdefault(key, index), label):
            if other != index:
                above[first(index)] = first(other)
    names: dict[int, bytes] = {}
    firsts = [first(index) for index in range(len(keys))]
    for index, key in zip(firsts, keys, strict=True):
        names[index] = min(names.get(index, key), key)
    return [names[index] for index in firsts]


def sides_and_keys(rows: Iterable[Row]) -> tuple[list[bytes], list[Side | None]]:
    """What `split_rows` needs, from rows read once."""
    keys: list[bytes] = []
    sides: list[Side | None] = []
    for row in rows:
        keys.append(row_key(row))
        sides.append(row.get("split"))
    return keys, sides
