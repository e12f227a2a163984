"""A lost database made anew from a backup folder and a key; a drill that proves it beforehand."""

import shutil
from pathlib import Path

import pytest

from btmd.backup import key_ring
from btmd.backup.create import BackupRequest
from btmd.backup.drill import drill
from btmd.backup.key_ring import credential_secret, passphrase_secret
from btmd.backup.keys import Keys, recovery_secret
from btmd.backup.recover import Recovered, recover
from btmd.backup.ring_copies import open_folder_ring
from btmd.errors import BackupNotFound, BtmdError, Damaged, InvalidValue, PartMissing, Tampered, WrongKey
from btmd.store.connection import connect_reader
from btmd.store.migrations import expected_schema, prepare_database
from btmd.store.reader import read_head
from btmd.store.schema import require_schema
from btmd.store.verification import verify_log
from tests.backup.logs import DECIDERS, NOW_US, Place, append, raw_rows, store_id_of


@pytest.fixture(autouse=True)
def quick_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_ring, "ARGON2_MEMORY_KIB", 64)


def recovered(place: Place, machine: Path, secret: key_ring.Secret | None = None, **more: str) -> Recovered:
    keys = Keys(machine / "keys")
    secret = secret or place.keys.secret()
    return recover(machine / "btmd.db", place.target, secret, keys, DECIDERS, now_us=NOW_US, **more)


def test_a_machine_with_only_the_folder_and_a_key_has_its_log_again(place: Place, tmp_path: Path) -> None:
    place.backup()
    append(place.database, 40, seed=2)
    made = place.backup()
    rows, store_id = raw_rows(place.database), store_id_of(place.database)
    key = place.keys.secret()
    shutil.rmtree(place.state)
    machine = tmp_path / "new machine"
    result = recovered(place, machine, key)
    assert sorted(path.name for path in machine.iterdir()) == ["btmd.db", "keys"]
    assert result.backup_id == made.name[:16]
    assert (result.head.seq, result.head.epoch, result.kept) == (280, 2, None)
    assert raw_rows(machine / "btmd.db") == rows
    assert store_id_of(machine / "btmd.db") == store_id
    connection, expected = connect_reader(machine / "btmd.db"), expected_schema()
    require_schema(connection, expected)
    assert verify_log(connection).ok
    connection.close()
    expected.close()
    # It goes on as a store, in its new epoch, and its next backup builds on the old ones.
    append(machine / "btmd.db", 20, seed=3)
    place.database, place.keys = machine / "btmd.db", Keys(machine / "keys")
    more = place.backup()
    assert (more.new_events, more.manifest.epoch, more.rewritten_log) == (20, 2, ())
    assert {row[1] for row in raw_rows(machine / "btmd.db")} == {1, 2}
    place.repository.verify(more.name, place.ring)
    again = recovered(place, tmp_path / "third machine")
    assert again.head.epoch == 3
    assert raw_rows(tmp_path / "third machine" / "btmd.db") == raw_rows(machine / "btmd.db")


def test_every_kind_of_secret_brings_it_back(place: Place, tmp_path: Path) -> None:
    ring = place.ring
    place.keys.set_passphrase(ring, "correct horse battery", NOW_US)
    written_down = place.keys.new_recovery_key(ring, NOW_US)
    key_ring.add_slot(ring, credential_secret(b"c" * 32), NOW_US)
    place.keys.save(ring)
    place.keys.rotate(ring, NOW_US)
    place.backup()
    for number, secret in enumerate(
        (passphrase_secret("correct horse battery"), recovery_secret(written_down), credential_secret(b"c" * 32))
    ):
        machine = tmp_path / f"machine{number}"
        assert recovered(place, machine, secret).head.seq == 240
        # The new machine opens its ring with a key file of its own.
        assert Keys(machine / "keys").open(store_id_of(machine / "btmd.db"), NOW_US).keys == ring.keys


def test_a_wrong_key_says_so_and_changes_nothing(place: Place, tmp_path: Path) -> None:
    place.backup()
    with pytest.raises(WrongKey):
        recovered(place, tmp_path / "machine", passphrase_secret("not the passphrase"))
    assert not (tmp_path / "machine").exists()


