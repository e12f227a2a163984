"""SIGKILL, full disks and read-only folders: before or after, never between, and nothing lost."""

import os
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from btmd.backup import key_ring
from btmd.backup.create import BackupRequest
from btmd.backup.keys import Keys
from btmd.backup.repository import Repository
from btmd.backup.retention import Policy
from btmd.errors import BackupFolderFull, BackupFolderUnusable, StoreFailed, StoreFull
from tests.backup.crashing import (
    DONE,
    FAILED,
    KILLED,
    OTHER_ERROR,
    Operation,
    Outcome,
    at_change,
    back_up,
    fresh,
    in_child,
    prune,
    rebuild,
    rotate,
)
from tests.backup.logs import DECIDERS, NOW_US, Place, append, store_id_of

FULL = (BackupFolderFull, BackupFolderUnusable, StoreFull, StoreFailed)


@pytest.fixture
def prepared(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Four backups, and something new to back up."""
    monkeypatch.setattr(key_ring, "ARGON2_MEMORY_KIB", 64)
    for seed in range(2, 5):
        place.backup()
        append(place.database, 10, seed=seed)
    return place


@pytest.mark.parametrize("operation", [back_up, prune, rotate, rebuild])
def test_killed_before_any_change_of_a_file(prepared: Place, tmp_path: Path, operation: Operation) -> None:
    for number in range(1, 200):
        place = fresh(prepared, tmp_path / f"{operation.__name__}{number}")
        outcome = Outcome(place)
        ended = in_child(operation, place, partial(at_change, number))
        assert ended in (KILLED, DONE)
        outcome.require_before_or_after(operation)
        # The next one finds nothing in its way.
        operation(place)
        outcome.require_before_or_after(operation)
        if operation in (back_up, prune):
            assert list((place.target / "tmp").iterdir()) == []
        assert {path.name for path in place.keys.folder.iterdir()} == {"key", "ring"}
        shutil.rmtree(place.state.parent)
        if ended == DONE:
            assert number > 5
            return
    raise AssertionError("the operation never came to its end")


def limited_to(size_bytes: int) -> Callable[[], None]:
    """Files end at this size, as on a disk that is full."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))


@pytest.mark.parametrize("size_bytes", [0, 200, 1_000])
def test_without_room_nothing_is_lost(prepared: Place, size_bytes: int) -> None:
    assert prepared.ring
    for operation in (back_up, rotate, rebuild, prune):
        outcome, before = Outcome(prepared), prepared.files()
        ended = in_child(operation, prepared, limited_to(size_bytes), FULL)
        # A key file needs little room, and deleting none: what they get done stays done.
        assert ended == FAILED or (ended == DONE and operation in (rotate, prune))
        assert not outcome.require_before_or_after(operation) or operation in (rotate, prune)
        assert operation is prune or prepared.files() == before


@pytest.fixture
def anyones_folder() -> Iterator[Path]:
    """A folder that another user can reach."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def as_somebody_else() -> None:
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)


def test_a_read_only_folder_is_refused_and_stays_as_it_is(prepared: Place, anyones_folder: Path) -> None:
    shutil.copytree(prepared.target, anyones_folder / "stick")
    for path in [anyones_folder / "stick", *(anyones_folder / "stick").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    stick = Repository(anyones_folder / "stick", DECIDERS)
    ring = prepared.ring
    oldest = stick.backups()[-1].summary.name

    def delete(place: Place) -> None:
        stick.delete([oldest])

    def let_go(place: Place) -> None:
        stick.prune(Policy(last=1, daily=0, weekly=0, monthly=0), ring)

    def read(place: Place) -> None:
        for one in stick.backups():
            stick.verify(one.summary.name, ring)

    before = {path: path.read_bytes() for path in stick.folder.path.rglob("*") if path.is_file()}
    for operation in (delete, let_go):
        assert in_child(operation, prepared, as_somebody_else, (BackupFolderUnusable,)) == FAILED
    assert in_child(read, prepared, as_somebody_else) == DONE
    assert {path: path.read_bytes() for path in stick.folder.path.rglob("*") if path.is_file()} == before


def test_two_programs_at_once_take_turns(prepared: Place) -> None:
    outcome = Outcome(prepared)
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            code = OTHER_ERROR
            try:
                keys = Keys(prepared.state / "keys")
                ring = keys.open(store_id_of(prepared.database), NOW_US)
                prepared.repository.create(prepared.database, keys, ring, BackupRequest(), NOW_US + os.getpid())
                code = DONE
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [DONE] * 3
    assert outcome.require_before_or_after(back_up)
    assert len(prepared.repository.folder.manifest_ids()) == len(outcome.backups) + 3
