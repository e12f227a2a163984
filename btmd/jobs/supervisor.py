"""Starts trainers, finds them again after a restart, and passes on what is asked of them."""

import errno
import logging
import os
from collections.abc import Callable, MutableMapping
from pathlib import Path

import anyio
import msgspec
from anyio import to_thread
from anyio.abc import TaskGroup
from sqlalchemy.exc import DatabaseError

from btmd.command_handler import CommandHandler
from btmd.domain import dataset as datasets
from btmd.domain.dataset import ConsentRevoked
from btmd.domain.event import Actor
from btmd.domain.job import ENDED, FailJob, StartAttempt, WithdrawConsent, stream_name
from btmd.domain.job_events import CancelRequested, JobConsentWithdrawn, PauseRequested, StopRequested
from btmd.domain.machine import RefuseOperation
from btmd.domain.queue import YieldRequested
from btmd.domain.warning import Finding
from btmd.errors import BtmdError, JobNotFound, StoreFailed, StoreFull
from btmd.job_folder import JobFolder, TrainerPlan
from btmd.jobs.attempt import FULL_DISK_S, LOOK_AGAIN_S, Attempt
from btmd.jobs.continuing import has_start
from btmd.jobs.running_trainer import RunningTrainer, open_log
from btmd.projections.job import job, job_plan, running_jobs, unfinished_jobs
from btmd.registry.content import ContentStore
from btmd.store.event_log import Recorded, Store
from btmd.subscriptions import subscribe

log = logging.getLogger("btmd.supervisor")

_ASKED = {
    PauseRequested.TYPE: "pause",
    YieldRequested.TYPE: "yield",
    StopRequested.TYPE: "stop",
    CancelRequested.TYPE: "cancel",
    JobConsentWithdrawn.TYPE: "consent",
}

PAUSE_S = 30.0
"""How long a trainer that nobody follows may take for a last checkpoint."""

FOREIGN = "The job's folder belongs to another event log, so its trainer is left alone."


