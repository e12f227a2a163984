"""Follows the log for what people want to be told of, puts it together, records it, and runs their program."""

import logging
import time
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path

import anyio
from anyio.abc import TaskStatus
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from msgspec import Struct

from btmd.command_handler import CommandHandler
from btmd.domain import notification, settings
from btmd.domain.event import Actor, Event
from btmd.domain.job_events import TrainingProgressed
from btmd.domain.notification import (
    COMMAND,
    DESKTOP,
    PROGRESS,
    SPEECH,
    MakeNotification,
    NotificationMade,
    NotificationState,
)
from btmd.domain.settings import SettingChanged, SettingsState
from btmd.errors import BtmdError
from btmd.jobs.notification_command import facts, run_command
from btmd.jobs.notification_words import TOLD_TYPES, URGENT, digest, kind_of, mark_of, words_of
from btmd.projections.job import job, running_jobs
from btmd.store.event_log import Recorded, Store
from btmd.subscriptions import subscribe

log = logging.getLogger("btmd.notifications")

GATHER_S = 2.0
"""Before something is told: what comes with it is told with it."""
WINDOW_S = 60.0
"""Between two notifications: what comes meanwhile becomes one."""
OLD_S = 600.0
"""What happened longer ago is no news when a daemon starts."""
AGAIN_S = 30.0
"""Until it is tried again to record what is to be told."""
MOST_WAITING = 10
"""Notifications for a program that is slow; more are left out, with a word in the log."""


class _News(Struct, frozen=True):
    kind: str
    job_id: str
    seq: int
    happened: Event
    mark: int = 0


