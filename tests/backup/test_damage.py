"""Damage and tampering of every sort: each is named for what it is, and nothing is changed by finding it."""

import io
import os
import random
import secrets
import shutil
from pathlib import Path

import msgspec
import pytest

from benchmarks.results import Figure, Topic, record
from btmd.backup.manifests import Manifest, write_manifest
from btmd.backup.sealed_file import open_sealed, seal_into
from btmd.backup.segments import write_segment
from btmd.errors import BtmdError, Damaged, PartMissing, Tampered, WrongKey
from btmd.store.row_columns import pack_rows
from tests.backup.logs import Place, all_rows, append

PROOF = os.environ.get("BTMD_PROOF") == "1"


@pytest.fixture
def chained(place: Place) -> tuple[Place, Manifest, str]:
    """A backup of three segments."""
    place.backup()
    for seed in (2, 3):
        append(place.database, 30, seed=seed)
        made = place.backup()
    return place, made.manifest, made.name


def refusal(place: Place, name: str) -> type[BtmdError]:
    """What a check says; it must leave every file as it is."""
    before = place.files()
    with pytest.raises(BtmdError) as refused:
        place.repository.verify(name, place.ring)
    assert place.files() == before
    return type(refused.value)


def test_flips_of_a_bit_and_truncations_of_any_file_are_damage(chained: tuple[Place, Manifest, str]) -> None:
    place, manifest, name = chained
    paths = [place.manifest(name), *(place.object(part) for part in manifest.segments)]
    seed = secrets.randbits(32) if PROOF else 11
    drawn = random.Random(seed)
    ways = [flipped] * (2000 if PROOF else 60) + [cut] * (200 if PROOF else 30)
    for spoil in ways:
        path = drawn.choice(paths)
        whole = path.read_bytes()
        path.write_bytes(spoil(whole, drawn))
        assert refusal(place, name) is Damaged, seed
        with pytest.raises(Damaged):
            place.repository.check_bytes(name)
        path.write_bytes(whole)
    place.repository.verify(name, place.ring)
    if PROOF:
        record(
            Topic(
                "Backups: damage",
                "make proof-backup-faults",
                [
                    Figure("flips of one bit", [ways.count(flipped)], "", ">= 2000", 0),
                    Figure("truncations", [ways.count(cut)], "", ">= 200", 0),
                    Figure("not named as damage, or anything changed", [0], "", "<= 0", 0),
                ],
                notes=["In the manifest and the segments of a backup of three segments, a fresh seed each run."],
            )
        )


def flipped(whole: bytes, drawn: random.Random) -> bytes:
    spoiled = bytearray(whole)
    spoiled[drawn.randrange(len(whole))] ^= 1 << drawn.randrange(8)
    return bytes(spoiled)


def cut(whole: bytes, drawn: random.Random) -> bytes:
    return whole[: drawn.randrange(len(whole))]


def test_swapped_segments_are_tampering(chained: tuple[Place, Manifest, str]) -> None:
    place, manifest, name = chained
    first, second = (place.object(part) for part in manifest.segments[:2])
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    assert refusal(place, name) is Tampered


def test_a_repeated_segment_is_tampering(chained: tuple[Place, Manifest, str]) -> None:
    place, manifest, name = chained
    shutil.copyfile(place.object(manifest.segments[1]), place.object(manifest.segments[2]))
    assert refusal(place, name) is Tampered


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_missing_segment_is_missing(chained: tuple[Place, Manifest, str], which: int) -> None:
    place, manifest, name = chained
    place.object(manifest.segments[which]).unlink()
    assert refusal(place, name) is PartMissing


def test_a_manifest_under_another_name_is_tampering(chained: tuple[Place, Manifest, str]) -> None:
    place, _, name = chained
    older = next(other for other in place.repository.folder.manifest_ids() if other != name)
    shutil.copyfile(place.manifest(older), place.manifest(name))
    assert refusal(place, name) is Tampered


def test_a_segment_of_another_store_is_tampering(
    chained: tuple[Place, Manifest, str], tmp_path: Path, template: Path
) -> None:
    place, manifest, name = chained
    theirs = Place(tmp_path / "other")
    append(theirs.database, 40, seed=5)
    foreign = theirs.backup().manifest.segments[0]
    shutil.copyfile(theirs.object(foreign), place.object(manifest.segments[1]))
    assert refusal(place, name) is Tampered


def test_a_foreign_ring_opens_nothing(chained: tuple[Place, Manifest, str], tmp_path: Path) -> None:
    place, _, name = chained
    theirs = Place(tmp_path / "other")
    append(theirs.database, 10, seed=5)
    with pytest.raises(WrongKey):
        place.repository.verify(name, theirs.ring)


def forged(place: Place, manifest: Manifest, segments: tuple[str, ...]) -> str:
    """A manifest over other segments, by somebody who holds the key."""
    ring = place.ring
    changed = msgspec.structs.replace(manifest, segments=segments, part_sizes=(1,) * len(set(segments)))
    return write_manifest(place.repository.folder, changed, key_id=ring.current, key=ring.current_key)


@pytest.mark.parametrize("order", [(0, 2), (1, 2), (0, 1), (0, 2, 1), (0, 1, 1, 2), (0, 1, 2, 2), ()])
def test_even_with_the_key_links_and_chain_have_to_fit(chained: tuple[Place, Manifest, str], order: list[int]) -> None:
    place, manifest, _ = chained
    name = forged(place, manifest, tuple(manifest.segments[at] for at in order))
    assert refusal(place, name) is Tampered


@pytest.mark.parametrize("what", ["store", "previous", "range", "rows"])
def test_a_header_that_does_not_fit_its_rows_is_tampering(chained: tuple[Place, Manifest, str], what: str) -> None:
    place, manifest, _ = chained
    ring = place.ring
    rows = all_rows(place.database)[240:270]
    held = rows[:-1] if what == "rows" else rows
    made = write_segment(
        place.repository.folder,
        held,
        pack_rows(held),
        store_id="another" if what == "store" else manifest.store_id,
        key_id=ring.current,
        key=ring.current_key,
        previous="" if what == "previous" else manifest.segments[0],
        schema=1,
        whole=True,
    )
    if what == "range":
        made_header = {"kind": "segment", "format": 1, "key_id": ring.current, "store_id": manifest.store_id}
        made_header |= {"epoch": 1, "first_seq": 241, "last_seq": 269, "count": 29, "prev_hash": "", "last_hash": ""}
        made_header |= {"previous": manifest.segments[0], "schema": 1, "whole": True}
        path = place.object(made.id)
        with path.open("rb") as file:
            body = b"".join(open_sealed(file, made.id, ring.opening_keys)[1])
        again = io.BytesIO()
        made = seal_into(again, made_header, ring.current_key, [body])
        place.object(made.id).parent.mkdir(exist_ok=True)
        place.object(made.id).write_bytes(again.getvalue())
    name = forged(place, manifest, (manifest.segments[0], made.id, manifest.segments[2]))
    assert refusal(place, name) is Tampered


def test_a_state_that_a_replay_does_not_give_is_noticed(chained: tuple[Place, Manifest, str]) -> None:
    place, manifest, _ = chained
    ring = place.ring
    other = msgspec.structs.replace(manifest, state_hash="0" * 64)
    name = write_manifest(place.repository.folder, other, key_id=ring.current, key=ring.current_key)
    assert refusal(place, name) is Tampered
    newer = msgspec.structs.replace(other, state_code="made by other code")
    name = write_manifest(place.repository.folder, newer, key_id=ring.current, key=ring.current_key)
    assert place.repository.verify(name, ring).state == "other_code"
