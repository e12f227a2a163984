"""Letting old backups go: by rule, by size, and never at the cost of one that stays."""

from btmd.backup.create import BackupRequest
from btmd.backup.retention import Policy
from tests.backup.logs import Place, append

ONE = Policy(last=1, daily=0, weekly=0, monthly=0)


def chain(place: Place, count: int) -> list[str]:
    made = [place.backup().name]
    for seed in range(2, count + 1):
        append(place.database, 10, seed=seed)
        made.append(place.backup().name)
    return made


def test_what_the_policy_does_not_keep_goes_and_the_rest_is_whole(place: Place) -> None:
    made = chain(place, 6)
    pruned = place.repository.prune(Policy(last=2, daily=0, weekly=0, monthly=0), place.ring)
    assert set(pruned.deleted.deleted) == {name[:16] for name in made[:4]}
    assert set(pruned.kept) == {name[:16] for name in made[4:]}
    for name in made[4:]:
        place.repository.verify(name, place.ring)
    assert place.repository.prune(ONE, place.ring).deleted.freed_bytes > 0


def test_above_the_size_cap_the_oldest_go_first(place: Place) -> None:
    made = [place.backup(BackupRequest(anew=True)).name for _ in range(4)]
    size_bytes = sum(len(data) for path, data in place.files().items() if not path.startswith("rings"))
    pruned = place.repository.prune(Policy(last=9, max_size_bytes=size_bytes // 2 + 10), place.ring)
    assert set(pruned.deleted.deleted) == {name[:16] for name in made[:2]}
    assert (pruned.over_bytes, pruned.rewritten) == (0, None)
    for name in made[2:]:
        place.repository.verify(name, place.ring)


def test_a_chain_above_the_cap_is_written_anew_before_it_goes(place: Place) -> None:
    made = chain(place, 8)
    before = place.repository.verify(made[-1], place.ring)
    pruned = place.repository.prune(Policy(last=1, daily=0, weekly=0, monthly=0, max_size_bytes=1), place.ring)
    assert pruned.rewritten is not None
    (left,) = place.repository.folder.manifest_ids()
    assert left.startswith(pruned.rewritten)
    after = place.repository.verify(left, place.ring)
    assert (after.events, after.state) == (before.events, "matches")
    assert after.size_bytes < before.size_bytes
    assert len(place.parts()) == 1
    assert pruned.over_bytes > 0, "the newest backup stays, and how far it is above the cap is told"
    append(place.database, 10, seed=90)
    again = place.backup()
    assert again.new_events == 10
    place.repository.verify(again.name, place.ring)


def test_what_would_go_is_what_goes(place: Place) -> None:
    made = chain(place, 4) + [place.backup(BackupRequest(anew=True)).name for _ in range(3)]
    size_bytes = sum(len(data) for path, data in place.files().items() if not path.startswith("rings"))
    for policy in (Policy(last=6), Policy(last=6, max_size_bytes=size_bytes // 2)):
        before = place.files()
        names, freed_bytes, over_bytes = place.repository.preview_prune(policy, place.ring)
        assert place.files() == before
        pruned = place.repository.prune(policy, place.ring)
        assert {name[:16] for name in names} == set(pruned.deleted.deleted)
        assert (freed_bytes, over_bytes) == (pruned.deleted.freed_bytes, pruned.over_bytes)
    assert place.repository.folder.manifest_ids() != made


def test_the_newest_of_each_kind_stays_whatever_the_cap(place: Place) -> None:
    full, config = place.backup(), place.backup(BackupRequest("config"))
    pruned = place.repository.prune(Policy(last=1, max_size_bytes=1), place.ring)
    assert pruned.deleted.deleted == ()
    assert set(place.repository.folder.manifest_ids()) == {full.name, config.name}