class Notifying:
    """``clock`` gives microseconds since the epoch; ``gather_s`` and ``window_s`` as GATHER_S and WINDOW_S."""

    def __init__(
        self,
        *,
        store: Store,
        handler: CommandHandler,
        jobs_dir: Path,
        actor: Actor,
        clock: Callable[[], int],
        troubles: MutableMapping[str, str],
        gather_s: float = GATHER_S,
        window_s: float = WINDOW_S,
    ) -> None:
        self._store, self._handler, self._jobs_dir = store, handler, jobs_dir
        self._actor, self._clock, self._troubles = actor, clock, troubles
        self._gather_s, self._window_s = gather_s, window_s
        self._news: list[_News] = []
        self._seen_seq = 0
        self._marks: dict[str, int] = {}
        """The highest mark that each job has reached, told or not."""
        self._came = anyio.Event()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Follow the log until cancelled; what a daemon that ended had not told yet comes first."""
        # In this order: a mark that is passed meanwhile shows in the next tick.
        await self._take_up_marks()
        position = self._store.head.seq
        await self._take_up(position)
        task_status.started()
        sender, receiver = anyio.create_memory_object_stream[tuple[NotificationMade, int]](MOST_WAITING)
        async with sender, receiver, anyio.create_task_group() as tasks:
            tasks.start_soon(self._tell_on, sender)
            tasks.start_soon(self._run_commands, receiver)
            async for batch in subscribe(self._store, position):
                await self._take(batch)

    async def _take_up(self, upto: int) -> None:
        state = await self._state()
        since_us = self._clock() - int(OLD_S * 1e6)
        types = (*TOLD_TYPES, SettingChanged.TYPE)
        left = await self._store.read(state.upto, upto=upto, types=types, since_us=since_us)
        # What came before was decided by other settings.
        changed = [at for at, one in enumerate(left) if _changes_notifying(one.event)]
        await self._take(left[changed[-1] + 1 :] if changed else left)
        self._seen_seq = upto

    async def _take_up_marks(self) -> None:
        state = await self._state()
        async with self._store.session() as session:
            running = await running_jobs(session)
        for row in running:
            reached = TrainingProgressed(
                row.job_id, row.attempt, 0, row.step, row.total_steps, 0, 0.0, 0.0, 0.0, 0.0, 0, (), ()
            )
            self._marks[row.job_id] = max(mark_of(reached), state.marks.get(row.job_id, 0))

    async def _take(self, batch: Sequence[Recorded]) -> None:
        wanted = await self._settings()
        for recorded in batch:
            self._seen_seq = recorded.seq
            happened = recorded.event
            if _changes_notifying(happened):
                self._troubles.pop("notify.command", None)
            if isinstance(happened, TrainingProgressed):
                self._progressed(happened, recorded.seq, wanted=bool(wanted.get("notify.progress")))
            elif recorded.type in TOLD_TYPES and (kind := kind_of(happened)) and wanted.get(f"notify.{kind}"):
                self._news.append(_News(kind, str(recorded.data["job_id"]), recorded.seq, happened))
                self._came.set()

    def _progressed(self, tick: TrainingProgressed, seq: int, *, wanted: bool) -> None:
        mark = mark_of(tick)
        if mark <= self._marks.get(tick.job_id, 0):
            return
        self._marks[tick.job_id] = mark
        if wanted:
            self._news.append(_News(PROGRESS, tick.job_id, seq, tick, mark))
            self._came.set()

    async def _tell_on(self, sender: MemoryObjectSendStream[tuple[NotificationMade, int]]) -> None:
        next_s = 0.0
        while True:
            await self._came.wait()
            await anyio.sleep(max(self._gather_s, next_s - time.monotonic()))
            self._came = anyio.Event()
            news, self._news = self._news, []
            try:
                made = await self._tell(news)
            except BtmdError as error:
                self._tell_trouble("notifications", f"What people are to be told cannot be recorded: {error.detail}")
                self._news = news + self._news
                self._came.set()
                await anyio.sleep(AGAIN_S)
                continue
            except Exception:
                log.exception("this cannot be told of: %s", [(one.kind, one.job_id) for one in news])
                self._tell_trouble("notifications", "Something cannot be told of; the daemon's log says why.")
                continue
            self._troubles.pop("notifications", None)
            if made is not None:
                next_s = time.monotonic() + self._window_s
                self._pass_on(made, sender)

    async def _tell(self, news: Sequence[_News]) -> Recorded | None:
        """Record what is to be told; None where nothing of it holds any more. Raises what the log refuses with."""
        upto, told = self._seen_seq, []
        kept: list[_News] = []
        # Of a training's marks only the highest is news.
        highest = {one.job_id: one for one in news if one.kind == PROGRESS}
        for one in news:
            if one.kind == PROGRESS and highest[one.job_id] is not one:
                continue
            async with self._store.session() as session:
                row = await job(session, one.job_id)
            words = None if row is None else await words_of(self._store, self._jobs_dir, row, one.happened, one.mark)
            if words is not None:
                kept.append(one)
                told.append(words)
        if not kept:
            return None
        title, text = digest(told)
        made = NotificationMade(
            kinds=tuple(one.kind for one in kept),
            job_ids=tuple(dict.fromkeys(one.job_id for one in kept)),
            title=title,
            text=text,
            urgent=any(one.kind in URGENT for one in kept),
            channels=await self._channels(),
            upto=upto,
            marks={one.job_id: one.mark for one in kept if one.mark},
        )
        handled = await self._handler.handle(MakeNotification(made), actor=self._actor)
        return handled.events[0] if handled.events else None

    def _pass_on(self, recorded: Recorded, sender: MemoryObjectSendStream[tuple[NotificationMade, int]]) -> None:
        made = recorded.event
        assert isinstance(made, NotificationMade)
        if COMMAND not in made.channels:
            return
        try:
            sender.send_nowait((made, recorded.seq))
        except anyio.WouldBlock:
            log.error("the program for notifications is too slow; it is not told: %s", made.title)

    async def _run_commands(self, receiver: MemoryObjectReceiveStream[tuple[NotificationMade, int]]) -> None:
        async for made, seq in receiver:
            chosen = await self._settings()
            command = str(chosen.get("notify.command"))
            if not command.strip():
                continue
            failed = await run_command(
                command,
                facts(made, seq),
                shell=bool(chosen.get("notify.shell")),
                limit_s=float(chosen.get("notify.command_limit_s")),
            )
            if failed:
                self._tell_trouble("notify.command", failed)
            else:
                self._troubles.pop("notify.command", None)

    async def _channels(self) -> tuple[str, ...]:
        chosen = await self._settings()
        named = {
            COMMAND: bool(str(chosen.get("notify.command")).strip()),
            DESKTOP: bool(chosen.get("notify.desktop")),
            SPEECH: bool(chosen.get("notify.speech")),
        }
        return tuple(name for name, on in named.items() if on)

    async def _settings(self) -> SettingsState:
        state, _ = await self._handler.state(settings.STREAM)
        return state or SettingsState()

    async def _state(self) -> NotificationState:
        state, _ = await self._handler.state(notification.STREAM)
        return state or NotificationState()

    def _tell_trouble(self, about: str, text: str) -> None:
        if self._troubles.get(about) != text:
            log.error("%s", text)
        self._troubles[about] = text


def _changes_notifying(happened: Event) -> bool:
    return isinstance(happened, SettingChanged) and happened.key.startswith("notify.")
