"""Taking back what keeps the daemon from coming up: always by new events, never by taking any out of the log."""

import logging
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from btmd import __version__
from btmd.command_handler import CommandHandler
from btmd.domain import health, settings
from btmd.domain.event import Actor
from btmd.domain.health import FellBack, HealthState, NoteFallingBack, NoteLastGood, take_back_unfit, unfit_settings
from btmd.domain.restore import Manner
from btmd.domain.settings import SettingsState
from btmd.errors import BtmdError, Damaged, StateFolderReadOnly, StoreFailed, StoreFull
from btmd.files.durable import write_atomically
from btmd.files.watched_file import read_own
from btmd.history import History
from btmd.restoring.restore import Restoring
from btmd.store.event_log import Store, StreamAppend
from btmd.store.past import streams_of

log = logging.getLogger("btmd.health")

WHY = "taken back: the daemon could not work with it"
NOT_OURS = (StoreFull, StoreFailed, StateFolderReadOnly, Damaged)
"""What no earlier configuration would mend."""
MOST_TEXT = 500


class FailedStart(msgspec.Struct, frozen=True):
    """A daemon that ended by an error with the configuration after event ``seq``, before that one had proved good."""

    seq: int
    reason: str


class FallingBack:
    """Looks before the start whether it can go well, and takes back what hinders it.

    ``notices`` are told in the status. ``marker`` is where an ended daemon leaves word for the next one.
    """

    def __init__(
        self,
        *,
        store: Store,
        handler: CommandHandler,
        history: History,
        restoring: Restoring,
        actor: Actor,
        new_id: Callable[[], str],
        marker: Path,
    ) -> None:
        self._store, self._handler, self._history, self._restoring = store, handler, history, restoring
        self._actor, self._new_id, self._marker = actor, new_id, marker
        self._started_with: int | None = None
        self.views_rebuilt = False
        self.notices: list[str] = []

    async def before_start(self) -> None:
        """Take back what is known to keep this daemon from working. Raises what the log refuses with."""
        if self._store.unmigrated:
            found = self._store.unmigrated
            await self._tell(NoteFallingBack(health.MIGRATION, found.reason, found.did, once=True))
        await self._tell_of_unreadable()
        await self._take_back_unfit()
        seq = await self._configuration_seq()
        failed = _read_marker(self._marker)
        if failed is not None and failed.seq == seq:
            await self._take_back_configuration(failed.reason)
        with suppress(IsADirectoryError):
            # A folder in its place is nobody's word; it stays where it is.
            self._marker.unlink(missing_ok=True)
        self._started_with = await self._configuration_seq()

    async def after_failure(self, error: Exception) -> bool:
        """Whether something was done about a start that failed, so that another try is worth it."""
        if _is_of_the_disk(error):
            return False
        reason = _words(error)
        if not self.views_rebuilt:
            self.views_rebuilt = True
            failed = [text for text in (await self._store.rebuild_projections()).values() if text is not None]
            did = "The views were built anew from the log" + (f", not all of them: {failed[0]}" if failed else ".")
            await self._tell(NoteFallingBack(health.VIEWS, reason, did))
            return True
        taken_back = await self._take_back_configuration(reason)
        self._started_with = await self._configuration_seq()
        return taken_back

    async def came_up(self) -> None:
        """Note the configuration that this daemon started with as good, if everything is well. Raises StoreFailed."""
        await self._store.round_trip()
        well = all(one["error"] is None for one in self._store.health()["projections"])
        if well and self._started_with is not None:
            await self._handler.handle(NoteLastGood(self._started_with, __version__), actor=self._actor)

    async def ended_by(self, error: BaseException) -> None:
        """Leave word that the daemon ended by this error, if what it started with had not proved good yet."""
        state, _ = await self._handler.state(health.STREAM)
        seq = self._started_with
        if seq is None or _is_of_the_disk(error) or seq == (state or HealthState()).good_seq:
            return
        write_atomically(self._marker, msgspec.json.encode(FailedStart(seq, _words(error))))

    async def _tell_of_unreadable(self) -> None:
        """Say which events of the configuration this release cannot read and does without."""
        state, _ = await self._handler.state(health.STREAM)
        known = state or HealthState()
        if known.version == __version__ and await self._configuration_seq() <= known.good_seq:
            return
        unreadable: list[str] = []
        for stream in await self._store.query(_configuration_streams):
            rows = await self._store.read_stream(stream)
            unreadable += [f"event {row.seq} ({row.type})" for row in rows if row.is_unreadable]
        if unreadable:
            reason = f"This release cannot read {', '.join(unreadable)}."[:MOST_TEXT]
            did = "It does without: what they set is as it was before them. They stay in the log."
            await self._tell(NoteFallingBack(health.EVENTS, reason, did, once=True))

    async def _take_back_unfit(self) -> None:
        """In one transaction with the event that says so."""
        state, version = await self._handler.state(settings.STREAM)
        values = (state or SettingsState()).values
        unfit = unfit_settings(values)
        if not unfit:
            return
        known, _ = await self._handler.state(health.STREAM)
        good_seq = (known or HealthState()).good_seq
        back = take_back_unfit(values, (await self._history.settings_at(good_seq)).values, WHY)
        did = "; ".join(f"{one.key} has {'its default' if one.after is None else one.after} again" for one in back)
        fell_back = FellBack(health.SETTINGS, " ".join(unfit.values())[:MOST_TEXT], f"{did[:MOST_TEXT]}.", good_seq)
        await self._store.append(
            [StreamAppend(settings.STREAM, tuple(back), version), StreamAppend(health.STREAM, (fell_back,))],
            actor=self._actor,
            correlation_id=self._new_id(),
        )
        self._say(fell_back.reason, fell_back.did)

    async def _take_back_configuration(self, reason: str) -> bool:
        """Restore the last good configuration; False where the present one is that."""
        state, _ = await self._handler.state(health.STREAM)
        good_seq = (state or HealthState()).good_seq
        if await self._configuration_seq() <= good_seq:
            return False
        manner = Manner(("settings", "presets"))
        planned = (await self._restoring.prepare(good_seq, manner, self._actor.uid)).plan
        if not planned.changes:
            return False
        # Told before it is done: cut off in between, the restore is made at the next start, and nothing is untold.
        did = f"The settings of event {good_seq} are in force again: " + ", ".join(
            one.subject for one in planned.changes
        )
        undo = f"`btmctl restore --seq {self._store.head.seq}` brings the newer ones back."
        await self._tell(NoteFallingBack(health.CONFIGURATION, reason, f"{did[:MOST_TEXT]}. {undo}"))
        await self._restoring.restore(good_seq, manner, actor=self._actor)
        return True

    async def _tell(self, command: NoteFallingBack) -> None:
        await self._handler.handle(command, actor=self._actor)
        self._say(command.reason, command.did)

    def _say(self, reason: str, did: str) -> None:
        log.error("fell back by itself: %s %s", reason, did)
        self.notices.append(f"The daemon fell back by itself. {reason} {did}")

    async def _configuration_seq(self) -> int:
        return await self._store.query(_newest_configuration)


