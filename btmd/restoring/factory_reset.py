"""Back to the defaults, with or without user data: never without a backup that was read through, and not for ever."""

import logging
from collections.abc import Callable, MutableMapping
from pathlib import Path

import anyio
import anyio.to_thread
from msgspec import Struct
from msgspec.structs import replace

from btmd.backup.requests import ArtefactProblem, BringBackRequest, BroughtBackAnswer
from btmd.backups.child import BackupChild
from btmd.backups.inventory import take_inventory
from btmd.backups.keeper import Backups
from btmd.child.caller import OnProgress, ignore_progress
from btmd.command_handler import CommandHandler
from btmd.config import Config
from btmd.domain import reset as resets
from btmd.domain.access import AccessRevoked
from btmd.domain.dataset import DatasetRemoved
from btmd.domain.event import Actor, Event
from btmd.domain.job import WORKING
from btmd.domain.preset_definition import PresetDeleted
from btmd.domain.reset import (
    PRESERVED,
    CompleteReset,
    FactoryResetCompleted,
    FactoryResetStarted,
    NoteUndone,
    ResetState,
)
from btmd.domain.restore import COMPONENTS, Manner, Restored
from btmd.domain.settings import SettingChanged
from btmd.errors import BtmdError, Conflict, LogMovedOn, NotEnoughDisk
from btmd.history import History
from btmd.projections.backup import BackupRow
from btmd.projections.dataset import referenced_contents
from btmd.projections.job import unfinished_contents, unfinished_jobs
from btmd.projections.model import models
from btmd.registry.content import ContentStore
from btmd.registry.contents_in_use import ContentsInUse
from btmd.registry.model_upload import ARRIVING
from btmd.restoring.erasure import Part, erase, folder_size, free_bytes, held_by_backup, not_held
from btmd.restoring.restore import Prepared, Restoring, registered_contents
from btmd.restoring.target import target_in_backup
from btmd.state_folder import refused
from btmd.store.errors import VersionConflict
from btmd.store.event_log import IdempotencyKey, Store, StreamAppend

log = logging.getLogger("btmd.reset")

TROUBLE = "factory reset"
CAUSE = "factory reset"
SPARE_BYTES = 16 * 1024 * 1024
"""Room that a backup leaves free for the log."""
MAX_ATTEMPTS = 3
_UNDO = (
    # What came since the reset stays. Access is named by itself: what the reset withdrew is meant to come back.
    Manner(tuple(one for one in COMPONENTS if one != "access"), "merge", "restored"),
    Manner(("access",), "merge", "restored"),
)


class JobsUnderWay(Conflict):
    code, title = "jobs_under_way", "Trainings are under way"


class Waiting(Struct, frozen=True):
    """A job that a reset does not interrupt."""

    job_id: str
    state: str


class Preview(Struct, frozen=True):
    """What a reset would change, what it would take off the disk, and what the backup before it cannot hold.

    ``backup_bytes`` is the most that the backup may take. ``waits_for`` are the jobs that have to end before.
    """

    changes: list[Restored]
    left_alone: list[str]
    erased: list[Part]
    not_held: list[Part]
    backup_bytes: int
    free_bytes: int
    waits_for: list[Waiting]


class Reset(Struct, frozen=True):
    """A reset that was done. ``undo_seq``: the event before it."""

    reset_id: str
    backup_id: str
    changes: list[Restored]
    left_alone: list[str]
    undo_seq: int


class Undone(Struct, frozen=True):
    """What an undone reset brought back. ``problems``: files that could not be. ``undo_seq``: the event before it."""

    changes: list[Restored]
    left_alone: list[str]
    files: int
    problems: tuple[ArtefactProblem, ...]
    undo_seq: int


class UndoPreview(Struct, frozen=True):
    """What undoing the newest reset would change. ``files`` are those that its backup holds."""

    reset_id: str
    backup_id: str
    changes: list[Restored]
    left_alone: list[str]
    files: int
    files_bytes: int
    expected_head: int


