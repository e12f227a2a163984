"""Folders of models that are the daemon's own: none stays that the log does not tell of, whenever it is killed."""

import logging
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from btmd.command_handler import CommandHandler
from btmd.domain.model import stream_name
from btmd.errors import BtmdError, Conflict
from btmd.files.durable import sync_folder, write_synced
from btmd.projections.job import unfinished_jobs
from btmd.projections.model import ModelRow
from btmd.store.event_log import Store

log = logging.getLogger("btmd.models")

_NOTE = ".placing-"


class _Placing(msgspec.Struct, frozen=True):
    """Folders that stand or go with what is about to be recorded of a model."""

    model_id: str
    folders: tuple[str, ...]


class ModelPlaces:
    """Puts folders into ``models_dir`` and takes them away, together with what the log says of their models."""

    def __init__(self, store: Store, handler: CommandHandler, models_dir: Path) -> None:
        self._store, self._handler, self._models_dir = store, handler, models_dir
        self.turn = anyio.Lock()
        """One model after the other is put in its place."""

    def free_folder(self, model_id: str) -> Path:
        """Where nothing stands yet. A `+` is in no model's id."""
        number, folder = 2, self._models_dir / model_id
        while os.path.lexists(folder):
            folder = self._models_dir / f"{model_id}+{number}"
            number += 1
        return folder

    def put(self, made: Path, target: Path) -> None:
        """Move a folder in, with all that is in it on the disk before. Blocking. Raises OSError."""
        for path in made.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(made)
        os.rename(made, target)
        sync_folder(self._models_dir)

    async def require_unneeded(self, row: ModelRow) -> None:
        """Raises Conflict while a training needs the model."""
        async with self._store.session() as session:
            users = [job.job_id for job in await unfinished_jobs(session) if job.model_id == row.model_id]
        if users:
            raise Conflict(
                f"The model {row.name} is needed by the job {users[0]}.",
                hint=f"Cancel it first: `btmctl jobs cancel {users[0]}`.",
            )

    @asynccontextmanager
    async def placing(self, model_id: str, *folders: str) -> AsyncIterator[None]:
        """However the block ends: of these folders only the one stays that the log then tells of.

        The block runs to its end; folders elsewhere than here stay in any case. Raises OSError.
        """
        placing = _Placing(model_id, folders)
        with anyio.CancelScope(shield=True):
            note = await anyio.to_thread.run_sync(self._note, placing)
            try:
                yield
            finally:
                await self._settle(note, placing)

    async def at_start(self) -> None:
        """Remove the folders that a daemon left which was killed between folder and log."""
        for note, placing in self._noted():
            await self._settle(note, placing)

    async def _settle(self, note: Path, placing: _Placing | None) -> None:
        """Remove the folders that the log does not tell of. Where it cannot be asked, the next start does it."""
        try:
            if placing is not None:
                # What was given up may yet be written to the log: afterwards it says whether it was.
                await self._store.round_trip()
                state, _ = await self._handler.state(stream_name(placing.model_id))
                stands = "" if state is None or state.removed else state.folder
                for folder in placing.folders:
                    if folder != stands:
                        await anyio.to_thread.run_sync(self._remove, folder)
            await anyio.to_thread.run_sync(os.unlink, note)
        except (BtmdError, OSError) as error:
            log.error("folders of models that nothing needs stay until the next start: %s", error)

    def _note(self, placing: _Placing) -> Path:
        path = self._models_dir / f"{_NOTE}{secrets.token_hex(8)}"
        write_synced(path, msgspec.json.encode(placing))
        sync_folder(self._models_dir)
        return path

    def _noted(self) -> Iterator[tuple[Path, _Placing | None]]:
        """What was about to be recorded when the daemon ended; None for a note that was not whole itself."""
        for path in sorted(self._models_dir.glob(f"{_NOTE}*")):
            try:
                yield path, msgspec.json.decode(path.read_bytes(), type=_Placing)
            except (OSError, msgspec.DecodeError):
                # It is written before anything else is done.
                yield path, None

    def _remove(self, folder: str) -> None:
        path = Path(folder)
        if path.parent == self._models_dir and not path.name.startswith("."):
            shutil.rmtree(path, ignore_errors=True)