def test_the_database_that_was_there_is_kept_with_its_write_ahead_log(place: Place) -> None:
    place.backup()
    place.database.write_bytes(b"damaged")
    wal = place.database.with_name("btmd.db-wal")
    wal.write_bytes(b"its log")
    place.database.with_name("btmd.db-shm").write_bytes(b"")
    result = recover(place.database, place.target, place.keys.secret(), place.keys, DECIDERS, now_us=NOW_US)
    assert result.kept is not None
    assert result.kept.read_bytes() == b"damaged"
    assert result.kept.with_name(result.kept.name + "-wal").read_bytes() == b"its log"
    assert not wal.exists()
    assert len(raw_rows(place.database)) == 240


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("cut", Damaged),
        ("gone", PartMissing),
        ("swapped", Tampered),
        ("ring gone", PartMissing),
        ("manifests spoiled", Damaged),
    ],
)
def test_half_a_backup_is_named_and_changes_nothing(
    place: Place, tmp_path: Path, what: str, error: type[BtmdError]
) -> None:
    place.backup()
    append(place.database, 30, seed=2)
    made = place.backup()
    first, second = (place.object(part) for part in made.manifest.segments)
    match what:
        case "cut":
            first.write_bytes(first.read_bytes()[:-40])
        case "gone":
            second.unlink()
        case "swapped":
            first.write_bytes(second.read_bytes())
        case "manifests spoiled":
            for manifest in (place.target / "manifests").iterdir():
                manifest.write_bytes(manifest.read_bytes()[:-40])
        case _:
            shutil.rmtree(place.target / "rings")
    machine = tmp_path / "machine"
    machine.mkdir()
    (machine / "btmd.db").write_bytes(b"what is left")
    with pytest.raises(error):
        recovered(place, machine)
    assert [(path.name, path.read_bytes()) for path in machine.iterdir()] == [("btmd.db", b"what is left")]


def test_an_older_backup_is_taken_when_it_is_named(place: Place, tmp_path: Path) -> None:
    older = place.backup()
    append(place.database, 30, seed=2)
    newer = place.backup()
    place.object(newer.manifest.segments[1]).unlink()
    result = recovered(place, tmp_path / "machine", backup_id=older.name[:12])
    assert result.head.seq == 240


def test_only_a_full_backup_makes_a_database(place: Place, tmp_path: Path) -> None:
    config = place.backup(BackupRequest("config"))
    with pytest.raises(BackupNotFound):
        recovered(place, tmp_path / "machine")
    with pytest.raises(InvalidValue):
        recovered(place, tmp_path / "machine", backup_id=config.name)


def test_of_several_stores_the_key_finds_its_own(place: Place, tmp_path: Path) -> None:
    place.backup()
    theirs = Place(tmp_path / "other")
    append(theirs.database, 20, seed=8)
    theirs.target, theirs.repository = place.target, place.repository
    theirs.backup()
    assert recovered(theirs, tmp_path / "machine").head.seq == 20
    with pytest.raises(WrongKey):
        open_folder_ring(place.repository.folder, passphrase_secret("nobody's passphrase"))


def test_a_rebuilt_database_opens_as_it_is(place: Place, tmp_path: Path) -> None:
    place.backup()
    recovered(place, tmp_path / "machine")
    path = tmp_path / "machine" / "btmd.db"
    prepare_database(path, clock=lambda: NOW_US, new_id=lambda: "another")
    connection = connect_reader(path)
    assert read_head(connection).seq == 240
    connection.close()


def test_with_the_ring_lost_old_and_new_backups_are_recovered_with_the_key_file(place: Place, tmp_path: Path) -> None:
    older = place.backup()
    append(place.database, 20, seed=2)
    place.keys.ring_path.unlink()
    newer = place.backup()
    assert newer.new_events == 20, "the old keys came back from the folder"
    for number, made in enumerate((older, newer)):
        recovered(place, tmp_path / f"machine{number}", backup_id=made.name)


def test_with_all_keys_lost_no_new_ones_are_made_and_the_recovery_key_brings_them_back(
    place: Place, tmp_path: Path
) -> None:
    written_down = place.keys.new_recovery_key(place.ring, NOW_US)
    older = place.backup()
    shutil.rmtree(place.keys.folder)
    with pytest.raises(PartMissing, match="key file") as refused:
        place.backup()
    assert "backup key renew --recovery-key" in refused.value.hint
    assert not place.keys.folder.exists()
    ring = place.keys.open_with(recovery_secret(written_down), older.manifest.store_id, NOW_US)
    place.keys.renew_key_file(ring, NOW_US)
    append(place.database, 20, seed=2)
    newer = place.backup()
    assert newer.new_events == 20, "it builds on what the old keys sealed"
    for number, made in enumerate((older, newer)):
        recovered(place, tmp_path / f"machine{number}", recovery_secret(written_down), backup_id=made.name)


