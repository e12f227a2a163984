"""What was: states at a moment, the changes that led from one to another, and who made them."""

import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from typing import Any

import msgspec

from btmd.domain import settings
from btmd.domain.commands import SETTINGS
from btmd.domain.decider import Decider
from btmd.domain.history import Change, Entry, changes_of
from btmd.domain.settings import SettingsState
from btmd.errors import Conflict, InvalidValue, MomentAmbiguous, NotFound
from btmd.moments import parse_moment
from btmd.store.codec import RawEvent
from btmd.store.event_log import Store
from btmd.store.past import (
    Jump,
    Position,
    clock_jumps,
    newest_rows,
    position_of,
    positions_at,
    state_rows,
    version_at,
)
from btmd.store.state_version import state_version

PAGE_ROWS = 200
MOST_TOGETHER = 1000
"""No command changes more settings than this."""
MOST_LISTED = 10
NO_SNAPSHOT = -1
"""A version of the code that made no snapshot."""


class ChangeNotFound(NotFound):
    code, title = "change_not_found", "There is no such change"


class History:
    """Answers what was, from the log. ``clock`` gives microseconds since the epoch."""

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._jumps: tuple[list[Jump], int] = ([], 0)

    async def find(self, text: str) -> Position:
        """The event that a person means by a time, or by an event's number. Raises InvalidValue, MomentAmbiguous."""
        plain = text.strip()
        if plain.isascii() and plain.isdigit():
            return await self.position(int(plain[:19]))
        if plain.lower() == "now":
            # What is now needs no clock, which may have been set back since.
            return await self.position(self._store.head.seq)
        return await self.at(parse_moment(text, now_us=self._clock()))

    async def position(self, seq: int) -> Position:
        """The state after event ``seq``; 0 is before the first one. Raises InvalidValue for one to come."""
        head = self._store.head.seq
        if not 0 <= seq <= head:
            raise InvalidValue(f"There is no event {seq}: the newest is {head}.", hint="`btmctl config history`")
        found = await self._store.query(lambda connection: position_of(connection, seq))
        return Position(seq, found.wall_at_us, found.recorded_at_us)

    async def at(self, moment_us: int) -> Position:
        """The newest event at a moment of the clock on the wall. Raises InvalidValue, MomentAmbiguous."""
        now_us = self._clock()

        def read(connection: sqlite3.Connection) -> list[Position]:
            known, version = self._jumps
            more, newest = clock_jumps(connection, version)
            # Whole and at once: another reader's thread may be doing the same.
            self._jumps = jumps, _ = ([*known, *more], newest)
            return positions_at(connection, moment_us, jumps, now_us=now_us)

        found = await self._store.query(read)
        if not found and moment_us > now_us:
            raise InvalidValue("This time is yet to come.", hint="`now` is the newest there is.")
        if not found:
            raise InvalidValue(
                "At this time there was no log yet.",
                hint="Give 0 in place of the time: that is the state before everything.",
            )
        if len(found) > 1:
            listed = "; ".join(f"event {one.seq}, recorded {_shown(one.recorded_at_us)}" for one in found[:MOST_LISTED])
            raise MomentAmbiguous(
                f"The clock was set back, so this time was {len(found)} times: {listed}.",
                hint="Give the event's number instead: --seq N.",
            )
        return found[0]

    async def state_at(self, stream: str, decider: Decider, seq: int) -> Any:
        """The state of a stream after event ``seq``; None before its first event."""
        version = _state_version(decider)
        snapshot, rows = await self._store.query(lambda connection: state_rows(connection, stream, version, seq))
        try:
            state = None if snapshot is None else msgspec.json.decode(snapshot, type=decider.state_type)
        except msgspec.DecodeError:
            # A snapshot is only a short cut; without one, all rows up to there are read.
            state = None
            _, rows = await self._store.query(lambda connection: state_rows(connection, stream, NO_SNAPSHOT, seq))
        return decider.fold(state, [row.event for row in rows if not isinstance(row.event, RawEvent)])

    async def settings_at(self, seq: int) -> SettingsState:
        return await self.state_at(settings.STREAM, SETTINGS, seq) or SettingsState()

    async def changes(self, *, key: str | None = None, limit: int = 100, before: int | None = None) -> list[Change]:
        """Changes of the settings, newest first; those of one setting only; those below a number only."""

        def read(connection: sqlite3.Connection) -> list[Change]:
            version = None if before is None else version_at(connection, settings.STREAM, before) + MOST_TOGETHER
            wanted = (
                change
                for change in changes_of(_backwards(connection, version))
                if (before is None or change.number < before) and (key is None or key in change.after)
            )
            return list(islice(wanted, limit))

        return await self._store.query(read)

    async def change(self, number: int | None) -> Change:
        """The change that event ``number`` belongs to; None is the newest. Raises ChangeNotFound, Conflict."""

        def read(connection: sqlite3.Connection) -> Change | None:
            seq = self._store.head.seq if number is None else number
            version = version_at(connection, settings.STREAM, min(seq, 2**62)) + MOST_TOGETHER
            changes = changes_of(_backwards(connection, version))
            return next((one for one in changes if one.first_seq <= seq), None)

        found = await self._store.query(read)
        if found is None and number is None:
            raise Conflict("Nothing was changed yet.", hint="`btmctl config set KEY=VALUE` changes a setting.")
        if found is None or (number is not None and number > found.number):
            raise ChangeNotFound(f"{number} is no change of a setting.", hint="`btmctl config history` lists them.")
        return found


def _backwards(connection: sqlite3.Connection, before_version: int | None) -> Iterator[Entry]:
    """The settings' rows below a version, newest first."""
    while page := newest_rows(connection, settings.STREAM, PAGE_ROWS, before_version):
        for row in page:
            yield Entry(row.seq, row.recorded_at_us, row.wall_at_us, row.actor, row.correlation_id, row.event)
        before_version = page[-1].version


def _shown(moment_us: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment_us)
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


@cache
def _state_version(decider: Decider) -> int:
    return state_version(decider)


__all__ = ["ChangeNotFound", "History"]
