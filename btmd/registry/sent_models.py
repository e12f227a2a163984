"""Adding models that other users than the daemon's own sent: converted where it has to be, kept in a folder here."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from btmd.command_handler import CommandHandler, Handled
from btmd.domain.event import Actor
from btmd.domain.model import AddModel, ModelState, VerifyModel
from btmd.errors import Conflict, PickledWeights
from btmd.inspection.facts import ModelFacts as InspectedFacts
from btmd.inspection.requests import ConvertGgufRequest, ConvertPickledRequest, ModelRequest
from btmd.model_fingerprint import fingerprint_now
from btmd.naming import slug
from btmd.projections.model import ModelRow
from btmd.registry.inspector import Inspector
from btmd.registry.model_places import ModelPlaces
from btmd.registry.model_upload import ModelUploads, SentModel, link_or_copy
from btmd.registry.models import OnProgress, domain_facts
from btmd.store.event_log import IdempotencyKey, Recorded, Store

log = logging.getLogger("btmd.models")

RequireRoom = Callable[[int], Awaitable[None]]
"""Raises where the asking user may not take so many bytes more."""
SWEEP_EVERY_S = 3600.0


class SentModels:
    """Registers models from what arrived of them."""

    def __init__(
        self, store: Store, handler: CommandHandler, inspector: Inspector, places: ModelPlaces, uploads: ModelUploads
    ) -> None:
        self._store, self._handler, self._inspector = store, handler, inspector
        self._places = places
        self.uploads = uploads

    async def add(
        self,
        sent: SentModel,
        name: str | None,
        *,
        actor: Actor,
        on_progress: OnProgress,
        require_room: RequireRoom,
        convert: bool = False,
        idempotency: IdempotencyKey | None = None,
        respond: Callable[[ModelState, list[Recorded]], bytes] | None = None,
    ) -> Handled:
        """Register a model whose files the user sent, in a folder of the daemon's own.

        Killed meanwhile, nothing is registered, and what was sent waits to be asked for again. Raises FileMissing,
        ModelRefused, NotEnoughDisk, OverLimit, Conflict.
        """
        name = name or sent.usual_name
        model_id = slug(name)
        await self.require_own_name(model_id, sent.source, actor)
        async with self._assembled(sent, actor.uid) as folder:
            made, facts = await self._made_of(folder, sent, model_id, on_progress, convert=convert)
            if made != folder:
                kept, dropped = [await anyio.to_thread.run_sync(_size_bytes, one) for one in (made, folder)]
                await require_room(max(0, kept - dropped))

            def command(target: Path) -> AddModel:
                return AddModel(
                    model_id=model_id,
                    name=name,
                    owner_uid=actor.uid,
                    source=sent.source,
                    folder=str(target),
                    converted=True,
                    facts=domain_facts(facts),
                )

            # A client that goes away now gets a model that is there, or none.
            with anyio.CancelScope(shield=True):
                async with self._places.turn:
                    before = await self.require_own_name(model_id, sent.source, actor)
                    if before is not None and before.facts.fingerprint != facts.fingerprint:
                        await self._places.require_unneeded(before)
                    target = self._places.free_folder(model_id)
                    older = [] if before is None else [before.folder]
                    async with self._places.placing(model_id, str(target), *older):
                        await anyio.to_thread.run_sync(self._places.put, made, target)
                        handled = await self._handler.handle(
                            command(target), actor=actor, idempotency=idempotency, respond=respond
                        )
                        if made == folder and handled.events:
                            # Every byte was just compared: this is what later verifications go by.
                            await self._handler.handle(VerifyModel(model_id, sent.files), actor=actor)
                await anyio.to_thread.run_sync(self.uploads.forget, sent, actor.uid)
        return handled

    async def require_own_name(self, model_id: str, source: str, actor: Actor) -> ModelRow | None:
        """The user's own model of this name and source, if there is one. Raises Conflict for any other."""
        async with self._store.session() as session:
            row = await session.get(ModelRow, model_id)
        if row is None or (row.owner_uid == actor.uid and row.source == source):
            return row
        hint = "Choose another name with --name."
        if row.owner_uid != actor.uid:
            hint = f"If it is the one you mean, `btmctl train {model_id} DATASET` uses it; else choose another --name."
        raise Conflict(f"Another model is called {model_id} already.", hint=hint)

    async def _made_of(
        self, folder: Path, sent: SentModel, model_id: str, on_progress: OnProgress, *, convert: bool
    ) -> tuple[Path, InspectedFacts]:
        """What is to stand in the model's place: the folder with what was sent, or what was made of it beside it."""
        made = folder.parent.parent / "made" / model_id
        if sent.gguf:
            request = ConvertGgufRequest(source=str(folder / sent.gguf), folder=str(made))
            return made, (await self._inspector.convert_gguf(request, on_progress)).model
        try:
            facts = await self._inspector.model(ModelRequest(folder=str(folder)), on_progress)
        except PickledWeights:
            if not convert:
                raise
            pickled = ConvertPickledRequest(source=str(folder), folder=str(made))
            return made, (await self._inspector.convert_pickled(pickled, on_progress)).model
        if facts.tokenizer != "slow":
            return folder, facts
        read = ModelRequest(folder=str(folder), tokenizer_folder=str(made))
        facts = await self._inspector.model(read, on_progress)
        await anyio.to_thread.run_sync(_complete, folder, made)
        fingerprint = await anyio.to_thread.run_sync(fingerprint_now, made)
        return made, msgspec.structs.replace(facts, fingerprint=fingerprint)

    @asynccontextmanager
    async def _assembled(self, sent: SentModel, uid: int) -> AsyncIterator[Path]:
        work = self.uploads.new_work(uid)
        try:
            yield await anyio.to_thread.run_sync(self.uploads.assemble, sent, uid, work)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self.uploads.remove_work, work)

    # --- left-overs ---------------------------------------------------------------------------

    async def at_start(self) -> None:
        """Remove what a daemon left that was killed, and uploads that nothing came of."""
        await self._places.at_start()
        await self._sweep(at_start=True)

    async def run(self) -> None:
        """Remove uploads that nothing came of from time to time, until cancelled."""
        while True:
            await anyio.sleep(SWEEP_EVERY_S)
            await self._sweep()

    async def _sweep(self, *, at_start: bool = False) -> None:
        try:
            removed = await anyio.to_thread.run_sync(lambda: self.uploads.sweep(at_start=at_start))
        except OSError as problem:
            log.error("files of models that nothing came of stay: %s", problem.strerror)
            return
        if removed:
            log.info("removed %d files of models that nothing came of", removed)


def _complete(folder: Path, made: Path) -> None:
    """Beside the tokenizer that was made, everything that was sent."""
    for file in folder.iterdir():
        if not (made / file.name).exists():
            link_or_copy(file, made / file.name)


def _size_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
