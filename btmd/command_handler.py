"""Load, decide, append: the one way in which anything changes."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from btmd.domain.decider import Decider
from btmd.domain.event import Actor, Event
from btmd.errors import BtmdError
from btmd.store.codec import RawEvent, encode_event
from btmd.store.errors import VersionConflict
from btmd.store.event_log import IdempotencyKey, Recorded, SnapshotOf, Store, StreamAppend
from btmd.store.state_version import state_version

log = logging.getLogger("btmd")

MAX_STATES = 512
SNAPSHOT_VERSIONS = 100
# Each attempt lost means that another append got through; a hundred in a row is no race any more.
MAX_ATTEMPTS = 100


class Handled(msgspec.Struct, frozen=True):
    """What a command did: its rows, and the state and version of its stream after them.

    ``repeated``: rows and ``response`` are those of an earlier request with the same idempotency key.
    """

    events: list[Recorded]
    state: Any
    version: int
    response: bytes | None = None
    repeated: bool = False


Respond = Callable[[Any, list[Recorded]], bytes]


class CommandHandler:
    """Answers every command that ``deciders`` lists.

    States are kept in memory; one that is not there is made from its newest snapshot and the rows after it.
    """

    def __init__(self, store: Store, deciders: Mapping[type[Any], Decider]) -> None:
        self._store = store
        self._deciders = deciders
        self._by_noun = {decider.noun: decider for decider in deciders.values()}
        self._state_versions = {decider.noun: state_version(decider) for decider in self._by_noun.values()}
        self._states: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}
        self.on_appended: Callable[[Actor, list[Recorded]], None] = lambda actor, rows: None
        """Told whose command made which rows."""

    async def handle(
        self,
        command: Any,
        *,
        actor: Actor,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        idempotency: IdempotencyKey | None = None,
        respond: Respond | None = None,
    ) -> Handled:
        """Decide ``command`` on the present state and append what follows; returns once that is on the disk.

        ``respond`` makes, from the new state and the rows, the answer that is kept with the idempotency key.
        Raises what ``decide`` and ``Store.append`` raise; a version conflict is decided again.
        """
        decider = self._deciders[type(command)]
        stream = decider.stream(command)
        # Commands for one stream take turns: each finds the state that the one before it left.
        async with self._turn(stream):
            if idempotency is not None:
                earlier = await self._store.earlier(idempotency)
                if earlier is not None:
                    state, version = await self._load(stream, decider)
                    return Handled(earlier.events, state, version, earlier.response, repeated=True)
            for attempt in range(1, MAX_ATTEMPTS + 1):
                try:
                    return await self._decide_and_append(
                        decider, stream, command, actor, correlation_id, causation_id, idempotency, respond
                    )
                except VersionConflict:
                    # Appended to past this handler, or by a request that was cancelled while it waited.
                    if attempt == MAX_ATTEMPTS:
                        raise
                    await self._refresh(stream, decider)
        raise AssertionError("not reached")

    async def state(self, stream: str, decider: Decider | None = None) -> tuple[Any, int]:
        """State and version of ``stream``; (None, 0) before its first event."""
        decider = decider or self._decider_of(stream)
        if stream not in self._states:
            return await self._load(stream, decider)
        return await self._refresh(stream, decider)

    async def _decide_and_append(
        self,
        decider: Decider,
        stream: str,
        command: Any,
        actor: Actor,
        correlation_id: str | None,
        causation_id: str | None,
        idempotency: IdempotencyKey | None,
        respond: Respond | None,
    ) -> Handled:
        events, before, version = await self._decide(decider, stream, command)
        if not events and idempotency is None:
            return Handled([], before, version)
        # Folded as they will be read, so that the state is the one a replay makes.
        after = decider.fold(before, [encode_event(event)[1] for event in events])
        reached = version + len(events)
        appended = await self._store.commit(
            [StreamAppend(stream, tuple(events), expected_version=version)] if events else [],
            actor=actor,
            correlation_id=correlation_id,
            causation_id=causation_id,
            idempotency=idempotency,
            response=None if respond is None else lambda rows: respond(after, rows),
            snapshots=self._snapshots(decider, stream, after, version, reached),
        )
        if appended.repeated:
            after, reached = await self._refresh(stream, decider)
        else:
            self._keep(stream, after, reached)
            self.on_appended(actor, appended.events)
        return Handled(appended.events, after, reached, appended.response, appended.repeated)

    async def _decide(self, decider: Decider, stream: str, command: Any) -> tuple[list[Event], Any, int]:
        """What follows, and the state and version it follows from.

        That something is refused or changes nothing is only believed of the newest state: a restore appends past this
        handler, and without events no conflict of versions would tell.
        """
        before, version = await self._load(stream, decider)
        try:
            events = decider.decide(command, before)
        except BtmdError:
            if (await self._refresh(stream, decider))[1] == version:
                raise
        else:
            if events:
                return events, before, version
        before, version = await self._refresh(stream, decider)
        return decider.decide(command, before), before, version

    async def _load(self, stream: str, decider: Decider) -> tuple[Any, int]:
        known = self._states.get(stream)
        if known is not None:
            self._states.move_to_end(stream)
            return known
        snapshot, rows = await self._store.load(stream, self._state_versions[decider.noun])
        if snapshot is None:
            return self._advance(stream, decider, None, 0, rows)
        try:
            state = msgspec.json.decode(snapshot[1], type=decider.state_type)
        except msgspec.DecodeError as error:
            # Only a short cut: the rows are what counts.
            log.warning("a snapshot of %s cannot be read, all of its events are: %s", stream, error)
            return self._advance(stream, decider, None, 0, await self._store.read_stream(stream))
        return self._advance(stream, decider, state, snapshot[0], rows)

    async def _refresh(self, stream: str, decider: Decider) -> tuple[Any, int]:
        state, version = self._states.get(stream, (None, 0))
        return self._advance(stream, decider, state, version, await self._store.read_stream(stream, version))

    def _advance(
        self, stream: str, decider: Decider, state: Any, version: int, rows: list[Recorded]
    ) -> tuple[Any, int]:
        known: list[Event] = [row.event for row in rows if not isinstance(row.event, RawEvent)]
        state = decider.fold(state, known)
        version = rows[-1].version if rows else version
        self._keep(stream, state, version)
        return state, version

    def _keep(self, stream: str, state: Any, version: int) -> None:
        # A read that began earlier may end later: what is newer stays.
        kept = self._states.get(stream)
        if kept is None or kept[1] <= version:
            self._states[stream] = (state, version)
        self._states.move_to_end(stream)
        while len(self._states) > MAX_STATES:
            self._states.popitem(last=False)

    def _snapshots(
        self, decider: Decider, stream: str, state: Any, before: int, reached: int
    ) -> tuple[SnapshotOf, ...]:
        if before // SNAPSHOT_VERSIONS == reached // SNAPSHOT_VERSIONS:
            return ()
        text = msgspec.json.encode(state).decode()
        return (SnapshotOf(stream, reached, self._state_versions[decider.noun], text),)

    def _decider_of(self, stream: str) -> Decider:
        """The decider of a stream is that of the noun before its first hyphen: ``job-abc``, ``settings``."""
        return self._by_noun[stream.partition("-")[0]]

    @asynccontextmanager
    async def _turn(self, stream: str) -> AsyncIterator[None]:
        lock, waiting = self._locks.get(stream, (asyncio.Lock(), 0))
        self._locks[stream] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._locks.pop(stream)
            if waiting > 1:
                self._locks[stream] = (lock, waiting - 1)


__all__ = ["CommandHandler", "Handled"]