class Supervisor:
    """One task for each job that a trainer belongs to. ``on_freed`` is called when one of them ends."""

    def __init__(
        self,
        *,
        store: Store,
        handler: CommandHandler,
        jobs_dir: Path,
        answers_keys_dir: Path,
        contents: ContentStore,
        actor: Actor,
        boot_id: str,
        troubles: MutableMapping[str, str],
    ) -> None:
        self._store, self._handler, self._actor, self._boot_id = store, handler, actor, boot_id
        self._jobs_dir, self._answers_keys_dir, self._contents = jobs_dir, answers_keys_dir, contents
        self._troubles = troubles
        self._attempts: dict[str, Attempt] = {}
        self._starting: set[str] = set()
        self._adopted: list[Attempt] = []
        self._tasks: TaskGroup | None = None
        self._to_withdraw: set[str] = set()
        self._position = store.head.seq
        """The log's position from which `run` follows it."""
        self.on_freed: Callable[[], None] = lambda: None

    @property
    def busy(self) -> frozenset[str]:
        """The jobs that have a trainer, or are about to."""
        return frozenset(self._attempts) | self._starting

    def intervene(self, job_id: str, finding: Finding, step: int, text: str = "", number: int | None = None) -> None:
        """End a job's trainer for something that was found about it; what comes then is decided as after a failure.

        ``number`` is the attempt that it was found about, None for whichever there is: the next one is left alone.
        """
        attempt = self._attempts.get(job_id)
        if attempt is not None and number in (None, attempt.number):
            attempt.intervene(finding.kind, step, finding.evidence, text)

    async def adopt(self) -> None:
        """Find the jobs that were running; what happened to them meanwhile is read from their spools in `run`."""
        # What happens while this looks is followed afterwards.
        self._position = self._store.head.seq
        async with self._store.session() as session:
            running = {row.job_id: row for row in await running_jobs(session)}
        # A start that failed and is tried again begins here anew.
        self._attempts.clear()
        self._adopted.clear()
        for row in running.values():
            folder = JobFolder(self._jobs_dir / row.job_id)
            if folder.plan_path.exists() and not self._is_ours(folder):
                await self._refuse(row.job_id)
                await self._fail(row.job_id, "foreign_folder", FOREIGN)
                continue
            folder.spool_path(row.attempt).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            process = RunningTrainer.find(folder) if folder.is_alive() else None
            if process is not None and (written := folder.read_pid()) is not None and written.attempt != row.attempt:
                # Begun after the backup that this log was recovered from: nobody knows its frames' beginning.
                await self._paused(folder, process)
                process = None
            log.info("job %s: %s", row.job_id, "found its trainer again" if process else "its trainer is gone")
            attempt = self._attempt(row.job_id, row.attempt, row.asked, folder, process)
            self._attempts[row.job_id] = attempt
            self._adopted.append(attempt)
        await self._find_unallowed()
        await self._look_for_strays(set(running))

    async def run(self) -> None:
        """Follow all attempts, and the log for what is asked of them, until cancelled."""
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                # Nothing could be started until now.
                self.on_freed()
                for attempt in self._adopted:
                    tasks.start_soon(self._follow, attempt)
                self._adopted.clear()
                for stream in self._to_withdraw:
                    tasks.start_soon(self._withdraw, stream)
                self._to_withdraw.clear()
                async for batch in subscribe(self._store, self._position):
                    for recorded in batch:
                        self._pass_on(recorded, tasks)
        finally:
            self._tasks = None

    def _pass_on(self, recorded: Recorded, tasks: TaskGroup) -> None:
        if recorded.type == ConsentRevoked.TYPE:
            tasks.start_soon(self._withdraw, recorded.stream)
        asked = _ASKED.get(recorded.type)
        found = self._attempts.get(recorded.stream.removeprefix("job-")) if asked else None
        if found is not None and asked is not None:
            found.asked = asked
            found.wake()

    async def _find_unallowed(self) -> None:
        """Data of unfinished jobs that may not be used any more: the daemon may have died before it ended them."""
        async with self._store.session() as session:
            streams = {datasets.stream_name(one.dataset_id) for one in await unfinished_jobs(session)}
        for stream in streams:
            state, _ = await self._handler.state(stream)
            if not _allows_training(state) and not _is_put_away(state):
                self._to_withdraw.add(stream)

    async def _withdraw(self, dataset_stream: str) -> None:
        async with self._store.session() as session:
            jobs = await unfinished_jobs(session)
        for one in jobs:
            if datasets.stream_name(one.dataset_id) == dataset_stream:
                await self._withdraw_from(one.job_id)

    async def _withdraw_from(self, job_id: str) -> None:
        while True:
            try:
                await self._handler.handle(WithdrawConsent(job_id), actor=self._actor)
                return
            except (StoreFull, StoreFailed) as error:
                await self._wait_for_room(error.detail)
            except JobNotFound:
                # Cancelled and deleted since the look at what there was.
                return

    def start(self, job_id: str, device: str, device_lock: int) -> None:
        """Begin the next attempt of a job; it is busy from now on. The trainer inherits ``device_lock``."""
        if self._tasks is None:
            # While a view is mended nobody is followed; `on_freed` tells when that is over.
            os.close(device_lock)
            return
        self._starting.add(job_id)
        self._tasks.start_soon(self._begin, job_id, device, device_lock)

    async def _begin(self, job_id: str, device: str, device_lock: int) -> None:
        attempt: Attempt | None = None
        try:
            attempt = await self._spawned(job_id, device, device_lock)
        except (StoreFull, StoreFailed) as error:
            attempt = await self._begun_unseen(job_id, error.detail)
        except BtmdError as error:
            # Cancelled or paused just now, say: the job's own history says so.
            log.info("job %s is not started: %s", job_id, error.detail)
        finally:
            os.close(device_lock)
            if attempt is not None:
                self._attempts[job_id] = attempt
            self._starting.discard(job_id)
        if attempt is None:
            self.on_freed()
        else:
            await self._follow(attempt)

    async def _spawned(self, job_id: str, device: str, device_lock: int) -> Attempt | None:
        """As `_spawn`; what keeps one job from being started is that job's end, and nobody else's."""
        try:
            return await self._spawn(job_id, device, device_lock)
        except (BtmdError, DatabaseError):
            # A view that cannot be read is mended, and all is taken up anew.
            raise
        except OSError as problem:
            if problem.errno in (errno.ENOSPC, errno.EDQUOT):
                await self._wait_for_room(f"There is no room for the folder of job {job_id}.")
            else:
                await self._fail(job_id, "start", f"The training could not be started: {problem.strerror}.")
        except Exception:
            log.exception("job %s could not be started", job_id)
            await self._fail(job_id, "start", "The training could not be started; the daemon's log says why.")
        return None

    async def _begun_unseen(self, job_id: str, trouble: str) -> Attempt | None:
        """The attempt that a failing log has taken down all the same, and no trainer was started for.

        What became of a commit that failed shows once the log was opened again.
        """
        while True:
            await self._wait_for_room(trouble)
            try:
                await self._store.round_trip()
                state, _ = await self._handler.state(stream_name(job_id))
            except (StoreFull, StoreFailed) as error:
                trouble = error.detail
                continue
            if not state.running:
                return None
            folder = JobFolder(self._jobs_dir / job_id)
            return self._attempt(job_id, state.attempt, state.asked, folder, None)

    async def _spawn(self, job_id: str, device: str, device_lock: int) -> Attempt | None:
        async with self._store.session() as session:
            row, frozen = await job(session, job_id), await job_plan(session, job_id)
        if row is None or frozen is None:
            return None
        allowed, _ = await self._handler.state(datasets.stream_name(row.dataset_id))
        if _is_put_away(allowed):
            return None
        if not _allows_training(allowed):
            await self._handler.handle(WithdrawConsent(job_id), actor=self._actor)
            return None
        plan = self._plan_of_today(row.dataset_id, await self._with_changes(job_id, frozen.trainer_plan_json))
        if not self._contents.whole(plan.rows_sha256):
            await self._fail(job_id, "data", "The dataset's contents are not there any more.", "Add the dataset again.")
            return None
        told = msgspec.json.decode(frozen.plan_json) if plan.adapter_folder else {}
        if plan.adapter_folder and not await to_thread.run_sync(has_start, told, self._jobs_dir, job_id):
            await self._fail(job_id, "adapter", f"The adapter of the job {told.get('from_job')} is not there any more.")
            return None
        plan = msgspec.structs.replace(plan, device=device)
        folder = JobFolder(self._jobs_dir / job_id)
        if folder.plan_path.exists() and not self._is_ours(folder):
            await self._refuse(job_id)
            await self._fail(job_id, "foreign_folder", FOREIGN)
            return None
        folder.path.mkdir(mode=0o700, exist_ok=True)
        lock = folder.take_lock()
        if lock is None:
            await self._fail(job_id, "start", "A trainer that nobody knows of still works in the job's folder.")
            return None
        try:
            folder.create(plan)
            folder.clear_control()
            folder.pid_path.unlink(missing_ok=True)
            _set_aside_lost_frames(folder, row.attempt + 1)
            # All that needs room on the disk comes before the attempt is on record, so that a full one only delays it.
            output = open_log(folder, row.attempt + 1)
            try:
                # Recorded first: a trainer that nobody knows of must never be. Whoever stops the daemon just now waits
                # for the trainer: a start on record without one would be taken for a crash.
                with anyio.CancelScope(shield=True):
                    start = StartAttempt(job_id, self._boot_id, device)
                    state = (await self._handler.handle(start, actor=self._actor)).state
                process = RunningTrainer.spawn(folder, state.attempt, locks=(lock, device_lock), log=output)
            finally:
                os.close(output)
        finally:
            os.close(lock)
        self._troubles.pop("start", None)
        log.info("job %s: attempt %d started as process %d", job_id, state.attempt, process.pid)
        return self._attempt(job_id, state.attempt, state.asked, folder, process)

    async def _follow(self, attempt: Attempt) -> None:
        try:
            while True:
                if await self._followed(attempt):
                    break
                await anyio.sleep(LOOK_AGAIN_S)
        finally:
            self._attempts.pop(attempt.job_id, None)
            self.on_freed()

    async def _followed(self, attempt: Attempt) -> bool:
        """Whether the attempt was followed to its end; an error of our own costs one job a delay, not all of them."""
        trouble = f"job {attempt.job_id}"
        try:
            await self._learn_asked(attempt)
            await attempt.follow()
        except Exception:
            log.exception("job %s could not be followed; it is tried again", attempt.job_id)
            self._troubles[trouble] = f"The job {attempt.job_id} cannot be followed; the daemon's log says why."
            return False
        self._troubles.pop(trouble, None)
        return True

    async def _learn_asked(self, attempt: Attempt) -> None:
        """What was asked before the subscription knew the attempt; what that tells meanwhile is newer."""
        before = attempt.asked
        state, _ = await self._handler.state(stream_name(attempt.job_id))
        if attempt.asked == before:
            attempt.asked = state.asked

    def _attempt(
        self, job_id: str, number: int, asked: str, folder: JobFolder, process: RunningTrainer | None
    ) -> Attempt:
        return Attempt(
            job_id=job_id,
            attempt=number,
            asked=asked,
            folder=folder,
            process=process,
            store=self._store,
            handler=self._handler,
            actor=self._actor,
            boot_id=self._boot_id,
            troubles=self._troubles,
        )

    def _is_ours(self, folder: JobFolder) -> bool:
        try:
            plan = folder.read_plan()
        except (OSError, msgspec.DecodeError):
            return False
        # One of an earlier epoch is ours too: from before the log was recovered from a backup.
        return plan.store_id == self._store.store_id and plan.epoch <= self._store.head.epoch

    async def _with_changes(self, job_id: str, frozen: str) -> TrainerPlan:
        """The frozen plan with what recoveries have changed."""
        state, _ = await self._handler.state(stream_name(job_id))
        return msgspec.convert({**msgspec.json.decode(frozen), **state.changes}, TrainerPlan)

    def _plan_of_today(self, dataset_id: str, plan: TrainerPlan) -> TrainerPlan:
        """The frozen plan in the log's present epoch, with rows and adapter where they lie if the folder has moved."""
        rows_path = str(self._contents.path(plan.rows_sha256))
        keys = str(self._answers_keys_dir / dataset_id)
        adapter = str(JobFolder(self._jobs_dir / plan.job_id).start) if plan.adapter_folder else None
        return msgspec.structs.replace(
            plan, epoch=self._store.head.epoch, rows_path=rows_path, answers_keys=keys, adapter_folder=adapter
        )

    async def _paused(self, folder: JobFolder, process: RunningTrainer) -> None:
        """Let a trainer save a checkpoint and leave; one that stays is ended."""
        folder.write_control("pause")
        process.terminate()
        with anyio.move_on_after(PAUSE_S):
            await process.gone()
        process.kill_group()
        process.close()

    async def _look_for_strays(self, running: set[str]) -> None:
        """Trainers in folders of jobs that do not run: ended ones are stopped, foreign ones are only reported."""
        for path in sorted(self._jobs_dir.iterdir()):
            if path.name in running or not (path / "lock").exists():
                continue
            folder = JobFolder(path)
            if not folder.is_alive():
                continue
            if not self._is_ours(folder):
                await self._refuse(path.name)
                continue
            process = RunningTrainer.find(folder)
            log.warning("job %s: a trainer works on although the job does not run; it is stopped", path.name)
            if process is not None:
                async with self._store.session() as session:
                    row = await job(session, path.name)
                if row is not None and row.state in ENDED:
                    process.kill_group()
                    with anyio.move_on_after(10):
                        await process.gone()
                    process.close()
                else:
                    await self._paused(folder, process)

    async def _refuse(self, job_id: str) -> None:
        log.warning("job %s is not taken over: %s", job_id, FOREIGN)
        await self._handler.handle(RefuseOperation(f"adopt {job_id}", "foreign_job_folder"), actor=self._actor)

    async def _fail(self, job_id: str, reason: str, text: str, hint: str = "") -> None:
        log.error("job %s: %s", job_id, text)
        await self._handler.handle(FailJob(job_id, reason, text, hint), actor=self._actor)

    async def _wait_for_room(self, text: str) -> None:
        log.error("%s", text)
        self._troubles["start"] = text
        await anyio.sleep(FULL_DISK_S)


def _allows_training(state: datasets.DatasetState | None) -> bool:
    # A dataset that a restore took off the list stands under no consent either.
    return state is not None and "train" in state.consent_scopes


def _is_put_away(state: datasets.DatasetState | None) -> bool:
    """Whether a restore took the dataset off the list: its jobs wait until that is undone."""
    return state is not None and state.removed and state.contents_kept


def _set_aside_lost_frames(folder: JobFolder, attempt: int) -> None:
    """An attempt that the log does not know any more left a report under this number: it must not be taken for ours."""
    for path in (folder.spool_path(attempt), folder.log_path(attempt)):
        if path.exists():
            os.replace(path, path.with_name(f"{path.name}.lost"))
