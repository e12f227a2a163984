"""SIGKILL while the daemon resets, is lifted to another version, or falls back: before or after, never in between."""

import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import anyio
import pytest

from benchmarks.results import Figure, Topic, record
from btmd.daemon import Daemon
from btmd.store.connection import connect_reader
from btmd.store.migrations import Migration, prepare_database, released_migrations
from btmd.store.verification import verify_log
from tests.fixtures.daemon import ThreadedDaemon, config_of, rows
from tests.fixtures.short_folder import short_folder
from tests.store.given import insert_row

PROOF = os.environ.get("BTMD_PROOF") == "1"
KILLS = 100 if PROOF else 2
NEXT = Migration(
    len(released_migrations()) + 1,
    "next",
    "CREATE TABLE grown (a);\n"
    "INSERT INTO grown WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)"
    " SELECT i FROM n;\n",
)
ERASING_S = 0.03
COMMAND = "make proof-taking-back"


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """Settings, a dataset and what a training left on the disk."""
    with short_folder() as folder:
        with ThreadedDaemon(config_of(folder)) as daemon:
            daemon.client.patch("/settings", {"changes": {"training.seed": 4711}}).ok()
            daemon.client.add_dataset(rows(20))
        for number in range(200):
            result = folder / "state" / "jobs" / f"{number:010}" / "result"
            result.mkdir(parents=True)
            (result / "weights").write_bytes(bytes(10_000))
        yield folder


def copy_of(made: Path, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("state", "config"):
        shutil.copytree(made / name, folder / name)
    return folder


def in_child(work: Callable[[], None]) -> int:
    """The pid of a process that does the work and ends."""
    pid = os.fork()
    if pid:
        with suppress(PermissionError, ProcessLookupError):
            os.setpgid(pid, pid)
        return pid
    try:
        os.setpgid(0, 0)
        work()
        os._exit(0)
    finally:
        os._exit(1)


def killed(
    work: Callable[[], None], within_s: float, chance: random.Random, after: Callable[[], bool] = lambda: True
) -> bool:
    """Do the work in a process, and kill it and its children within that time after a moment; False: it was done."""
    pid = in_child(work)
    while not after() and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.001)
    time.sleep(chance.uniform(0, within_s))
    gone, status = os.waitpid(pid, os.WNOHANG)
    if gone:
        assert os.waitstatus_to_exitcode(status) == 0, "it failed by itself"
        return False
    # Whatever it started is of its group: nothing may work on the folder that is looked at next.
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return True


