"""Operations on backups in a process of their own that is killed, and what has to hold after it."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from btmd.backup.recover import recover
from btmd.backup.retention import Policy
from btmd.store.migrations import prepare_database
from tests.backup.logs import DECIDERS, NOW_US, Place, raw_rows, store_id_of

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.link", "sqlite3.connect"}
KILLED, DONE, FAILED, OTHER_ERROR = -signal.SIGKILL, 0, 3, 4

Operation = Callable[[Place], None]


def at_change(number: int) -> None:
    """Kill this process just before it changes the file system for the ``number``-th time."""
    left = number

    def watch(name: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        opens_to_write = name == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if name in CHANGES or opens_to_write:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def in_child(
    operation: Operation,
    place: Place,
    prepare: Callable[[], None],
    expected: tuple[type[Exception], ...] = (),
    kill_after_s: float | None = None,
) -> int:
    """Run ``operation`` in a forked process; returns how it ended."""
    child = os.fork()
    if child == 0:
        code = OTHER_ERROR
        try:
            prepare()
            operation(place)
            code = DONE
        except expected:
            code = FAILED
        finally:
            os._exit(code)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def back_up(place: Place) -> None:
    place.backup()


def prune(place: Place) -> None:
    place.repository.prune(Policy(last=1, daily=0, weekly=0, monthly=0, max_size_bytes=1), place.ring)


def rotate(place: Place) -> None:
    place.keys.rotate(place.ring, NOW_US)


def rebuild(place: Place) -> None:
    recover(place.database, place.target, place.keys.secret(), place.keys, DECIDERS, now_us=NOW_US)


class Outcome:
    """What was there before, to compare with what is there after a kill."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.backups = set(place.repository.folder.manifest_ids())
        self.rows = raw_rows(place.database)
        self.key_id = place.ring.current

    def require_before_or_after(self, operation: Operation) -> bool:
        """Every backup that is listed is whole, the log is whole, the keys open; returns whether it was done."""
        place = self.place
        # The first thing that a starting daemon does.
        prepare_database(place.database, clock=lambda: NOW_US, new_id=lambda: "never")
        rows = raw_rows(place.database)
        # A recovery gives what was backed up last: all but the newest ten.
        assert rows == self.rows or (operation is rebuild and rows == self.rows[:-10])
        ring = place.keys.open(store_id_of(place.database), NOW_US)
        now = set(place.repository.folder.manifest_ids())
        for name in now:
            place.repository.verify(name, ring)
        assert now, "no backup is left"
        if operation is back_up:
            assert self.backups <= now
            return now != self.backups
        if operation is prune:
            return len(now) == 1
        assert now == self.backups
        return rows != self.rows if operation is rebuild else ring.current != self.key_id


def fresh(prepared: Place, root: Path) -> Place:
    """A copy of everything, to be killed in."""
    place = Place(root)
    shutil.rmtree(place.state)
    shutil.copytree(prepared.state, place.state)
    shutil.copytree(prepared.target, place.target)
    return place
