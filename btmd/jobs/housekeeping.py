"""Room on the disk: what takes it, what can go, keeping to a budget, and deleting jobs.

Nothing here touches a job that has not ended, the best and the newest checkpoint on its own account, or a result.
"""

import logging
import os
from collections.abc import Callable, Collection, MutableMapping, Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
from msgspec import Struct

from btmd.command_handler import CommandHandler
from btmd.domain import settings
from btmd.domain.event import Actor
from btmd.domain.job import ENDED, JobState, stream_name
from btmd.domain.job_events import CheckpointSaved, JobCancelled, JobCompleted, JobFailed
from btmd.domain.job_housekeeping import DeleteJob, NoteRemoved
from btmd.domain.settings import SettingChanged, SettingsState
from btmd.domain.units import GIB
from btmd.errors import BtmdError, Conflict
from btmd.fair_turns import FairTurns
from btmd.job_folder import JobFolder
from btmd.jobs import disk_use
from btmd.jobs.disk_use import CACHES, DOOMED, KINDS, LEFT_OVERS, JobUse, Removable
from btmd.monitoring.texts import TEXTS
from btmd.projections.job import JobRow, checkpoints, job_plan, jobs, unfinished_jobs
from btmd.projections.model import models
from btmd.store.event_log import Store
from btmd.subscriptions import subscribe

log = logging.getLogger("btmd.disk")

SETTLE_S = 2.0
"""After something was written, before the budget is looked at."""
EVERY_S = 1800.0
MOST_JOBS = 1_000_000
WALKS_AT_ONCE = 2
ABOUT = "disk.budget_gb"
_GROWS = frozenset((CheckpointSaved.TYPE, JobCompleted.TYPE, JobFailed.TYPE, JobCancelled.TYPE))


class JobNeeded(Conflict):
    code, title = "job_needed", "Something needs the job's files"


class Freed(Struct, frozen=True):
    """What went, and what it took."""

    removed: tuple[Removable, ...]
    size_bytes: int


