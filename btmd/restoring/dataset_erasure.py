"""Erasing a dataset: contents, what was written from them, and the keys of their copies in backups, for good.

The event comes first; what it names then leaves the disk, and a start goes on where a kill cut that off. Backup folders
that cannot be reached are named, and looked for from then on.
"""

import logging
import shutil
from collections.abc import Callable

import anyio
import anyio.to_thread
from msgspec import Struct

from btmd.backup.requests import EraseKeysRequest, KeysErasedAnswer
from btmd.backups.child import BackupChild
from btmd.backups.folders import manifests_in
from btmd.command_handler import CommandHandler
from btmd.config import Config
from btmd.domain.dataset import EraseDataset, RecordErasure, RevokeConsent, stream_name
from btmd.domain.event import Actor
from btmd.errors import BtmdError, Conflict
from btmd.files.durable import sync_folder
from btmd.job_folder import JobFolder
from btmd.projections.dataset import DatasetRow, ErasureRow, erasures, versions
from btmd.projections.job import jobs_on_dataset, unfinished_jobs
from btmd.registry.contents_in_use import ContentsInUse
from btmd.state_folder import refused
from btmd.store.event_log import Store
from btmd.subscriptions import subscribe

log = logging.getLogger("btmd.erasure")

ENDING_S = 60.0
"""How long an erasure waits for trainings on the dataset to end, with a checkpoint."""
TRIES = 5
"""How often somebody may start another training on it before an erasure gives up."""
LOOK_FOR_FOLDERS_S = 60.0
TROUBLE = "erasure"


class Erased(Struct, frozen=True):
    """``jobs`` were trained on the dataset; ``unreached`` folders hold backups of it that can still be read."""

    jobs: tuple[str, ...]
    unreached: tuple[str, ...]


