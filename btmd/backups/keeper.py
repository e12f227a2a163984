"""The daemon's side of backups: a child does the work, and what came of it is recorded."""

import logging
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from btmd.backup.requests import (
    BringBackRequest,
    BroughtBackAnswer,
    CheckAnswer,
    CreatedAnswer,
    CreateRequest,
    DeletedAnswer,
    DeleteRequest,
    DrillAnswer,
    DrillRequest,
    ListAnswer,
    PruneRequest,
    Request,
    ShowAnswer,
    ShowRequest,
    StatesAnswer,
    StatesRequest,
    VerifyAnswer,
    VerifyRequest,
)
from btmd.backups.child import BackupChild, Result
from btmd.backups.folders import deleted_meanwhile, facts_of, fault_of, gone, manifests_in, require_reach
from btmd.backups.inventory import take_inventory
from btmd.backups.known import KnownBackups
from btmd.child.caller import OnProgress, ignore_progress
from btmd.command_handler import CommandHandler
from btmd.config import Config
from btmd.domain import settings
from btmd.domain.backup import (
    BackupFacts,
    BackupsState,
    BeginDeletion,
    CheckedBackup,
    RecordBackup,
    RecordBackupFailure,
    RecordChecks,
    RecordDeletion,
    RecordDrill,
)
from btmd.domain.event import Actor
from btmd.domain.settings import SettingsState
from btmd.domain.units import GIB
from btmd.errors import (
    BtmdError,
    Damaged,
    FileMissing,
    InvalidValue,
    PartMissing,
    PathNotOpened,
    Tampered,
    WrongKey,
)
from btmd.fair_turns import FairTurns
from btmd.projections.backup import BackupRow, backups
from btmd.registry.content import ContentStore
from btmd.store.event_log import IdempotencyKey, Store

log = logging.getLogger("btmd.backups")

LOOKS_AT_ONCE = 2
"""Children that only look into a backup or walk the log, which every viewer may ask for."""


class Wish(Struct, frozen=True):
    """A backup to make; ``to`` names a folder other than the state folder's own."""

    kind: Literal["config", "full", "selective"] = "full"
    only: tuple[str, ...] = ()
    description: str = "Manual backup"
    cause: str = "manual"
    with_artefacts: bool = False
    to: str | None = None


class Made(Struct, frozen=True):
    """A backup that was made. ``freed_bytes``: by deleting it now."""

    folder: str
    facts: BackupFacts
    new_events: int
    written_bytes: int
    freed_bytes: int