class Housekeeping:
    """``busy`` are the jobs with a trainer; ``asides`` takes what a person may want to know."""

    def __init__(
        self,
        *,
        store: Store,
        handler: CommandHandler,
        jobs_dir: Path,
        cache_dir: Path,
        backup_turn: anyio.Lock,
        busy: Callable[[], Collection[str]],
        actor: Actor,
        asides: MutableMapping[str, str],
    ) -> None:
        self._store, self._handler, self._jobs_dir, self._cache_dir = store, handler, jobs_dir, cache_dir
        self._backup_turn, self._busy, self._actor, self._asides = backup_turn, busy, actor, asides
        self._grown = anyio.Event()
        self._turn = anyio.Lock()
        self.walks = FairTurns(WALKS_AT_ONCE)
        """For whoever looks how much all folders take: of many files that is seconds of a processor."""

    # --- at the start ---------------------------------------------------------------------------

    async def at_start(self) -> None:
        """Remove what a crash left: folders of deleted jobs, and half-written files where no trainer lives."""
        try:
            removed = await anyio.to_thread.run_sync(self._remove_left_overs, await self._deleted())
        except OSError as problem:
            log.error("left-overs of jobs stay, %s: %s", problem.filename, problem.strerror)
            return
        if removed:
            log.info("removed %d left-overs of jobs", removed)

    async def _deleted(self) -> set[str]:
        """Jobs whose deletion is on record though their folder stands."""
        async with self._store.session() as session:
            known = {row.job_id for row in await jobs(session, limit=MOST_JOBS)}
        found = set()
        for path in self._jobs_dir.iterdir():
            if path.name not in known and not path.name.startswith("."):
                state, _ = await self._handler.state(stream_name(path.name))
                if state is not None and state.deleted:
                    found.add(path.name)
        return found

    def _remove_left_overs(self, deleted: Collection[str]) -> int:
        gone = 0
        for path in sorted(self._jobs_dir.iterdir()):
            if path.name in deleted or path.name.startswith(DOOMED):
                doomed = [path]
            elif not path.is_dir() or JobFolder(path).is_alive():
                continue
            else:
                doomed = disk_use.left_overs(JobFolder(path))
            disk_use.remove(doomed)
            gone += len(doomed)
        return gone

    # --- what takes room ------------------------------------------------------------------------

    async def uses(self) -> dict[str, JobUse]:
        """What each job's folder takes."""
        async with self.walks.turn():
            return await anyio.to_thread.run_sync(disk_use.jobs_use, self._jobs_dir)

    async def removable(self, kinds: Collection[str] = KINDS, *, keep_newest: bool = False) -> list[Removable]:
        """What can go, in the order of KINDS, and of jobs those that ended first.

        Of a completed job the best checkpoint stays, of others none, unless ``keep_newest``: then best and newest do.
        """
        uses = await self.uses()
        found = [one for kind in KINDS if kind in kinds for one in await self._of_kind(kind, uses, keep_newest)]
        return [one for one in found if one.names]

    async def _of_kind(self, kind: str, uses: dict[str, JobUse], keep_newest: bool) -> list[Removable]:
        if kind == CACHES:
            size_bytes = await anyio.to_thread.run_sync(disk_use.folder_bytes, self._cache_dir)
            names = tuple(sorted(path.name for path in self._cache_dir.iterdir() if not path.name.startswith(".")))
            return [Removable(kind, "", names, size_bytes)]
        if kind == LEFT_OVERS:
            return [
                Removable(kind, job_id, tuple(str(path) for path in disk_use.left_overs(folder)), use.left_overs_bytes)
                for job_id, use in uses.items()
                if job_id not in self._busy() and not (folder := JobFolder(self._jobs_dir / job_id)).is_alive()
            ]
        async with self._store.session() as session:
            rows = await jobs(session, state=kind, limit=MOST_JOBS)
            kept = {
                row.job_id: {one.name for one in await checkpoints(session, row.job_id) if one.best} for row in rows
            }
        found = []
        for row in sorted(rows, key=lambda row: row.ended_us or 0):
            use = uses.get(row.job_id)
            if use is None:
                continue
            keep = kept[row.job_id] if kind == disk_use.COMPLETED or keep_newest else set()
            if keep_newest or (kind == disk_use.COMPLETED and not keep):
                keep |= {*list(use.checkpoints)[-1:]}
            names = disk_use.without_use(use, keep)
            found.append(Removable(kind, row.job_id, names, sum(use.checkpoints[name] for name in names)))
        return found

    # --- making room ----------------------------------------------------------------------------

    async def clean(self, kinds: Collection[str], *, actor: Actor) -> Freed:
        """Remove all that can go of these kinds. Raises Conflict, StoreFailed, OSError."""
        self._require_no_backup()
        async with self._turn:
            return await self._free(await self.removable(kinds), actor, "asked")

    async def _free(self, removable: Sequence[Removable], actor: Actor, why: str) -> Freed:
        gone = [one for one in removable if await self._free_one(one, actor, why)]
        return Freed(tuple(gone), sum(one.size_bytes for one in gone))

    async def _free_one(self, one: Removable, actor: Actor, why: str) -> bool:
        if one.kind == CACHES:
            await anyio.to_thread.run_sync(disk_use.remove, [self._cache_dir / name for name in one.names])
            return True
        folder = JobFolder(self._jobs_dir / one.job_id)
        if one.kind == LEFT_OVERS:
            if one.job_id in self._busy() or folder.is_alive():
                return False
            await anyio.to_thread.run_sync(disk_use.remove, [Path(name) for name in one.names])
            return True
        state, _ = await self._handler.state(stream_name(one.job_id))
        # From here to the renames nothing else has a turn: a job that is resumed finds what is there then.
        if not isinstance(state, JobState) or not state.ended or one.job_id in self._busy() or folder.is_alive():
            return False
        doomed = disk_use.remove_checkpoints(folder, one.names)
        left = disk_use.checkpoint_names(folder)
        newest = int(left[-1].removeprefix("step-")) if left else None
        await self._handler.handle(NoteRemoved(one.job_id, one.names, one.size_bytes, why, newest), actor=actor)
        await anyio.to_thread.run_sync(disk_use.remove, doomed)
        return True

    # --- the budget -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep to the budget until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow, self._store.head.seq)
            while True:
                self._grown = anyio.Event()
                try:
                    await self.keep_to_budget()
                except (BtmdError, OSError) as problem:
                    log.error("the budget for trainings cannot be kept to just now: %s", problem)
                with anyio.move_on_after(EVERY_S):
                    await self._grown.wait()
                    await anyio.sleep(SETTLE_S)

    async def _follow(self, position: int) -> None:
        async for rows in subscribe(self._store, position):
            for row in rows:
                changed = isinstance(row.event, SettingChanged) and row.event.key == ABOUT
                if changed or row.type in _GROWS:
                    self._grown.set()

    async def keep_to_budget(self) -> Freed:
        """Remove what is least needed until all jobs together take no more than disk.budget_gb.

        Best and newest checkpoints stay, and everything of jobs that have not ended. Raises StoreFailed, OSError.
        """
        budget_bytes = await self._budget_bytes()
        if not budget_bytes:
            self._asides.pop(ABOUT, None)
            return Freed((), 0)
        taken_bytes = sum(use.total_bytes for use in (await self.uses()).values())
        freed = Freed((), 0)
        if taken_bytes > budget_bytes and not self._backup_turn.locked():
            async with self._turn:
                kinds = [kind for kind in KINDS if kind != CACHES]
                chosen = _enough(await self.removable(kinds, keep_newest=True), taken_bytes - budget_bytes)
                freed = await self._free(chosen, self._actor, "budget")
            taken_bytes -= freed.size_bytes
        if freed.removed:
            log.info("%d bytes were freed to keep to disk.budget_gb", freed.size_bytes)
        if taken_bytes > budget_bytes:
            told = {"taken": f"{taken_bytes / GIB:.2f} GB", "budget": f"{budget_bytes / GIB:g} GB"}
            self._asides[ABOUT] = TEXTS["budget_exceeded"].format(**told)
        else:
            self._asides.pop(ABOUT, None)
        return freed

    async def _budget_bytes(self) -> int:
        state, _ = await self._handler.state(settings.STREAM)
        return int(float((state or SettingsState()).get(ABOUT)) * GIB)

    # --- deleting -------------------------------------------------------------------------------

    async def needs_of(self, row: JobRow) -> list[str]:
        """What would miss the job's files, in words."""
        found = []
        async with self._store.session() as session:
            for one in await unfinished_jobs(session):
                frozen = await job_plan(session, one.job_id)
                plan = {} if frozen is None else msgspec.json.decode(frozen.plan_json)
                if plan.get("from_job") == row.job_id:
                    found.append(f"the training {one.job_id} goes on from its adapter")
                elif plan.get("rerun_of") == row.job_id:
                    found.append(f"the training {one.job_id} repeats it")
            folder = self._jobs_dir / row.job_id
            for model in await models(session):
                if Path(model.folder).is_relative_to(folder):
                    found.append(f"the model {model.model_id} is its result")
        return found

    async def delete(self, row: JobRow, *, actor: Actor, force: bool = False) -> int:
        """Delete a job that has ended; returns how many bytes its folder took.

        Raises JobNeeded unless forced, JobNotFound, Conflict, StoreFailed.
        """
        if row.state in ENDED:
            self._require_no_backup()
            needs = await self.needs_of(row)
            if needs and not force:
                raise JobNeeded(
                    f"The job {row.job_id} is needed: {'; '.join(needs)}.",
                    hint=f"`btmctl jobs delete {row.job_id} --force` deletes it all the same.",
                )
        path = self._jobs_dir / row.job_id
        async with self._turn:
            use = await anyio.to_thread.run_sync(disk_use.job_use, path)
            await self._handler.handle(DeleteJob(row.job_id, use.total_bytes), actor=actor)
            try:
                going = disk_use.doom(path)
                if going is not None:
                    await anyio.to_thread.run_sync(disk_use.remove, [going])
            except OSError as problem:
                # It is on record, and goes with the next start.
                log.error("the folder of the deleted job %s stays: %s", row.job_id, os.strerror(problem.errno or 0))
        return use.total_bytes

    def _require_no_backup(self) -> None:
        if self._backup_turn.locked():
            raise Conflict("A backup is just being made or read.", hint="Try again when it is done.")


def _enough(removable: Sequence[Removable], wanted_bytes: int) -> list[Removable]:
    """The first of them that together take so much."""
    chosen: list[Removable] = []
    for one in removable:
        if wanted_bytes <= 0:
            break
        chosen.append(one)
        wanted_bytes -= one.size_bytes
    return chosen
