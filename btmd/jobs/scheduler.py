"""Gives turns: starts what can start, in order, each job with the lock of its device, and says what others wait for."""

import logging
import os
import time
from collections.abc import Callable, Mapping, Set
from pathlib import Path

import anyio
import anyio.to_thread

from btmd.accounts import groups_of, user_name
from btmd.command_handler import CommandHandler
from btmd.domain import access, settings
from btmd.domain.access import AccessGranted, AccessRevoked, LimitChanged
from btmd.domain.dataset import ConsentGranted, DatasetAdded
from btmd.domain.event import Actor
from btmd.domain.job import stream_name
from btmd.domain.job_events import (
    AnswerAsked,
    AttemptFailed,
    AttemptLost,
    JobCancelled,
    JobFailed,
    JobPaused,
    JobSubmitted,
    RecoveryDue,
    RecoveryPlanned,
    ResumeRequested,
    StopRequested,
)
from btmd.domain.queue import JobHeld, JobMoved, JobPrioritySet, JobReleased, JobYielded, YieldJob
from btmd.domain.quiet_hours import minutes_of_quiet, parse_quiet_hours
from btmd.domain.settings import SettingChanged, SettingsState
from btmd.domain.units import GIB
from btmd.errors import BtmdError
from btmd.jobs.device_locks import CPU, DeviceLocks, Holder, lock_name
from btmd.jobs.long_waits import LongWaits
from btmd.jobs.needs import Needs
from btmd.jobs.sight import Seen, look
from btmd.jobs.turns import (
    OUTSIDE,
    Candidate,
    Limits,
    Running,
    Sight,
    Start,
    Wait,
    decide_turns,
    device_words,
    to_yield,
)
from btmd.monitoring.texts import text
from btmd.projections.job import running_jobs
from btmd.projections.queue import devices, places
from btmd.store.event_log import Store
from btmd.subscriptions import subscribe

log = logging.getLogger("btmd.scheduler")

_TURN_CHANGES = frozenset(
    one.TYPE
    for one in (
        JobSubmitted,
        ResumeRequested,
        StopRequested,
        AttemptLost,
        AttemptFailed,
        RecoveryPlanned,
        RecoveryDue,
        AnswerAsked,
        JobPaused,
        JobYielded,
        JobCancelled,
        JobFailed,
        JobPrioritySet,
        JobMoved,
        JobHeld,
        JobReleased,
        DatasetAdded,
        ConsentGranted,
        SettingChanged,
        AccessGranted,
        AccessRevoked,
        LimitChanged,
    )
)
LOOK_AGAIN_S = 20.0
"""How often it is looked whether memory, disk or a GPU has become free."""
LOCK_S = 5.0
"""How often it is tried whether another daemon's training has left a device."""
CLOCK_S = 30.0
"""How often to look at the clock and the power supply: neither tells that it has changed."""
AGAIN_S = 1.0
"""The least time between two starts of the same job."""

_BY_CLOCK = frozenset({"quiet_hours", "mains"})
_BY_LOOKING = OUTSIDE | {"lock"}
_BY_LOCK = frozenset({"other_btmd", "lock"})