def _configuration_streams(connection: sqlite3.Connection) -> list[str]:
    own = [name for prefix in health.CONFIGURATION_PREFIXES for name in streams_of(connection, prefix)]
    return [*health.CONFIGURATION_STREAMS, *own]


def _newest_configuration(connection: sqlite3.Connection) -> int:
    """The newest event of the configuration; 0 where there is none."""
    newest = 0
    for stream in health.CONFIGURATION_STREAMS:
        row = connection.execute(
            "SELECT seq FROM events WHERE stream = ? ORDER BY version DESC LIMIT 1", (stream,)
        ).fetchone()
        newest = max(newest, row[0] if row else 0)
    for prefix in health.CONFIGURATION_PREFIXES:
        beyond = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        row = connection.execute(
            "SELECT max(seq) FROM events WHERE stream >= ? AND stream < ?", (prefix, beyond)
        ).fetchone()
        newest = max(newest, row[0] or 0)
    return newest


def _read_marker(path: Path) -> FailedStart | None:
    try:
        return msgspec.json.decode(read_own(path) or b"", type=FailedStart)
    except msgspec.MsgspecError:
        # Without a word that can be read, nothing is known against the configuration.
        return None


def _is_of_the_disk(error: BaseException) -> bool:
    """Whether it is, or came together with, what no earlier configuration would mend."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(_is_of_the_disk, error.exceptions))
    return isinstance(error, (*NOT_OURS, OSError))


def _words(error: BaseException) -> str:
    """What went wrong, in one sentence."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, BtmdError):
        return error.detail
    first = str(error).partition("\n")[0]
    return f"The start failed ({type(error).__name__}: {first})."[:MOST_TEXT]
