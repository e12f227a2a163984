"""Contents of datasets and adapters in a backup: once each, under the right key, back to the byte."""

import hashlib
import random
from pathlib import Path

import msgspec
import pytest

from btmd.backup.artefacts import Artefact, bring_back
from btmd.backup.create import BackupRequest
from btmd.backup.folder import BackupFolder
from btmd.backup.manifests import ArtefactKind, StoredArtefact
from btmd.backup.ring_copies import hand_out
from btmd.errors import Damaged, InvalidValue, PartMissing, Tampered, WrongKey
from tests.backup.logs import NOW_US, Place, append


def artefact(root: Path, owner: str, kind: ArtefactKind = "dataset", content: bytes | None = None) -> Artefact:
    content = content if content is not None else random.Random(owner).randbytes(900_000) + bytes(300_000)
    path = root / f"{kind}-{owner}"
    path.write_bytes(content)
    return Artefact(
        kind,
        owner,
        "rows.jsonl" if kind == "dataset" else "adapter_model.safetensors",
        path,
        hashlib.sha256(content).hexdigest(),
        len(content),
        owner if kind == "dataset" else None,
    )


def brought_back(place: Place, stored: StoredArtefact, target: Path) -> Path:
    target.mkdir(exist_ok=True)
    return bring_back(place.repository.folder, stored, place.ring.opening_keys, target, target)


def test_files_come_back_to_the_byte_and_are_kept_once(place: Place, tmp_path: Path) -> None:
    files = (artefact(tmp_path, "faq"), artefact(tmp_path, "job1", "adapter"), artefact(tmp_path, "none", content=b""))
    first = place.backup(BackupRequest(artefacts=files))
    append(place.database, 10, seed=2)
    second = place.backup(BackupRequest(artefacts=files))
    assert first.written_bytes > 1_800_000
    assert second.written_bytes < 10_000
    place.repository.delete([first.name])
    manifest = place.repository.show(second.name, place.ring)
    assert place.repository.verify(second.name, place.ring).artefacts == 3
    for file, stored in zip(files, manifest.artefacts, strict=True):
        back = brought_back(place, stored, tmp_path / f"back-{file.owner}")
        assert back.read_bytes() == file.path.read_bytes()


def test_a_rotation_does_not_write_adapters_again(place: Place, tmp_path: Path) -> None:
    file = artefact(tmp_path, "job1", "adapter")
    place.backup(BackupRequest(artefacts=(file,)))
    place.keys.rotate(place.ring, NOW_US)
    again = place.backup(BackupRequest(artefacts=(file,)))
    assert again.written_bytes < 10_000
    place.repository.verify(again.name, place.ring)


def test_each_datasets_contents_have_their_own_key(place: Place, tmp_path: Path) -> None:
    same = b"the same rows" * 1000
    files = (artefact(tmp_path, "one", content=same), artefact(tmp_path, "two", content=same))
    made = place.backup(BackupRequest(artefacts=files))
    key_ids = [stored.key_id for stored in made.manifest.artefacts]
    assert len({*key_ids, place.ring.current}) == 3
    assert len({stored.object_id for stored in made.manifest.artefacts}) == 2


def test_an_erased_dataset_cannot_be_read_from_any_backup_and_the_rest_stays_whole(
    place: Place, tmp_path: Path
) -> None:
    files = (artefact(tmp_path, "faq"), artefact(tmp_path, "job1", "adapter"))
    made = place.backup(BackupRequest(artefacts=files))
    ring = place.ring
    place.keys.erase_dataset(ring, "faq")
    assert hand_out(ring, place.keys.ring_path.read_bytes()) == []
    verified = place.repository.verify(made.name, place.ring)
    assert (verified.artefacts, verified.erased) == (1, 1)
    with pytest.raises(WrongKey):
        brought_back(place, made.manifest.artefacts[0], tmp_path / "back")
    assert list((tmp_path / "back").iterdir()) == []
    # Registered again, it gets another key, and its old bytes are of no use.
    again = place.backup(BackupRequest(artefacts=files))
    assert again.manifest.artefacts[0].key_id != made.manifest.artefacts[0].key_id
    assert place.repository.verify(again.name, place.ring).erased == 0


def test_a_file_that_is_not_what_was_registered_is_not_backed_up(place: Place, tmp_path: Path) -> None:
    file = artefact(tmp_path, "faq")
    file.path.write_bytes(file.path.read_bytes()[:-1] + b"x")
    with pytest.raises(Damaged, match="registered"):
        place.backup(BackupRequest(artefacts=(file,)))
    file.path.unlink()
    with pytest.raises(PartMissing):
        place.backup(BackupRequest(artefacts=(file,)))
    assert place.repository.folder.manifest_ids() == []
    place.backup()


@pytest.mark.parametrize(
    "name", ["../key", "/etc/passwd", "..", ".", "", "a/b", "a\\..\\b", "a..b", ".hidden", "x" * 300]
)
def test_names_that_lead_elsewhere_are_refused_both_ways(place: Place, tmp_path: Path, name: str) -> None:

    file = artefact(tmp_path, "job1", "adapter")
    for bad in (msgspec.structs.replace(file, name=name), msgspec.structs.replace(file, owner=name)):
        with pytest.raises(InvalidValue):
            place.backup(BackupRequest(artefacts=(bad,)))
    stored = place.backup(BackupRequest(artefacts=(file,))).manifest.artefacts[0]
    with pytest.raises(InvalidValue):
        brought_back(place, msgspec.structs.replace(stored, name=name), tmp_path / "back")
    assert list((tmp_path / "back").iterdir()) == []


def test_a_damaged_or_exchanged_file_never_stands_under_its_name(place: Place, tmp_path: Path) -> None:
    files = (artefact(tmp_path, "job1", "adapter"), artefact(tmp_path, "job2", "adapter", b"other" * 100_000))
    made = place.backup(BackupRequest(artefacts=files))
    one, other = made.manifest.artefacts
    path = place.object(one.object_id)
    whole = path.read_bytes()
    for changed, error in ((whole[:-5000], Damaged), (place.object(other.object_id).read_bytes(), Tampered)):
        path.write_bytes(changed)
        with pytest.raises(error):
            brought_back(place, one, tmp_path / "back")
        with pytest.raises(error):
            place.repository.verify(made.name, place.ring)
        assert list((tmp_path / "back").iterdir()) == []


def test_a_planted_link_in_the_target_is_replaced_and_not_followed(place: Place, tmp_path: Path) -> None:
    stored = place.backup(BackupRequest(artefacts=(artefact(tmp_path, "job1", "adapter"),))).manifest.artefacts[0]
    target = tmp_path / "back"
    target.mkdir()
    (tmp_path / "victim").write_bytes(b"precious")
    (target / stored.name).symlink_to(tmp_path / "victim")
    brought_back(place, stored, target)
    assert (tmp_path / "victim").read_bytes() == b"precious"
    assert not (target / stored.name).is_symlink()


def test_the_folder_knows_no_names_but_its_own(tmp_path: Path) -> None:
    folder = BackupFolder(tmp_path / "backups")
    with folder.changing():
        (tmp_path / "backups" / "manifests" / "not-a-hash").write_bytes(b"")
        (tmp_path / "backups" / "objects" / "zz").mkdir()
        (tmp_path / "backups" / "objects" / "zz" / "..foreign").write_bytes(b"")
    assert folder.manifest_ids() == []
    assert folder.object_sizes() == {}
