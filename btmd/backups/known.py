"""What backups there are: the folders as a child lists them, compared with what the log knows."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from btmd.backup.requests import ListAnswer, ListRequest
from btmd.backups.child import BackupChild
from btmd.backups.folders import deleted_meanwhile, facts_of, gone, manifests_in
from btmd.command_handler import CommandHandler
from btmd.domain.backup import BeginDeletion, CheckedBackup, CompareFolder, RecordChecks, RecordDeletion
from btmd.domain.event import Actor
from btmd.errors import BackupNotFound, BtmdError
from btmd.naming import find_backup
from btmd.projections.backup import BackupRow, backups
from btmd.store.event_log import Store


class KnownBackups:
    """Lists and finds backups; what is new, gone or unreadable in a folder is recorded when it is seen."""

    def __init__(
        self,
        *,
        own_folder: str,
        store: Store,
        handler: CommandHandler,
        child: BackupChild,
        daemon: Actor,
        troubles: dict[str, str],
    ) -> None:
        self.own_folder = own_folder
        self._store, self._handler, self._child = store, handler, child
        self._daemon, self._troubles = daemon, troubles
        self._looked_at: dict[str, frozenset[str]] = {}
        """By folder, the manifests' names when a child last looked: nothing is new while they are the same."""
        self._freed: dict[tuple[str, str], int] = {}
        self._unrecorded: list[RecordDeletion] = []
        """What was deleted while the log took nothing: it must not count as lost."""

    async def look(self) -> None:
        """Compare what the folders hold with what is known, where anything changed since the last look."""
        async with self._store.session() as session:
            # A folder that lost all it had is looked at too: what comes back is found again.
            known = {row.folder for lost in (False, True) for row in await backups(session, lost=lost)}
        for folder in sorted(known | {self.own_folder}):
            names = manifests_in(folder)
            if names is None:
                self._looked_at.pop(folder, None)
                self._freed = {key: size for key, size in self._freed.items() if key[0] != folder}
            if names is None or self._looked_at.get(folder) == names:
                continue
            async with self._child.turn:
                try:
                    answer = await self._child.ask(ListRequest(**self._child.place(folder)), ListAnswer)
                except BtmdError as error:
                    # One folder that cannot be read hides nothing of the others.
                    self._troubles[f"backup folder {folder}"] = error.detail
                    continue
                self._troubles.pop(f"backup folder {folder}", None)
                await self.take(folder, answer)

    async def take(self, folder: str, listing: ListAnswer) -> None:
        """Record what a listing shows to be new, gone or unreadable."""
        # Only what was recorded counts as looked at: a log that was full meanwhile must not hide a backup.
        self._looked_at.pop(folder, None)
        names = manifests_in(folder) or frozenset()
        self._freed = {key: size for key, size in self._freed.items() if key[0] != folder}
        self._freed |= {(folder, one.name): one.freed_bytes for one in listing.backups}
        there = tuple(facts_of(one) for one in listing.backups)
        while self._unrecorded:
            await self._handler.handle(self._unrecorded[0], actor=self._daemon)
            self._unrecorded.pop(0)
        await self._handler.handle(CompareFolder(folder, there, tuple(listing.unreadable)), actor=self._daemon)
        async with self._store.session() as session:
            rows = {row.name: row for row in await backups(session, folder)}
        faulty = tuple(
            CheckedBackup(name, code=code, detail="Its manifest cannot be read.")
            for name, code in listing.unreadable.items()
            if name in rows and not rows[name].fault
        )
        await self._handler.handle(RecordChecks(folder, faulty), actor=self._daemon)
        self._looked_at[folder] = names

    async def listed(self) -> list[tuple[BackupRow, int | None]]:
        """Every known backup, newest first, with what deleting it would free; None where its folder is out of reach."""
        await self.look()
        async with self._store.session() as session:
            return [(row, self._freed.get((row.folder, row.name))) for row in await backups(session)]

    async def look_at_start(self) -> None:
        """As ``look``, only where a folder does not hold what is known: after a recovery, or when files were moved."""
        async with self._store.session() as session:
            rows = await backups(session)
        for folder in {row.folder for row in rows} | {self.own_folder}:
            names = manifests_in(folder)
            if names is not None and names != {row.name for row in rows if row.folder == folder}:
                return await self.look()

    async def find(self, text: str, *, also_lost: bool = False) -> BackupRow:
        """The backup with this id, beginning of an id, or ``last``.

        Raises BackupNotFound, Ambiguous, and PartMissing for one that is gone, unless ``also_lost``.
        """
        await self.look()
        async with self._store.session() as session:
            here, lost = await backups(session), await backups(session, lost=True)
        try:
            return find_backup(here, text, self.own_folder)
        except BackupNotFound:
            if not lost or text == "last":
                raise
            row = find_backup(lost, text, self.own_folder)
        if also_lost:
            return row
        raise gone(row)

    async def newest_full(self) -> BackupRow:
        """The newest backup that a database can be made from. Raises BackupNotFound."""
        for row, freed_bytes in await self.listed():
            if row.kind == "full" and freed_bytes is not None:
                return row
        raise BackupNotFound("There is no full backup within reach.", hint="`btmctl backup create` makes one.")

    def freed_bytes(self, row: BackupRow) -> int | None:
        return self._freed.get((row.folder, row.name))

    async def row(self, folder: str, name: str) -> BackupRow:
        """The one of this name. Raises BackupNotFound where it was deleted since."""
        async with self._store.session() as session:
            found = next((row for row in await backups(session, folder) if row.name == name), None)
        if found is None:
            raise deleted_meanwhile(name)
        return found

    async def names(self, folder: str) -> frozenset[str]:
        """Of those that are in a folder as far as is known."""
        async with self._store.session() as session:
            return frozenset(row.name for row in await backups(session, folder))

    @asynccontextmanager
    async def deleting(self, command: BeginDeletion, actor: Actor) -> AsyncIterator[None]:
        """Say what is about to be deleted; where it fails half-way, the folder is looked at again.

        A log that takes nothing now hinders no deletion: it may make room.
        """
        with suppress(BtmdError):
            await self._handler.handle(command, actor=actor)
        try:
            yield
        except BaseException:
            self._looked_at.pop(command.folder, None)
            raise

    async def record_deletion(self, command: RecordDeletion, actor: Actor) -> None:
        """Record what was deleted; where the log takes nothing now, at the next look. Raises what the log does."""
        try:
            await self._handler.handle(command, actor=actor)
        except BtmdError:
            self._unrecorded.append(command)
            raise