class DatasetErasure:
    def __init__(
        self,
        *,
        config: Config,
        store: Store,
        handler: CommandHandler,
        in_use: ContentsInUse,
        submitting: anyio.Lock,
        child: BackupChild,
        backups_folder: Callable[[], str],
        daemon: Actor,
        troubles: dict[str, str],
    ) -> None:
        self._config, self._store, self._handler = config, store, handler
        self._in_use, self._submitting, self._child = in_use, submitting, child
        self._backups_folder, self._daemon, self._troubles = backups_folder, daemon, troubles
        self._asked = anyio.Event()
        self._turn = anyio.Lock()

    async def erase(self, row: DatasetRow, *, actor: Actor) -> Erased:
        """Destroy a dataset, registered or removed.

        Raises Conflict while a training on it still ends, StoreFull, StateFolderReadOnly.
        """
        for _ in range(TRIES):
            if (jobs := await self._recorded(row, actor)) is not None:
                break
        else:
            raise Conflict(
                f"Somebody keeps starting trainings on the dataset {row.name}.", hint="Try again when nobody does."
            )
        try:
            await self._finish()
        except OSError as problem:
            # The event is there: what is left of it is taken away at the next start.
            raise refused(self._config.state_dir, problem) from None
        state, _ = await self._handler.state(stream_name(row.dataset_id))
        return Erased(jobs, state.unreached)

    async def _recorded(self, row: DatasetRow, actor: Actor) -> tuple[str, ...] | None:
        """Have the event in the log, and return the jobs that it names; None where another one was just started."""
        state, _ = await self._handler.state(stream_name(row.dataset_id))
        if state is not None and state.consent_scopes:
            await self._handler.handle(RevokeConsent(row.dataset_id, actor.uid), actor=actor)
        await self._wait_for_jobs(row)
        # From the look at the jobs until the event nobody starts one that it would not name.
        async with self._submitting:
            if await self._unfinished(row):
                return None
            async with self._store.session() as session:
                every = await versions(session, row.dataset_id)
                jobs = tuple(one.job_id for one in await jobs_on_dataset(session, row.dataset_id))
            command = EraseDataset(
                row.dataset_id,
                actor.uid,
                tuple(one.version_id for one in every),
                tuple(dict.fromkeys(sha256 for one in every for sha256 in (one.rows_sha256, one.source_sha256))),
                jobs,
            )
            await self._handler.handle(command, actor=actor)
        return jobs

    async def finish(self) -> None:
        """At a start: take up erasures that were cut off. What fails is told, and tried again at the next one."""
        try:
            await self._finish()
        except (BtmdError, OSError) as error:
            log.error("an erasure could not be finished: %s", error)
            self._troubles[TROUBLE] = f"A dataset could not be erased wholly: {error}. The next start goes on."

    async def run(self) -> None:
        """Wait for backup folders that hold erased keys, and treat them when they appear."""
        while True:
            self._asked = anyio.Event()
            unreached = await self._unreached()
            if any(manifests_in(folder) is not None for folder in unreached):
                try:
                    await self._hand_out()
                except BtmdError as error:
                    log.warning("a backup folder that came back still holds erased keys: %s", error.detail)
            with anyio.move_on_after(LOOK_FOR_FOLDERS_S if unreached else None):
                await self._asked.wait()

    async def _wait_for_jobs(self, row: DatasetRow) -> None:
        position = self._store.head.seq
        if not await self._unfinished(row):
            return
        with anyio.move_on_after(ENDING_S):
            async for _ in subscribe(self._store, position):
                if not await self._unfinished(row):
                    return
        if left := await self._unfinished(row):
            raise Conflict(
                f"The job {left[0]} still saves what it has.",
                hint=f"It trains on nothing any more; erase {row.name} again when it has ended.",
            )

    async def _unfinished(self, row: DatasetRow) -> list[str]:
        async with self._store.session() as session:
            return [one.job_id for one in await unfinished_jobs(session) if one.dataset_id == row.dataset_id]

    async def _finish(self) -> None:
        async with self._turn:
            await self._finish_all()

    async def _finish_all(self) -> None:
        async with self._store.session() as session:
            pending = [one for one in await erasures(session) if not one.done]
        for one in pending:
            await self._take_away(one)
            answer = await self._erase_keys(one.dataset_id)
            await self._handler.handle(RecordErasure(one.dataset_id, answer.keys, answer.unreached), actor=self._daemon)
            log.info("dataset %s was erased, %d backup folders are out of reach", one.dataset_id, len(answer.unreached))
        self._troubles.pop(TROUBLE, None)
        self._asked.set()

    async def _take_away(self, erased: ErasureRow) -> None:
        await self._in_use.remove_erased(erased.dataset_id, erased.contents)
        # After the work on it has ended, which may have remembered something.
        await anyio.to_thread.run_sync(self._remove_files, erased)

    def _remove_files(self, erased: ErasureRow) -> None:
        config = self._config
        shutil.rmtree(config.answers_keys_dir / erased.dataset_id, ignore_errors=True)
        for job_id in erased.jobs:
            folder = JobFolder(config.jobs_dir / job_id)
            folder.answers_path.unlink(missing_ok=True)
            if folder.path.is_dir():
                sync_folder(folder.path)
        for version_id in erased.versions:
            for kept in config.cache_dir.glob(f"*{version_id}*"):
                shutil.rmtree(kept) if kept.is_dir() else kept.unlink(missing_ok=True)

    async def _erase_keys(self, dataset_id: str) -> KeysErasedAnswer:
        async with self._child.turn:
            request = EraseKeysRequest(**self._child.place(self._backups_folder()), dataset_id=dataset_id)
            return await self._child.ask(request, KeysErasedAnswer)

    async def _unreached(self) -> set[str]:
        async with self._store.session() as session:
            return {folder for one in await erasures(session) for folder in one.unreached}

    async def _hand_out(self) -> None:
        """Bring the ring without the erased keys into every folder within reach."""
        answer = await self._erase_keys("")
        async with self._store.session() as session:
            waiting = {one.dataset_id: one for one in await erasures(session) if one.unreached}
        for one in waiting.values():
            left = tuple(folder for folder in one.unreached if folder in answer.unreached)
            await self._handler.handle(RecordErasure(one.dataset_id, 0, left), actor=self._daemon)