class Backups:
    """Makes, reads, checks, proves and deletes backups; one child at a time changes or reads through a folder."""

    def __init__(
        self,
        *,
        config: Config,
        store: Store,
        handler: CommandHandler,
        contents: ContentStore,
        known: KnownBackups,
        child: BackupChild,
        daemon: Actor,
        troubles: dict[str, str],
    ) -> None:
        self._config, self._store, self._handler, self._contents = config, store, handler, contents
        self.known = known
        self._child, self._daemon, self._troubles = child, daemon, troubles
        self.looks = FairTurns(LOOKS_AT_ONCE)

    # --- making --------------------------------------------------------------------------------

    async def create(
        self,
        wish: Wish,
        *,
        actor: Actor,
        on_progress: OnProgress = ignore_progress,
        idempotency: IdempotencyKey | None = None,
        respond: Callable[[Made, BackupsState], bytes] | None = None,
    ) -> Made | None:
        """Make a backup; None where an earlier request with the same idempotency key made it.

        Raises PathNotOpened, FileMissing, InvalidValue, IdempotencyMismatch, and what the library raises.
        """
        async with self._child.turn:
            if idempotency is not None and await self._store.earlier(idempotency) is not None:
                return None
            folder = self._target(wish.to, actor)
            try:
                answer = await self._made(wish, folder, on_progress)
            except BtmdError as error:
                await self._note_failure(wish, folder, error, actor)
                raise
            listed = next(one for one in answer.listing.backups if one.name == answer.name)
            made = Made(folder, facts_of(listed), answer.new_events, answer.written_bytes, listed.freed_bytes)
            command = RecordBackup(folder, made.facts, made.new_events, made.written_bytes, answer.rewritten_log)
            await self._handler.handle(
                command,
                actor=actor,
                idempotency=idempotency,
                respond=None if respond is None else lambda state, rows: respond(made, state),
            )
            self._troubles.pop("backup", None)
            await self.known.take(folder, answer.listing)
            return made

    async def create_before(
        self,
        cause: str,
        *,
        actor: Actor,
        with_artefacts: bool = False,
        on_progress: OnProgress = ignore_progress,
    ) -> BackupRow:
        """Make a full backup before something that cannot be taken back otherwise, and read it through again.

        ``cause`` names that. Raises what ``create`` does, and what is wrong with the backup where it cannot be read:
        then nothing may follow.
        """
        wish = Wish(description=f"Before: {cause}", cause=cause, with_artefacts=with_artefacts)
        for last_try in (False, True):
            made = await self.create(wish, actor=actor, on_progress=on_progress)
            assert made is not None, "there was no key that an earlier request could have had"
            row = await self.known.row(made.folder, made.facts.name)
            ((_, check),) = await self.verify([row], actor=actor, on_progress=on_progress)
            if not check.code:
                return await self.known.row(row.folder, row.name)
            # The fault may be in what an earlier one left; the next one builds on none.
            if last_try:
                raise fault_of(check.code, check.detail, check.hint)
        raise AssertionError("not reached")

    async def _made(self, wish: Wish, folder: str, on_progress: OnProgress) -> CreatedAnswer:
        async with self._store.session() as session:
            same = [row for row in await backups(session, folder) if row.kind == wish.kind]
        request = CreateRequest(
            **self._child.place(folder),
            database=str(self._config.database_path),
            kind=wish.kind,
            only=wish.only,
            description=wish.description,
            cause=wish.cause,
            with_artefacts=wish.with_artefacts,
            # What a check found in the newest one would go on in every one that builds on it.
            anew=bool(same) and bool(same[0].fault),
            inventory=await take_inventory(
                self._store, self._contents, self._config.jobs_dir, self._config.answers_keys_dir
            ),
        )
        return await self._child.ask(request, CreatedAnswer, on_progress)

    def _target(self, to: str | None, actor: Actor) -> str:
        if to is None:
            return self.known.own_folder
        if actor.uid != os.getuid():
            raise PathNotOpened(
                "The daemon runs as another user than you and writes to no folder of yours.",
                hint="`btmctl backup create --to DIR` makes it here and brings its files there with your rights.",
            )
        path = Path(os.path.normpath(to))
        if not path.is_absolute() or "\0" in to:
            raise InvalidValue("The folder for the backup must be an absolute path.")
        if path.resolve() == Path(self.known.own_folder).resolve():
            return self.known.own_folder
        for mine in (self._config.state_dir.resolve(), self._config.config_dir.resolve()):
            if path.resolve().is_relative_to(mine):
                # There it would lie beside its key, or among files that are looked after as something else.
                raise InvalidValue(
                    f"{path} is inside {mine}, which the daemon keeps for itself.",
                    hint="Leave --to out for the daemon's own backups, or name a folder on another disk.",
                )
        if not path.is_dir() and not path.parent.is_dir():
            # A stick that is not there must not become a folder on the disk it would have protected from.
            raise FileMissing(f"There is no folder {path.parent}.", hint="Is the disk or stick there?")
        return str(path)

    async def _note_failure(self, wish: Wish, folder: str, error: BtmdError, actor: Actor) -> None:
        if isinstance(error, InvalidValue):
            return
        self._troubles["backup"] = f"The last backup failed: {error.detail}"
        try:
            await self._handler.handle(RecordBackupFailure(folder, wish.cause, error.code, error.detail), actor=actor)
        except BtmdError as problem:
            # The first failure is the one to tell.
            log.error("a failed backup could not be recorded: %s", problem.detail)

    # --- reading -------------------------------------------------------------------------------

    async def show(self, row: BackupRow) -> ShowAnswer:
        """What is in a backup, and what is not. Raises PartMissing, Damaged, Tampered, WrongKey."""
        require_reach(row)
        request = ShowRequest(**self._child.place(row.folder), name=row.name)
        async with self.looks.turn():
            return await self._child.ask(request, ShowAnswer)

    async def states(
        self, row: BackupRow, prefixes: Sequence[str], on_progress: OnProgress = ignore_progress
    ) -> StatesAnswer:
        """The events of a backup's streams whose names begin with one of ``prefixes``; all of it is checked before.

        Raises BackupNotFound, PartMissing, Damaged, Tampered, WrongKey; what is wrong with it is recorded too.
        """
        request = StatesRequest(**self._child.place(row.folder), name=row.name, prefixes=tuple(prefixes))
        return await self._read(row, request, StatesAnswer, on_progress)

    async def bring_back(self, row: BackupRow, contents: Collection[str]) -> BroughtBackAnswer:
        """Put contents that a backup holds, by their hashes, back into the content store. Raises as ``states``."""
        request = BringBackRequest(
            **self._child.place(row.folder),
            name=row.name,
            state_dir=str(self._config.state_dir),
            contents=tuple(contents),
        )
        return await self._read(row, request, BroughtBackAnswer)

    async def _read(
        self, row: BackupRow, request: Request, kind: type[Result], on_progress: OnProgress = ignore_progress
    ) -> Result:
        async with self._child.turn:
            await self._require_there(row)
            try:
                return await self._child.ask(request, kind, on_progress)
            except (PartMissing, Damaged, Tampered, WrongKey) as error:
                require_reach(row)
                fault = CheckedBackup(row.name, code=error.code, detail=error.detail)
                await self._handler.handle(RecordChecks(row.folder, (fault,)), actor=self._daemon)
                raise

    async def _require_there(self, row: BackupRow) -> None:
        """With the turn: others may have deleted it, or taken its disk away, while it was waited for."""
        if row.name not in await self.known.names(row.folder):
            raise deleted_meanwhile(row.name)
        require_reach(row)

    # --- proving -------------------------------------------------------------------------------

    async def verify(
        self, rows: Sequence[BackupRow], *, actor: Actor, on_progress: OnProgress = ignore_progress
    ) -> list[tuple[BackupRow, CheckAnswer]]:
        """Read backups through; what is wrong with one is told in its answer and recorded.

        One that is deleted before its turn comes is left out. Raises BackupNotFound where that leaves none.
        """
        checked: list[tuple[BackupRow, CheckAnswer]] = []
        for folder in dict.fromkeys(row.folder for row in rows):
            async with self._child.turn:
                there = await self.known.names(folder)
                mine = {row.name: row for row in rows if row.folder == folder and row.name in there}
                if not mine:
                    continue
                first = next(iter(mine.values()))
                require_reach(first)
                request = VerifyRequest(**self._child.place(folder), names=tuple(mine))
                answer = await self._child.ask(request, VerifyAnswer, on_progress)
                # Of a disk that was taken away in the middle, nothing is known to be wrong.
                require_reach(first)
                checks = tuple(
                    CheckedBackup(one.name, one.events, one.artefacts, one.state, one.code, one.detail)
                    for one in answer.checks
                )
                await self._handler.handle(RecordChecks(folder, checks), actor=actor)
            for one in checks:
                if not one.code:
                    self._settle(mine[one.name])
            # What is wrong with the folder's keys concerns every backup in it, and the fault of none.
            checked += [(mine[one.name], one if one.code else _with_ring(one, answer.ring)) for one in answer.checks]
        if rows and not checked:
            raise deleted_meanwhile(rows[0].name)
        return checked

    def _settle(self, row: BackupRow) -> None:
        """A backup that is whole or gone is not told of as one that could not be restored."""
        if row.backup_id in self._troubles.get("restore drill", ""):
            del self._troubles["restore drill"]

    async def verify_all(
        self, *, actor: Actor, on_progress: OnProgress = ignore_progress
    ) -> tuple[list[tuple[BackupRow, CheckAnswer]], list[str]]:
        """Every backup within reach read through, those that are gone named; and the folders out of reach."""
        rows = [row for row, _ in await self.known.listed()]
        away = {row.folder for row in rows if manifests_in(row.folder) is None}
        checked = await self.verify(
            [row for row in rows if row.folder not in away], actor=actor, on_progress=on_progress
        )
        async with self._store.session() as session:
            lost = [(row, gone(row)) for row in await backups(session, lost=True)]
        checked += [
            (row, CheckAnswer(row.name, code=error.code, detail=error.detail, hint=error.hint)) for row, error in lost
        ]
        return checked, sorted(away)

    async def drill(self, row: BackupRow, *, actor: Actor, on_progress: OnProgress = ignore_progress) -> DrillAnswer:
        """Restore a backup into a temporary place, replay it, compare the state; a failure is told and recorded."""
        request = DrillRequest(**self._child.place(row.folder), name=row.name, tmp=str(self._config.cache_dir))
        async with self._child.turn:
            await self._require_there(row)
            answer = await self._child.ask(request, DrillAnswer, on_progress)
            require_reach(row)
            command = RecordDrill(
                row.folder,
                row.name,
                answer.events,
                answer.head_seq,
                answer.duration_us,
                answer.state,
                answer.code,
                answer.detail,
            )
            await self._handler.handle(command, actor=actor)
        if answer.code:
            self._troubles["restore drill"] = f"The backup {row.backup_id} could not be restored: {answer.detail}"
        else:
            self._troubles.pop("restore drill", None)
        return answer

    # --- taking away ---------------------------------------------------------------------------

    async def delete(self, row: BackupRow, *, actor: Actor) -> int:
        """Delete one backup; returns how many bytes that freed. No other backup needs what goes."""
        if row.lost:
            await self._handler.handle(RecordDeletion(row.folder, (row.name,), "asked"), actor=actor)
            self._settle(row)
            return 0
        require_reach(row)
        async with self._child.turn:
            request = DeleteRequest(**self._child.place(row.folder), names=(row.name,))
            async with self.known.deleting(BeginDeletion(row.folder, request.names, "asked"), actor):
                answer = await self._child.ask(request, DeletedAnswer)
            # Not before: a drill that had the turn may have told of it.
            self._settle(row)
            await self.known.record_deletion(RecordDeletion(row.folder, answer.names, "asked"), actor)
            await self.known.take(row.folder, answer.listing)
        return answer.freed_bytes

    async def prune(
        self, *, actor: Actor, dry_run: bool = False, on_progress: OnProgress = ignore_progress
    ) -> DeletedAnswer:
        """Let go what the settings do not keep, in the state folder's own backups; with ``dry_run`` only name it."""
        if manifests_in(self.known.own_folder) is None:
            return DeletedAnswer((), 0, True, ListAnswer(()))
        async with self._child.turn:
            # Not before: whoever has the turn may have it for long, and what is let go does not come back.
            request = await self._pruning()
            preview = await self._child.ask(request, DeletedAnswer)
            if dry_run:
                return preview
            leaving = (*preview.names, *([preview.replaced] if preview.replaced else []))
            request = msgspec.structs.replace(request, dry_run=False)
            async with self.known.deleting(BeginDeletion(self.known.own_folder, leaving, "prune"), actor):
                answer = await self._child.ask(request, DeletedAnswer, on_progress)
            anew = next((facts_of(one) for one in answer.listing.backups if one.name == answer.made_anew), None)
            await self.known.record_deletion(RecordDeletion(self.known.own_folder, answer.names, "prune", anew), actor)
            await self.known.take(self.known.own_folder, answer.listing)
        return answer

    async def _pruning(self) -> PruneRequest:
        """What the settings say now."""
        state, _ = await self._handler.state(settings.STREAM)
        value = (state or SettingsState()).get
        max_gb = float(value("backup.max_gb"))
        return PruneRequest(
            **self._child.place(self.known.own_folder),
            last=int(value("backup.keep_last")),
            daily=int(value("backup.keep_daily")),
            weekly=int(value("backup.keep_weekly")),
            monthly=int(value("backup.keep_monthly")),
            max_size_bytes=int(max_gb * GIB) if max_gb else None,
            dry_run=True,
        )


def _with_ring(check: CheckAnswer, ring: CheckAnswer | None) -> CheckAnswer:
    if ring is None:
        return check
    return msgspec.structs.replace(check, code=ring.code, detail=ring.detail, hint=ring.hint)
