"""Giving turns while attempts end and daemons begin."""

import errno
import os
from pathlib import Path

from btmd.command_handler import CommandHandler
from btmd.domain.commands import DECIDERS
from btmd.domain.job_events import AttemptFailed, JobFailed
from btmd.jobs.device_locks import DeviceLocks
from btmd.jobs.scheduler import LOOK_AGAIN_S, Scheduler
from btmd.jobs.sight import Seen
from btmd.projections.views import ALL_PROJECTIONS
from btmd.store.event_log import Store
from tests.fixtures import job_histories as history
from tests.store.given import ACTOR, opened

NOTHING_LIMITED = Seen(memory_free_bytes=1 << 40, disk_free_bytes=1 << 50, on_battery=False, gpus=())


def scheduler(store: Store, folder: Path, busy: list[frozenset[str]], started: list[str]) -> Scheduler:
    """``busy`` is what is told each time it is asked; the last of it from then on."""

    def start(job_id: str, device: str, lock: int) -> None:
        os.close(lock)
        started.append(job_id)

    return Scheduler(
        store=store,
        handler=CommandHandler(store, DECIDERS),
        state_dir=folder,
        jobs_dir=folder,
        locks=DeviceLocks(folder),
        start=start,
        busy=lambda: busy.pop(0) if len(busy) > 1 else busy[0],
        actor=ACTOR,
        clock=lambda: 0,
        look=lambda _folder, _gpus: NOTHING_LIMITED,
    )


async def test_the_job_behind_does_not_slip_in_while_what_follows_on_a_failure_is_undecided(tmp_path: Path) -> None:
    async with opened(tmp_path, projections=ALL_PROJECTIONS) as store:
        for job_id in ("first", "second"):
            await history.write(store, job_id, history.submitted(job_id))
        gone = AttemptFailed("first", 1, "crash", "The training process ended without a word.")
        await history.write(store, "first", *history.started("first"), gone)
        # Its end is on record by now; whoever follows it has done so between two looks, or has not quite.
        for busy in ([frozenset[str]()], [frozenset({"first"}), frozenset[str]()]):
            started: list[str] = []
            giving = scheduler(store, tmp_path, busy, started)
            await giving._give_turns()
            assert started == []
            assert giving.waits["second"].kind in ("turn", "training")
        await history.write(store, "first", JobFailed("first", 1, "crash", "x"))
        await giving._give_turns()
        assert started == ["second"], "and nothing else was in its way"


async def test_a_machine_that_cannot_be_looked_at_is_looked_at_again(tmp_path: Path) -> None:
    def unreadable(_folder: Path, _gpus: bool) -> Seen:
        raise OSError(errno.EMFILE, "Too many open files")

    async with opened(tmp_path, projections=ALL_PROJECTIONS) as store:
        await history.write(store, "first", history.submitted("first"))
        started: list[str] = []
        giving = scheduler(store, tmp_path, [frozenset[str]()], started)
        giving._look = unreadable
        assert await giving._give_turns() == LOOK_AGAIN_S
        assert started == []