class Scheduler:
    """Starts waiting jobs through ``start``, which is given the job, its device and the descriptor of that one's lock.

    ``busy`` tells the jobs that have a trainer or are about to; ``look`` reads the machine, its GPUs only if told to.
    ``clock`` is in microseconds UTC.
    """

    def __init__(
        self,
        *,
        store: Store,
        handler: CommandHandler,
        state_dir: Path,
        jobs_dir: Path,
        locks: DeviceLocks,
        start: Callable[[str, str, int], None],
        busy: Callable[[], frozenset[str]],
        actor: Actor,
        clock: Callable[[], int],
        look: Callable[[Path, bool], Seen] = look,
    ) -> None:
        self._store, self._handler, self._actor = store, handler, actor
        self._state_dir, self._locks, self._clock, self._look = state_dir, locks, clock, look
        self._start, self._busy = start, busy
        self._needs = Needs(jobs_dir)
        self._long_waits = LongWaits(handler, actor)
        self._turn = anyio.Event()
        self._placed: dict[str, str] = {}
        """By job that this daemon has started, its device."""
        self._started_at: dict[str, float] = {}
        self._outside_since: dict[str, float] = {}
        self._locked: dict[str, Holder | None] = {}
        """The locks that somebody else holds and a job here waits for, and who was told to hold each."""
        self._is_closed = False
        self.waits: dict[str, Wait] = {}
        """By job: what it waits for."""

    def wake(self) -> None:
        """Something changed that may give a job its turn."""
        self._turn.set()

    def close(self) -> None:
        """Give no more turns: the daemon is about to end, and what would begin now would be ended at once."""
        self._is_closed = True

    async def run(self) -> None:
        """Give turns until cancelled."""
        position = self._store.head.seq
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._listen, position)
            while True:
                self._turn = anyio.Event()
                again_s = await self._give_turns()
                with anyio.move_on_after(again_s):
                    await self._turn_or_lock()

    async def _turn_or_lock(self) -> None:
        """Return when something changed, or a device that another daemon trained on is free or another's."""
        while self._locked:
            with anyio.move_on_after(LOCK_S):
                await self._turn.wait()
                return
            if any(self._locks.holder(name) != told or self._is_free(name) for name, told in self._locked.items()):
                return
        await self._turn.wait()

    def _is_free(self, name: str) -> bool:
        try:
            lock = self._locks.take(name)
        except OSError:
            return False
        if lock is None:
            return False
        os.close(lock)
        return True

    async def _listen(self, position: int) -> None:
        async for batch in subscribe(self._store, position):
            if any(recorded.type in _TURN_CHANGES for recorded in batch):
                self.wake()

    async def _give_turns(self) -> float | None:
        """Start what can be started; returns after how many seconds to look again, None for when something happens."""
        self._locked.clear()
        state, _ = await self._handler.state(settings.STREAM)
        state = state or SettingsState()
        # One look for both: a job whose attempt ends meanwhile is in the line or at work, and never in neither.
        busy = self._busy()
        line, running = await self._line(busy), await self._running(busy)
        watched = bool(state.get("queue.pause_on_battery")) or (
            bool(state.get("queue.pause_in_quiet_hours")) and bool(state.get("queue.quiet_hours"))
        )
        if not line and not (running and watched):
            await self._tell({})
            return None
        try:
            seen = await anyio.to_thread.run_sync(self._look, self._state_dir, any(one.device != CPU for one in line))
        except OSError as problem:
            log.error("nothing is started while the machine cannot be looked at: %s", problem)
            return LOOK_AGAIN_S
        sight = self._sight(seen, str(state.get("queue.quiet_hours")))
        await self._make_yield(running, sight, state)
        limits = Limits(
            int(float(state.get("disk.reserve_gb")) * GIB),
            bool(state.get("queue.only_on_mains")),
            await self._limited({one.owner_uid for one in line}),
        )
        waits = self._start_all(line, running, sight, limits, float(state.get("queue.pass_after_minutes")) * 60)
        await self._tell(waits)
        return self._again_s(waits, watched=bool(running) and watched)

    async def _line(self, busy: Set[str]) -> list[Candidate]:
        async with self._store.session() as session:
            line = [one for one in await places(session) if one.waiting and one.job_id not in busy]
            known = [one.job_id for one in line if one.attempt]
            states = {job_id: (await self._handler.state(stream_name(job_id)))[0] for job_id in known}
            return await self._needs.candidates(session, line, states)

    async def _limited(self, owners: Set[int]) -> dict[int, int]:
        """By owner whose trainings at work are limited, how many they may have."""
        state, _ = await self._handler.state(access.STREAM)
        if state is None or not state.limited:
            return {}
        found: dict[int, int] = {}
        for uid in owners:
            groups = await anyio.to_thread.run_sync(groups_of, uid)
            most = access.limits_of(uid, groups, state, self._actor.uid).get("running_jobs")
            if most is not None:
                found[uid] = int(most)
        return found

    async def _running(self, busy: Set[str]) -> list[Running]:
        async with self._store.session() as session:
            at_work = {row.job_id for row in await running_jobs(session)} | busy
            self._placed = {job_id: device for job_id, device in self._placed.items() if job_id in at_work}
            known = await devices(session, sorted(at_work))
            placed = {job_id: self._placed.get(job_id) or known.get(job_id, "") for job_id in sorted(at_work)}
            return await self._needs.running(session, placed)

    def _sight(self, seen: Seen, quiet_hours: str) -> Sight:
        now_us = self._clock()
        local = time.localtime(now_us / 1e6)
        minute = local.tm_hour * 60 + local.tm_min
        spans = parse_quiet_hours(quiet_hours)
        return Sight(
            now_us=now_us,
            weekday=local.tm_wday,
            minute=minute,
            memory_free_bytes=seen.memory_free_bytes,
            disk_free_bytes=seen.disk_free_bytes,
            quiet_minutes=minutes_of_quiet(spans, local.tm_wday, minute),
            on_battery=seen.on_battery,
            gpus=seen.gpus,
        )

    async def _make_yield(self, running: list[Running], sight: Sight, state: SettingsState) -> None:
        leaving = to_yield(
            running,
            sight,
            in_quiet_hours=bool(state.get("queue.pause_in_quiet_hours")),
            on_battery=bool(state.get("queue.pause_on_battery")),
        )
        for job_id, why in leaving.items():
            try:
                await self._handler.handle(YieldJob(job_id, why), actor=self._actor)
            except BtmdError as error:
                log.warning("job %s cannot be asked to free its device: %s", job_id, error.detail)

    def _start_all(
        self, line: list[Candidate], running: list[Running], sight: Sight, limits: Limits, patience_s: float
    ) -> Mapping[str, Wait]:
        """What the jobs wait for that could not be started."""
        if self._is_closed:
            return self.waits.copy()
        now_s = anyio.current_time()
        self._locked.clear()
        unclaimable: dict[str, Wait] = {}
        patient = {job_id for job_id, since in self._outside_since.items() if now_s - since >= patience_s}
        while True:
            turns = decide_turns(line, running, sight, limits, unclaimable=unclaimable, patient=patient)
            start = turns.start
            if start is None:
                return turns.waits
            if now_s - self._started_at.get(start.job_id, -AGAIN_S) < AGAIN_S:
                # It was refused a moment ago: without this a misunderstanding would be repeated without end.
                unclaimable[start.device] = Wait("again", text("wait_failure"))
                continue
            lock = self._claim(start, sight, unclaimable)
            if lock is None:
                continue
            chosen = next(one for one in line if one.job_id == start.job_id)
            line = [one for one in line if one is not chosen]
            running = [
                *running,
                Running(start.job_id, start.device, chosen.owner_uid, chosen.memory_beside_bytes, chosen.disk_bytes),
            ]
            self._placed[start.job_id] = start.device
            self._started_at[start.job_id] = now_s
            self._start(start.job_id, start.device, lock)

    def _claim(self, start: Start, sight: Sight, unclaimable: dict[str, Wait]) -> int | None:
        """The lock of the device; None, and the reason in ``unclaimable``, where it cannot be had."""
        device, name = device_words(start.device), lock_name(start.device, sight.gpus)
        try:
            lock = self._locks.take(name)
        except OSError as problem:
            told = f"{problem.filename}: {problem.strerror}" if problem.filename else str(problem.strerror)
            unclaimable[start.device] = Wait("lock", text("wait_lock", device=device, problem=told))
            return None
        if lock is None:
            self._locked[name] = self._locks.holder(name)
            unclaimable[start.device] = Wait("other_btmd", self._holder_text(device, name))
        return lock

    def _holder_text(self, device: str, name: str) -> str:
        holder = self._locked[name]
        if holder is None:
            return text("wait_other_btmd", device=device)
        pid, uid = holder
        of_user = "" if uid is None else text("of_user", user=user_name(uid))
        return text("wait_other_btmd_by", device=device, pid=pid, of_user=of_user, path=self._locks.path(name))

    async def _tell(self, waits: Mapping[str, Wait]) -> None:
        for job_id, wait in waits.items():
            before = self.waits.get(job_id)
            if (before is None or before.kind != wait.kind) and wait.kind not in ("turn", "training"):
                log.info("job %s: %s", job_id, wait.text)
        now_s = anyio.current_time()
        self._outside_since = {
            job_id: self._outside_since.get(job_id, now_s) for job_id, wait in waits.items() if wait.kind in OUTSIDE
        }
        self._started_at = {job_id: at for job_id, at in self._started_at.items() if now_s - at < AGAIN_S}
        self.waits.clear()
        self.waits.update(waits)
        await self._long_waits.look(waits, now_s)

    def _again_s(self, waits: Mapping[str, Wait], *, watched: bool) -> float | None:
        kinds = {wait.kind for wait in waits.values()}
        found = [CLOCK_S] if watched or kinds & _BY_CLOCK else []
        if kinds & _BY_LOOKING:
            found.append(LOOK_AGAIN_S)
        if "again" in kinds:
            found.append(AGAIN_S)
        return min(found, default=None)