class FactoryReset:
    """Previews, carries out, finishes and undoes resets; one at a time."""

    def __init__(
        self,
        *,
        config: Config,
        store: Store,
        handler: CommandHandler,
        history: History,
        restoring: Restoring,
        backups: Backups,
        child: BackupChild,
        contents: ContentStore,
        in_use: ContentsInUse,
        daemon: Actor,
        new_id: Callable[[], str],
        troubles: MutableMapping[str, str],
    ) -> None:
        self._config, self._store, self._handler, self._history = config, store, handler, history
        self._restoring, self._backups, self._child, self._contents = restoring, backups, child, contents
        self._in_use, self._daemon, self._new_id, self._troubles = in_use, daemon, new_id, troubles
        self._turn = anyio.Lock()

    async def preview(self, preserve_user_data: bool, by_uid: int) -> Preview:
        """What ``reset`` would do once no job is under way."""
        waits_for = await self._under_way(preserve_user_data)
        plan = (await self._prepare(preserve_user_data, by_uid)).plan
        inventory = await take_inventory(
            self._store, self._contents, self._config.jobs_dir, self._config.answers_keys_dir
        )
        log_bytes = self._config.database_path.stat().st_size
        free = free_bytes(self._config.backups_dir)
        if preserve_user_data:
            return Preview(plan.changes, plan.left_alone, [], [], log_bytes, free, waits_for)
        jobs, named, _ = await self._on_disk()
        registered = self._contents.with_chunks(await registered_contents(self._store))
        kept = {self._contents.path(one) for one in self._contents.with_chunks(named) - registered}
        held = await anyio.to_thread.run_sync(held_by_backup, inventory)
        lost = await anyio.to_thread.run_sync(not_held, inventory, kept, self._config.models_dir, self._config.jobs_dir)
        sizes = self._contents.stored_bytes(named)
        erased = [
            Part("files of datasets", len(named), sizes),
            Part("folders of jobs, with their results", len(jobs), sum(map(folder_size, map(self._job_dir, jobs)))),
        ]
        erased = [part for part in erased if part.count]
        return Preview(plan.changes, plan.left_alone, erased, lost, log_bytes + held, free, waits_for)

    async def reset(
        self,
        preserve_user_data: bool,
        *,
        actor: Actor,
        on_progress: OnProgress = ignore_progress,
        idempotency: IdempotencyKey | None = None,
        respond: Callable[[Reset], bytes] | None = None,
    ) -> Reset:
        """Back up and read the backup through; then the defaults, in one transaction; then the disk.

        Raises JobsUnderWay, NotEnoughDisk, LogMovedOn where others never stop changing things, what a backup raises,
        StateFolderReadOnly and StoreFull where the disk refuses: the rest is then done at the next start.
        """
        async with self._turn:
            for _ in range(MAX_ATTEMPTS):
                await self._require_idle(preserve_user_data)
                preview = await self.preview(preserve_user_data, actor.uid)
                if preview.free_bytes < preview.backup_bytes + SPARE_BYTES:
                    raise NotEnoughDisk(
                        f"The backup before the reset may need {preview.backup_bytes / 1e6:.0f} MB, and"
                        f" {preview.free_bytes / 1e6:.0f} MB are free. Nothing was changed.",
                        hint="Make room, delete old backups (`btmctl backup list`), or give --preserve-user-data.",
                    )
                row = await self._backups.create_before(
                    CAUSE, actor=actor, with_artefacts=not preserve_user_data, on_progress=on_progress
                )
                # From here to the end whatever becomes of who asked: half a reset helps nobody.
                with anyio.CancelScope(shield=True):
                    done = await self._apply(preserve_user_data, row, actor, idempotency, respond)
                    if done is None:
                        continue
                    if not preserve_user_data:
                        on_progress(0.9, "Taking user data off the disk")
                        await self._erase()
                    return done
            raise LogMovedOn(
                "Others kept changing things while the backup was made. Nothing was reset.", hint="Try again."
            )

    async def finish(self) -> None:
        """At the start: take off the disk what a reset that was cut off left there."""
        try:
            await self._erase()
        except BtmdError as error:
            log.error("a factory reset waits for the next start: %s", error.detail)

    async def preview_undo(self, by_uid: int, on_progress: OnProgress = ignore_progress) -> UndoPreview:
        """What ``undo`` would do now; the backup is read through for it. Raises as ``undo``."""
        state, row = await self._to_undo()
        target = await target_in_backup(row, self._backups, self._store, self._history, on_progress)
        expected_head = self._store.head.seq
        plans = [(await self._restoring.prepare(target, manner, by_uid)).plan for manner in _UNDO]
        files = [one for one in (await self._backups.show(row)).artefacts if not one.erased]
        return UndoPreview(
            state.reset_id,
            row.backup_id,
            [one for plan in plans for one in plan.changes],
            [text for plan in plans for text in plan.left_alone],
            len(files),
            sum(one.size_bytes for one in files),
            expected_head,
        )

    async def undo(
        self, *, actor: Actor, expected_head: int | None = None, on_progress: OnProgress = ignore_progress
    ) -> Undone:
        """Bring back what the newest reset took away, files included; what came since stays.

        With ``expected_head``, only if nothing of it changed after that event. Raises Conflict where there was none,
        LogMovedOn, BackupNotFound, PartMissing, Damaged, Tampered, WrongKey.
        """
        async with self._turn:
            with self._in_use.bringing_back():
                return await self._undo(actor, expected_head, on_progress)

    async def _undo(self, actor: Actor, expected_head: int | None, on_progress: OnProgress) -> Undone:
        state, row = await self._to_undo()
        target = await target_in_backup(row, self._backups, self._store, self._history)
        brought = await self._bring_back(row, on_progress)
        changes: list[Restored] = []
        left_alone: list[str] = []
        undo_seq = self._store.head.seq
        for manner in _UNDO:
            done = await self._restoring.restore(target, manner, actor=actor, expected_head=expected_head)
            if done.rows and not changes:
                undo_seq = done.rows[0].seq - 1
            changes += done.prepared.plan.changes
            left_alone += done.prepared.plan.left_alone
        command = NoteUndone(state.reset_id, brought.artefacts, tuple(left_alone))
        await self._handler.handle(command, actor=actor)
        return Undone(changes, left_alone, brought.artefacts, brought.problems, undo_seq)

    async def _to_undo(self) -> tuple[ResetState, BackupRow]:
        """The newest reset and the backup before it. Raises Conflict, BackupNotFound."""
        state: ResetState | None
        state, _ = await self._handler.state(resets.STREAM)
        if state is None or state.undone or not state.completed:
            raise Conflict(
                "There is no factory reset that could be undone.",
                hint="`btmctl restore` brings back any earlier moment.",
            )
        return state, await self._backups.known.find(state.backup_id)

    async def _bring_back(self, row: BackupRow, on_progress: OnProgress) -> BroughtBackAnswer:
        request = BringBackRequest(
            **self._child.place(row.folder), name=row.name, state_dir=str(self._config.state_dir)
        )
        async with self._child.turn:
            return await self._child.ask(request, BroughtBackAnswer, on_progress)

    async def _prepare(self, preserve_user_data: bool, by_uid: int) -> Prepared:
        """The way to the state before the first event, of the parts that go."""
        components = PRESERVED if preserve_user_data else COMPONENTS
        return await self._restoring.prepare(0, Manner(components), by_uid)

    async def _apply(
        self,
        preserve_user_data: bool,
        row: BackupRow,
        actor: Actor,
        idempotency: IdempotencyKey | None,
        respond: Callable[[Reset], bytes] | None,
    ) -> Reset | None:
        """One transaction; None where something of it changed after the backup."""
        await self._require_idle(preserve_user_data)
        prepared = await self._prepare(preserve_user_data, actor.uid)
        if max(prepared.newest_seq, await self._newest_of_jobs()) > row.facts.head_seq:
            return None
        plan, reset_id = prepared.plan, self._new_id()[:10]
        jobs, contents, converted = ([], [], []) if preserve_user_data else await self._on_disk()
        started = FactoryResetStarted(
            reset_id, preserve_user_data, row.backup_id, row.folder, tuple(jobs), tuple(contents), tuple(converted)
        )
        changed = _counted(plan.changes)
        completed = FactoryResetCompleted(reset_id, changed, tuple(plan.left_alone))
        done = Reset(reset_id, row.backup_id, plan.changes, plan.left_alone, 0)
        appends = [
            StreamAppend(resets.STREAM, (started,)),
            *(
                StreamAppend(stream, tuple(map(_by_reset, events)), prepared.versions[stream])
                for stream, events in plan.events.items()
                if events
            ),
            *([StreamAppend(resets.STREAM, (completed,))] if preserve_user_data else []),
        ]
        try:
            appended = await self._store.commit(
                appends,
                actor=actor,
                correlation_id=reset_id,
                idempotency=idempotency,
                response=None if respond is None else lambda rows: respond(replace(done, undo_seq=rows[0].seq - 1)),
            )
        except VersionConflict:
            return None
        return replace(done, undo_seq=appended.events[0].seq - 1)

    async def _erase(self) -> None:
        """What the newest reset names leaves the disk, if it did not yet. Raises StateFolderReadOnly, StoreFull."""
        state: ResetState | None
        state, _ = await self._handler.state(resets.STREAM)
        if state is None or state.completed:
            return
        async with self._store.session() as session:
            needed = await referenced_contents(session) | await unfinished_contents(session)
            busy = {job.job_id for job in await unfinished_jobs(session)}
            folders = {Path(model.folder).name for model in await models(session)}
        # A job that failed could be taken up again, but its rows are to go.
        needed -= set(state.contents) - await registered_contents(self._store)
        needed |= self._in_use.held()
        try:
            freed = await anyio.to_thread.run_sync(
                lambda: erase(
                    self._config,
                    self._contents,
                    jobs=[job for job in state.jobs if job not in busy],
                    models=[model for model in state.models if model not in folders],
                    named=state.contents,
                    still_needed=needed,
                )
            )
        except OSError as problem:
            self._tell(problem)
            raise refused(self._config.state_dir, problem) from None
        counts = {"jobs": len(state.jobs), "contents": len(state.contents), "models": len(state.models)}
        changed = {name: count for name, count in counts.items() if count}
        await self._handler.handle(CompleteReset(state.reset_id, changed, (), freed), actor=self._daemon)
        self._troubles.pop(TROUBLE, None)
        log.warning("factory reset %s: %d bytes were taken off the disk", state.reset_id, freed)

    def _tell(self, problem: OSError) -> None:
        text = f"User data could not be taken off the disk: {problem.strerror or problem}. The next start goes on."
        log.error("%s", text)
        self._troubles[TROUBLE] = text

    async def _on_disk(self) -> tuple[list[str], list[str], list[str]]:
        """Jobs with a folder, contents, and models kept here: what erasing user data takes off the disk."""
        async with self._store.session() as session:
            named = await referenced_contents(session) | await unfinished_contents(session)
        contents = sorted(sha256 for sha256 in named if self._contents.has(sha256))
        kept = [name for name in _names(self._config.models_dir) if name != ARRIVING]
        return _names(self._config.jobs_dir), contents, kept

    async def _under_way(self, preserve_user_data: bool) -> list[Waiting]:
        async with self._store.session() as session:
            found = await unfinished_jobs(session)
        stopping = ("queued", *WORKING)
        return [Waiting(job.job_id, job.state) for job in found if not preserve_user_data or job.state in stopping]

    async def _require_idle(self, preserve_user_data: bool) -> None:
        under_way = await self._under_way(preserve_user_data)
        if under_way:
            named = ", ".join(f"{job.job_id} ({job.state})" for job in under_way[:5])
            raise JobsUnderWay(
                f"A reset waits for no training: {named}.",
                hint=f"`btmctl jobs cancel {under_way[0].job_id}` ends it; `btmctl jobs list` shows all.",
            )

    async def _newest_of_jobs(self) -> int:
        newest = "SELECT coalesce(max(seq), 0) FROM events WHERE stream >= 'job-' AND stream < 'job.'"
        return await self._store.query(lambda connection: int(connection.execute(newest).fetchone()[0]))

    def _job_dir(self, job_id: str) -> Path:
        return self._config.jobs_dir / job_id


def _by_reset(happened: Event) -> Event:
    """The event of a restore with our reason; a dataset's removal is the end of its contents, which that would keep."""
    match happened:
        case DatasetRemoved():
            return replace(happened, contents_kept=False)
        case SettingChanged() | AccessRevoked() | PresetDeleted():
            return replace(happened, why=CAUSE)
    return happened


def _counted(changes: list[Restored]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in changes:
        counts[one.component] = counts.get(one.component, 0) + 1
    return counts


def _names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