@pytest.mark.parametrize("harm", ["missing", "damaged"])
def test_the_ring_here_and_the_copies_heal_each_other(place: Place, harm: str) -> None:
    place.backup()
    (copy,) = (place.target / "rings").iterdir()
    for path in (place.keys.ring_path, copy):
        if harm == "missing":
            path.unlink()
        else:
            path.write_bytes(b"no ring" * 100)
        made = place.backup()
        place.repository.verify(made.name, place.ring)
        assert key_ring.read_head(path.read_bytes()).store_id == made.manifest.store_id
    for path in (place.keys.ring_path, copy):
        path.write_bytes(b"no ring" * 100)
    with pytest.raises(PartMissing, match="is damaged") as refused:
        place.backup()
    assert "key renew" in refused.value.hint
    store_id = made.manifest.store_id
    place.keys.begin_anew(store_id, NOW_US)
    place.repository.verify(place.backup().name, place.ring)
    assert list(place.keys.folder.glob("ring.before-*")), "what nothing opens now is kept"


def test_a_ring_that_took_the_place_of_the_old_one_learns_its_keys_by_the_recovery_key(place: Place) -> None:
    written_down = place.keys.new_recovery_key(place.ring, NOW_US)
    older = place.backup()
    shutil.rmtree(place.keys.folder)
    Keys(place.keys.folder).open(older.manifest.store_id, NOW_US + 1)
    newer = place.backup()
    with pytest.raises(WrongKey):
        place.repository.verify(older.name, place.ring)
    ring = place.keys.open_with(recovery_secret(written_down), older.manifest.store_id, NOW_US)
    place.keys.renew_key_file(ring, NOW_US)
    for made in (older, newer):
        place.repository.verify(made.name, place.ring)


def test_the_newest_backup_that_the_key_opens_is_taken_and_newer_ones_are_named(place: Place, tmp_path: Path) -> None:
    written_down = place.keys.new_recovery_key(place.ring, NOW_US)
    older = place.backup()
    place.keys.folder.rename(tmp_path / "old keys")
    Keys(place.keys.folder).open(older.manifest.store_id, NOW_US + 1)
    newer = place.backup()
    result = recovered(place, tmp_path / "machine", recovery_secret(written_down))
    assert (result.backup_id, result.unopened) == (older.name[:16], (newer.name[:16],))
    with pytest.raises(BackupNotFound, match="no store zz"):
        recovered(place, tmp_path / "other", store_id="zz")


def test_an_older_backup_is_not_taken_without_a_word_where_the_newest_is_damaged(place: Place, tmp_path: Path) -> None:
    older = place.backup()
    append(place.database, 20, seed=2)
    newer = place.backup()
    manifest = place.target / "manifests" / newer.name
    manifest.write_bytes(manifest.read_bytes()[:-40])
    result = recovered(place, tmp_path / "machine")
    assert (result.backup_id, result.unreadable) == (older.name[:16], (newer.name[:16],))


def test_a_log_that_tells_of_keys_gets_no_new_ones(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys", made_before=True)
    for make in (True, False):
        with pytest.raises(PartMissing):
            keys.open("store0001", NOW_US, make=make)
    with pytest.raises(PartMissing, match="no keys yet"):
        Keys(tmp_path / "keys").open("store0001", NOW_US, make=False)
    assert not keys.folder.exists()


def test_keys_put_back_from_an_old_copy_learn_what_they_missed(place: Place, tmp_path: Path) -> None:
    place.backup()
    old_ring = place.keys.ring_path.read_bytes()
    place.keys.dataset_key(place.ring, "faq", NOW_US)
    append(place.database, 20, seed=2)
    place.backup()
    place.keys.ring_path.write_bytes(old_ring)
    append(place.database, 20, seed=3)
    place.backup()
    assert place.ring.dataset_key_id("faq") is not None
    assert recovered(place, tmp_path / "machine").head.seq == 280


def test_a_drill_proves_the_newest_backup_and_leaves_nothing(place: Place, tmp_path: Path) -> None:
    made = place.backup()
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    result = drill(place.repository, place.ring, DECIDERS, tmp, now_us=NOW_US)
    assert (result.proved, result.state, result.events) == (True, "matches", 240)
    assert (result.backup_id, result.head_hash) == (made.name[:16], made.manifest.head_hash)
    assert result.duration_us > 0
    place.object(made.manifest.segments[0]).unlink()
    failed = drill(place.repository, place.ring, DECIDERS, tmp, now_us=NOW_US)
    assert (failed.proved, failed.code) == (False, "part_missing")
    assert list(tmp.iterdir()) == []


def test_a_drill_needs_a_full_backup(place: Place, tmp_path: Path) -> None:
    place.backup(BackupRequest("config"))
    with pytest.raises(BackupNotFound):
        drill(place.repository, place.ring, DECIDERS, tmp_path, now_us=NOW_US)