def duration_s(work: Callable[[], None]) -> float:
    began = time.monotonic()
    _, status = os.waitpid(in_child(work), 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return time.monotonic() - began


def start_once(folder: Path) -> None:
    """A start as far as it goes before commands are taken."""

    async def live() -> None:
        daemon = Daemon(config_of(folder))
        try:
            await daemon.open()
            await daemon.recover()
        finally:
            await daemon.close()

    anyio.run(live)


def erase_once(folder: Path) -> None:
    async def live() -> None:
        daemon = Daemon(config_of(folder))
        try:
            await daemon.open()
            await daemon.recover()
            await daemon.assembly.parts.factory_reset.reset(False, actor=daemon.actor)
        finally:
            await daemon.close()

    anyio.run(live)


def log_of(folder: Path) -> list[tuple[object, ...]]:
    with closing(connect_reader(folder / "state" / "btmd.db")) as reader:
        assert verify_log(reader).ok
        return reader.execute(
            "SELECT seq, epoch, stream, version, event_id, type, data, hash FROM events ORDER BY seq"
        ).fetchall()


def told(what: str, kills: int, before: int, halfway: int | None = None) -> None:
    if PROOF:
        record(
            Topic(
                f"Kills: {what}",
                COMMAND,
                [
                    Figure("SIGKILLs at random moments", [kills], digits=0),
                    Figure("of them before anything was changed", [before], digits=0),
                    *([] if halfway is None else [Figure("of them while files were erased", [halfway], digits=0)]),
                    Figure("neither before nor after", [0], "", "<= 0", 0),
                ],
            )
        )


def files(folder: Path, name: str) -> set[str]:
    root = folder / "state" / name
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def has_begun(folder: Path) -> bool:
    """Whether a reset stands in the log."""
    try:
        with closing(connect_reader(folder / "state" / "btmd.db")) as reader:
            return bool(reader.execute("SELECT 1 FROM events WHERE stream = 'resets'").fetchone())
    except sqlite3.OperationalError:
        # Just being opened.
        return False


def test_a_reset_that_was_killed_is_whole_or_was_not_begun(made: Path) -> None:
    chance, before = random.Random(11), log_of(made)
    with short_folder() as place:
        folder = copy_of(made, place / "first")
        takes_s = duration_s(lambda: erase_once(folder))
        hit, whole, halfway = 0, 0, 0
        for number in itertools.count():
            if hit >= KILLS:
                break
            shutil.rmtree(folder, ignore_errors=True)
            # A new place: a backup child is no child of the one that was killed, and may still write into the old one.
            folder = copy_of(made, place / str(number))
            if number % 2:
                hit += killed(partial(erase_once, folder), takes_s, chance)
            else:
                # Between the transaction and the last file that leaves the disk.
                hit += killed(partial(erase_once, folder), ERASING_S, chance, partial(has_begun, folder))
            cut_off = has_begun(folder) and "FactoryResetCompleted" not in [row[5] for row in log_of(folder)]
            with ThreadedDaemon(config_of(folder)) as daemon:
                settings = {one["key"]: one["value"] for one in daemon.client.get("/settings").ok()}
                datasets = daemon.client.get("/datasets").ok()
                problems = daemon.client.get("/health").ok()["problems"]
            log = log_of(folder)
            assert log[: len(before)] == before
            types = [row[5] for row in log]
            assert types.count("FactoryResetStarted") == types.count("FactoryResetCompleted") <= 1
            assert not problems
            if "FactoryResetStarted" in types:
                whole += 1
                assert (settings["training.seed"], datasets) == (42, [])
                assert files(folder, "jobs") | files(folder, "content") == set()
                assert list((folder / "state" / "backups" / "manifests").iterdir())
            else:
                assert (settings["training.seed"], len(datasets)) == (4711, 1)
                for name in ("jobs", "content"):
                    assert files(folder, name) == files(made, name)
            halfway += bool(types.count("FactoryResetStarted")) and cut_off
        told("factory reset with user data erased", hit, hit - whole, halfway)


def test_a_migration_that_was_killed_is_done_or_was_not_begun(made: Path) -> None:
    chance, before = random.Random(12), log_of(made)

    def lift(folder: Path) -> None:
        path = folder / "state" / "btmd.db"
        prepared = prepare_database(
            path, clock=lambda: 7, new_id=lambda: "x", migrations=(*released_migrations(), NEXT)
        )
        assert prepared.unmigrated is None

    with short_folder() as place:
        folder = copy_of(made, place / "a")
        takes_s = duration_s(lambda: lift(folder))
        hit, done = 0, 0
        while hit < KILLS:
            copy_of(made, folder)
            hit += killed(lambda: lift(folder), takes_s * 1.1, chance)
            with closing(sqlite3.connect(folder / "state" / "btmd.db")) as connection:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                grown = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'grown'").fetchone()[0]
            assert (version, grown) in ((NEXT.number - 1, 0), (NEXT.number, 1))
            done += grown
            lift(folder)
            assert log_of(folder) == before
            assert not list((folder / "state").glob("btmd.db.new*"))
        told("migration", hit, hit - done)


def test_falling_back_that_was_killed_is_done_by_the_next_start(made: Path) -> None:
    chance = random.Random(13)
    with short_folder() as place:
        broken = copy_of(made, place / "broken")
        data = {"key": "log.level", "before": None, "after": "deafening", "why": "", "change_id": ""}
        insert_row(broken / "state" / "btmd.db", "settings", "SettingChanged", 1, json.dumps(data))
        before = log_of(broken)
        folder = copy_of(broken, place / "a")
        takes_s = duration_s(lambda: start_once(folder))
        hit, done = 0, 0
        while hit < KILLS:
            copy_of(broken, folder)
            hit += killed(lambda: start_once(folder), takes_s * 1.1, chance)
            log = log_of(folder)
            assert log[: len(before)] == before
            fell_back = [row for row in log[len(before) :] if row[5] in ("SettingChanged", "FellBack")]
            # One transaction: the value does not go back unsaid, and nothing is said that was not done.
            assert len(fell_back) in (0, 2)
            done += bool(fell_back)
            start_once(folder)
            log = log_of(folder)
            assert [row[5] for row in log].count("FellBack") == 1
            with closing(connect_reader(folder / "state" / "btmd.db")) as reader:
                newest = "SELECT json_extract(data, '$.after') FROM events WHERE stream = 'settings' ORDER BY seq DESC"
                assert reader.execute(newest).fetchone() == (None,)
        told("falling back", hit, hit - done)
