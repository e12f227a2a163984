"""Making, listing, checking, copying and deleting backups."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from btmd.backup import create, row_check, segments
from btmd.backup.create import BackupRequest
from btmd.backup.manifests import Omission
from btmd.backup.repository import Repository, copy_backup
from btmd.backup.segments import read_chain
from btmd.errors import (
    BackupFolderFull,
    BackupFolderUnusable,
    BackupNotFound,
    Damaged,
    InvalidValue,
    PartMissing,
    StoreFailed,
    Tampered,
    WrongKey,
)
from btmd.store.recorded import genesis_hash
from tests.backup.logs import DECIDERS, NOW_US, Place, append, changed_by_hand, raw_rows


def rows_in(place: Place, name: str) -> list[tuple[object, ...]]:
    ring = place.ring
    manifest = place.repository.show(name, ring)
    genesis = genesis_hash(manifest.store_id) if manifest.backup_kind == "full" else None
    chain = read_chain(
        place.repository.folder, manifest.segments, ring.opening_keys, store_id=manifest.store_id, genesis=genesis
    )
    return [row.row() for rows in chain for row in rows]


def test_a_full_backup_holds_every_row_bit_for_bit(place: Place) -> None:
    made = place.backup(BackupRequest(description="Before the experiment"))
    assert rows_in(place, made.name) == raw_rows(place.database)
    manifest = place.repository.show(made.name, place.ring)
    assert (manifest.description, manifest.events, manifest.head_seq) == ("Before the experiment", 240, 240)
    assert place.repository.verify(made.name, place.ring).state == "matches"


def test_twenty_new_events_cost_under_ten_kilobytes_and_the_segment_under_three(place: Place) -> None:
    place.backup()
    append(place.database, 20, seed=2)
    made = place.backup()
    assert (made.new_events, len(made.manifest.segments)) == (20, 2)
    assert made.manifest.part_sizes[-1] < 3_000
    assert made.written_bytes < 10_000
    assert rows_in(place, made.name) == raw_rows(place.database)


def test_the_state_of_a_long_chain_is_that_of_a_fresh_backup(place: Place) -> None:
    for seed in range(2, 6):
        append(place.database, 30, seed=seed)
        place.backup()
    chained, anew = place.backup(), place.backup(BackupRequest(anew=True))
    assert len(anew.manifest.segments) == 1
    assert chained.manifest.state_hash == anew.manifest.state_hash
    for made in (chained, anew):
        place.repository.verify(made.name, place.ring)


def test_an_empty_log_can_be_backed_up(tmp_path: Path) -> None:
    place = Place(tmp_path)
    append(place.database, 0, seed=1)
    made = place.backup()
    assert place.repository.verify(made.name, place.ring).events == 0
    append(place.database, 15, seed=2)
    assert place.backup().new_events == 15


def test_configuration_and_selected_parts_hold_their_streams_and_say_what_they_do_not(place: Place) -> None:
    config = place.backup(BackupRequest("config"))
    jobs = place.backup(BackupRequest("selective", only=("jobs",)))
    append(place.database, 60, seed=2)
    more = place.backup(BackupRequest("config"))
    ring = place.ring
    prefixes = {"config": ("settings", "dataset-"), "selective": ("job-", "ticks-")}
    for made in (config, jobs, more):
        assert place.repository.verify(made.name, ring).state == "matches"
        wanted = prefixes[made.manifest.backup_kind]
        expected = [row for row in raw_rows(place.database) if str(row[2]).startswith(wanted)]
        assert rows_in(place, made.name) == expected[: made.manifest.events]
    assert [one.what for one in config.manifest.omissions] == ["history of jobs"]
    assert len(more.manifest.segments) == 2
    assert "settings" in " ".join(one.what for one in jobs.manifest.omissions)


def test_contents_that_are_left_out_are_listed(place: Place) -> None:
    omission = Omission("contents of datasets", 2, 5_000_000, "Training on them again needs the files.")
    made = place.backup(BackupRequest(omissions=(omission,)))
    assert place.repository.show(made.name, place.ring).omissions == (omission,)


@pytest.mark.parametrize(
    "request_",
    [BackupRequest("selective"), BackupRequest("selective", only=("weights",)), BackupRequest("full", only=("jobs",))],
)
def test_parts_that_do_not_exist_are_refused(place: Place, request_: BackupRequest) -> None:
    with pytest.raises(InvalidValue):
        place.backup(request_)


def test_a_list_needs_no_key_and_tells_what_deleting_would_free(place: Place) -> None:
    first = place.backup()
    append(place.database, 20, seed=2)
    second = place.backup()
    listed = place.repository.backups()
    assert [one.summary.name for one in listed] == [second.name, first.name]
    for one in listed:
        before = sum(len(data) for data in place.files().values())
        promised = next(now for now in place.repository.backups() if now.summary.name == one.summary.name).freed_bytes
        deleted = place.repository.delete([one.summary.name])
        after = sum(len(data) for data in place.files().values())
        assert before - after == deleted.freed_bytes == promised
    assert place.parts() == []


@pytest.mark.parametrize("which", [0, 1, 2])
def test_deleting_a_backup_breaks_no_other(place: Place, which: int) -> None:
    made = []
    for seed in range(2, 5):
        append(place.database, 20, seed=seed)
        made.append(place.backup().name)
    place.repository.delete([made.pop(which)])
    for name in made:
        place.repository.verify(name, place.ring)
    append(place.database, 5, seed=9)
    assert place.repository.verify(place.backup().name, place.ring).events == 305


def test_while_a_manifest_cannot_be_read_nothing_it_may_need_is_cleared_away(place: Place) -> None:
    first = place.backup()
    append(place.database, 20, seed=2)
    second = place.backup()
    path = place.manifest(first.name)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert place.repository.backups()[-1].summary.fault == "damaged"
    deleted = place.repository.delete([second.name])
    assert not deleted.swept
    path.write_bytes(whole)
    place.repository.verify(first.name, place.ring)
    assert place.repository.delete([first.name]).swept
    assert place.parts() == []


def test_ids_are_found_by_their_beginning(place: Place) -> None:
    made = place.backup()
    assert place.repository.find(made.name[:16]) == place.repository.find(made.name[:5].upper()) == made.name
    for wrong in ("", "zz", "../../etc/passwd", "/etc/passwd"):
        with pytest.raises(BackupNotFound):
            place.repository.find(wrong)
    with pytest.raises(BackupNotFound):
        place.repository.delete(["0" * 64])


def test_a_chain_with_many_short_segments_is_written_anew(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(create, "MAX_SEGMENTS", 4)
    monkeypatch.setattr(create, "MAX_ROWS", 300)
    append(place.database, 60, seed=20)
    monkeypatch.setattr(segments, "MAX_ROWS", 300)
    for seed in range(2, 9):
        made = place.backup()
        assert len(made.manifest.segments) <= 4
        append(place.database, 10, seed=seed)
    last = place.backup()
    # The long first segment is taken over as it is; only short ones are written anew.
    assert last.manifest.segments[0] == made.manifest.segments[0]
    assert rows_in(place, last.name) == raw_rows(place.database)


def test_a_backup_builds_on_no_broken_one(place: Place) -> None:
    first = place.backup()
    place.object(first.manifest.segments[0]).unlink()
    append(place.database, 20, seed=2)
    second = place.backup()
    assert second.new_events == 260
    place.repository.verify(second.name, place.ring)
    with pytest.raises(PartMissing):
        place.repository.verify(first.name, place.ring)


def test_a_log_that_was_rewritten_is_noticed_and_backed_up_from_its_beginning(place: Place, template: Path) -> None:
    append(place.database, 20, seed=2)
    before = place.backup()
    place.database.write_bytes(template.read_bytes())
    append(place.database, 30, seed=3)
    made = place.backup()
    assert made.rewritten_log == (before.name[:16],)
    assert made.new_events == 270
    for name in (before.name, made.name):
        place.repository.verify(name, place.ring)


@pytest.mark.parametrize("checked_beside", [False, True])
def test_a_damaged_log_is_not_backed_up(place: Place, checked_beside: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if checked_beside:
        monkeypatch.setattr(create, "FROM_ROWS", 1)
    with changed_by_hand(place.database) as connection:
        connection.execute("DROP TRIGGER events_never_updated")
        connection.execute("UPDATE events SET data = replace(data, 'log.level', 'log.lever') WHERE seq = 1")
    with pytest.raises(Damaged, match="at event 1:"):
        place.backup()
    assert place.repository.folder.manifest_ids() == []


def test_rows_that_are_checked_beside_make_the_same_backup(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(create, "FROM_ROWS", 1)
    made = place.backup()
    place.repository.verify(made.name, place.ring)
    assert made.manifest.events == 240


def test_a_check_that_could_not_run_is_made_up_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(create, "FROM_ROWS", 1)
    monkeypatch.setattr(row_check.sys, "executable", "/bin/false")
    made = place.backup()
    place.repository.verify(made.name, place.ring)
    with changed_by_hand(place.database) as connection:
        connection.execute("DROP TRIGGER events_never_updated")
        connection.execute("UPDATE events SET data = replace(data, 'log.level', 'log.lever') WHERE seq = 1")
    shutil.rmtree(place.target)
    with pytest.raises(Damaged, match="at event 1:"):
        place.backup()


def test_a_new_key_seals_what_is_new_and_old_parts_stay(place: Place) -> None:
    first = place.backup()
    ring = place.ring
    place.keys.rotate(ring, NOW_US)
    append(place.database, 20, seed=2)
    second = place.backup()
    assert second.manifest.segments[0] == first.manifest.segments[0]
    for name in (first.name, second.name):
        place.repository.verify(name, place.ring)


def test_everything_is_private_and_no_key_goes_along(place: Place) -> None:
    place.backup()
    for path in [place.target, *place.target.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    held = b"".join(place.files().values())
    key_text = place.keys.key_path.read_bytes()
    ring = place.ring
    for secret in (key_text.strip(), place.keys.secret().value, ring.current_key, ring.signing_key, b"log.level"):
        assert secret not in held


@pytest.mark.parametrize("where", ["manifests", "objects", "tmp", "rings"])
def test_a_planted_link_to_a_folder_is_not_followed(place: Place, tmp_path: Path, where: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    place.target.mkdir()
    (place.target / where).symlink_to(elsewhere)
    with pytest.raises(Tampered):
        place.backup()
    assert list(elsewhere.iterdir()) == []


def test_a_planted_link_in_place_of_a_part_is_not_followed(place: Place, tmp_path: Path) -> None:
    made = place.backup()
    part = place.object(made.manifest.segments[0])
    elsewhere = tmp_path / "elsewhere"
    part.rename(elsewhere)
    part.symlink_to(elsewhere)
    with pytest.raises(Tampered, match="link"):
        place.repository.verify(made.name, place.ring)


def test_a_backup_is_copied_with_all_it_needs(place: Place, tmp_path: Path) -> None:
    place.backup()
    append(place.database, 20, seed=2)
    made = place.backup()
    other = Repository(tmp_path / "stick", DECIDERS)
    copy_backup(place.repository.folder, other.folder, made.name)
    assert other.folder.manifest_ids() == [made.name]
    assert other.verify(made.name, place.ring).events == 260
    part = place.object(made.manifest.segments[0])
    there = tmp_path / "stick" / part.relative_to(place.target)
    there.write_bytes(there.read_bytes()[:-1])
    copy_backup(place.repository.folder, other.folder, made.name)
    assert other.verify(made.name, place.ring).events == 260, "a copy that rotted is made whole"
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(Damaged):
        copy_backup(place.repository.folder, Repository(tmp_path / "third", DECIDERS).folder, made.name)


def test_backups_of_another_store_in_the_same_folder_are_left_alone(place: Place, tmp_path: Path) -> None:
    mine = place.backup()
    theirs = Place(tmp_path / "other")
    append(theirs.database, 30, seed=8)
    theirs.target, theirs.repository = place.target, place.repository
    other = theirs.backup()
    assert other.new_events == 30
    with pytest.raises(WrongKey):
        place.repository.verify(other.name, place.ring)
    place.repository.delete([mine.name])
    theirs.repository.verify(other.name, theirs.ring)


def test_a_folder_that_cannot_be_used_is_named(place: Place, tmp_path: Path) -> None:
    with pytest.raises(BackupFolderUnusable, match="no backups"):
        Repository(tmp_path / "nowhere", DECIDERS).backups()
    (tmp_path / "file").write_text("")
    place.repository = Repository(tmp_path / "file" / "backups", DECIDERS)
    with pytest.raises(BackupFolderUnusable):
        place.backup()


def test_a_database_that_is_not_there_is_named_and_not_made(place: Place) -> None:
    assert place.ring
    place.database.unlink()
    with pytest.raises(StoreFailed):
        place.backup()
    assert not place.database.exists()


def test_a_full_disk_leaves_what_was_there(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.backup()
    before = place.files()
    append(place.database, 200, seed=2)

    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(BackupFolderFull) as refused:
            place.backup()
    assert refused.value.exit_code == 6
    assert place.files() == before
    assert list((place.target / "tmp").iterdir()) == []
    place.repository.verify(place.backup().name, place.ring)
