"""One attempt of a job, from start or adoption to its end: frames into the log, requests to the trainer."""

import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import anyio
from msgspec import Struct

from btmd.command_handler import CommandHandler
from btmd.domain import settings
from btmd.domain.commands import JOBS
from btmd.domain.event import Actor, Event
from btmd.domain.job import RecordEnd, RecordFrames, RecordIntervention, RecordTrainerGone, stream_name
from btmd.errors import StoreFailed, StoreFull
from btmd.files.folder_watch import FolderWatch
from btmd.frames import FoundFrame, SpoolDamaged, read_frames
from btmd.job_folder import JobFolder
from btmd.jobs.observations import LastWord, event_id, observe
from btmd.jobs.recovery_words import cause_text, finding_text
from btmd.jobs.running_trainer import RunningTrainer
from btmd.jobs.trainer_end import TrainerEnd
from btmd.projections.spool import spool_position
from btmd.recovery import cause_of
from btmd.store.batch import StreamAppend
from btmd.store.errors import DuplicateEvent, VersionConflict
from btmd.store.event_log import Store

log = logging.getLogger("btmd.supervisor")

BATCH_S = 0.45
"""Frames that arrive within this time share one transaction."""
LOOK_AGAIN_S = 5.0
"""How long to wait for news before looking whether the trainer still lives."""
LOOK_SOON_S = 1.0
FULL_DISK_S = 2.0
LEAVE_S = 20.0
"""How long a trainer may take to leave after its last word."""
INTERVENTION_S = 10.0
"""How long a trainer that is ended for something found about it may take to end by itself."""

Value = TypeVar("Value")


class Intervention(Struct, frozen=True):
    """Why a trainer is ended: the finding's kind, in words, the step it is about and what it rests on."""

    kind: str
    text: str
    step: int
    evidence: dict[str, Any]


class Attempt:
    """Follows one trainer. ``asked`` may be changed from outside; call :meth:`wake` then."""

    def __init__(
        self,
        *,
        job_id: str,
        attempt: int,
        asked: str,
        folder: JobFolder,
        process: RunningTrainer | None,
        store: Store,
        handler: CommandHandler,
        actor: Actor,
        boot_id: str,
        troubles: MutableMapping[str, str],
    ) -> None:
        self.job_id, self.number, self.asked = job_id, attempt, asked
        self._folder, self._process = folder, process
        self._store, self._handler, self._actor, self._boot_id = store, handler, actor, boot_id
        self._troubles = troubles
        self._spool: Path = folder.spool_path(attempt)
        self._position = 0
        self._offset = 0
        self._sent = ""
        self._kill_at: float | None = None
        self._intervention: Intervention | None = None
        self._end = TrainerEnd(folder, attempt)
        self._damaged = ""
        self._is_watched = False
        self._news = anyio.Event()

    def wake(self) -> None:
        """There is something to look at."""
        self._news.set()

    def intervene(self, kind: str, step: int, evidence: Mapping[str, Any], text: str = "") -> None:
        """End the trainer without a checkpoint, since something is wrong that it cannot see itself.

        The attempt then fails with ``kind`` as its reason, and what is done about it is decided as about any failure.
        ``evidence`` holds figures and fixed words. What a person has asked comes first; of several the first counts.
        """
        if self._intervention is None and self.asked not in ("cancel", "consent"):
            self._intervention = Intervention(kind, text, step, dict(evidence))
            self.wake()

    async def follow(self) -> None:
        """Return when the attempt has ended and its end is in the log."""
        async with self._store.session() as session:
            self._position = await spool_position(session, self.job_id, self.number)
        watch = self._watch()
        self._begin_looking()
        try:
            async with anyio.create_task_group() as tasks:
                if watch is not None:
                    tasks.start_soon(self._wake_on_frames, watch)
                if self._process is not None:
                    tasks.start_soon(self._wake_on_end, self._process)
                last = await self._until_ended(tasks)
                tasks.cancel_scope.cancel()
        finally:
            self._is_watched = False
            if watch is not None:
                watch.close()
        await self._leave(last)

    def _begin_looking(self) -> None:
        if self._process is None:
            return
        try:
            self._end.begin(self._process.pid, adopted=self._process.is_found_again)
        except OSError as problem:
            # Without it only less can be told of its end.
            log.warning("job %s: %s", self.job_id, problem)

    def _watch(self) -> FolderWatch | None:
        try:
            watch = FolderWatch(self._spool.parent)
        except OSError as problem:
            # Other programs may hold all the watches a user is granted: then it is looked at once a second.
            log.warning("job %s: %s", self.job_id, problem)
            return None
        self._is_watched = True
        return watch

    async def _until_ended(self, tasks: anyio.abc.TaskGroup) -> LastWord | None:
        """The trainer's last word, recorded; None when it ended without one."""
        while True:
            self._news = anyio.Event()
            # Asked before the frames are read: what was written before the end is then not missed.
            alive = self._folder.is_alive()
            last = await self._take_frames()
            if last is not None:
                return last
            if not alive:
                return None
            if self._process is None and (found := RunningTrainer.find(self._folder)) is not None:
                self._process = found
                self._begin_looking()
                tasks.start_soon(self._wake_on_end, found)
            await self._pass_on_request()
            self._end.look()
            with anyio.move_on_after(self._patience_s()):
                await self._news.wait()

    def _patience_s(self) -> float:
        if self._process is None or not self._is_watched:
            return LOOK_SOON_S
        if self._kill_at is None:
            return LOOK_AGAIN_S
        return max(0.05, min(LOOK_AGAIN_S, self._kill_at - anyio.current_time()))

    async def _take_frames(self) -> LastWord | None:
        """Record what is new in the spool; returns the last word if it is there."""
        found: list[FoundFrame] = []
        try:
            for one in read_frames(self._spool, self._offset):
                found.append(one)
        except SpoolDamaged as damage:
            self._damaged = f"Its report is damaged ({damage}), so it was stopped."
            log.error("job %s: %s", self.job_id, damage)
            if self._process is not None:
                self._process.kill_group()
        events: list[Event] = []
        last: LastWord | None = None
        for one in found:
            seen = observe(self.job_id, self.number, one)
            if isinstance(seen, LastWord):
                last = seen
            elif one.number > self._position:
                events.append(seen)
        if events:
            await self._persist(lambda: self._append(events))
        if last is not None and not self._was_ended(last):
            end = last.end if last.kind != "failed" else {**last.end, "evidence": self._end.evidence()}
            command = RecordEnd(self.job_id, self.number, last.kind, end)
            await self._persist(lambda: self._handler.handle(command, actor=self._actor))
        # Only now: whatever is tried again after an error of our own begins with what is not recorded.
        if found:
            self._offset, self._position = found[-1].end, max(self._position, found[-1].number)
        return last

    async def _append(self, events: Sequence[Event]) -> None:
        """Events of the job and ticks, in one transaction, each under the id that its frame has for ever."""
        stream = stream_name(self.job_id)
        while True:
            decided, version = events, 0
            # Ticks alone change no state and conflict with nothing: most batches need no look at the job's own stream.
            if not all(one.IS_TICK for one in events):
                state, version = await self._handler.state(stream)
                decided = JOBS.decide(RecordFrames(self.job_id, self.number, tuple(events)), state)
            appends = []
            for name, expected, is_tick in ((stream, version, False), (f"ticks-{self.job_id}", None, True)):
                chosen = tuple(one for one in decided if one.IS_TICK is is_tick)
                if chosen:
                    ids = tuple(event_id(self.job_id, self.number, one.number) for one in chosen)  # type: ignore[attr-defined]
                    appends.append(StreamAppend(name, chosen, expected_version=expected, event_ids=ids))
            try:
                if appends:
                    await self._store.append(appends, actor=self._actor)
                return
            except VersionConflict:
                continue
            except DuplicateEvent as known:
                # The log is ahead of the view that holds the position: that event needs no second record.
                log.warning("job %s: %s", self.job_id, known.detail)
                events = [
                    one
                    for one in events
                    if event_id(self.job_id, self.number, one.number) != known.event_id  # type: ignore[attr-defined]
                ]

    async def _persist(self, record: Callable[[], Awaitable[Value]]) -> Value:
        """Record something, waiting for room as long as the disk is full: the frames stay in the spool."""
        while True:
            try:
                recorded = await record()
            except (StoreFull, StoreFailed) as error:
                if self._troubles.get("log") != error.detail:
                    log.error("job %s: %s", self.job_id, error.detail)
                self._troubles["log"] = error.detail
                await anyio.sleep(FULL_DISK_S)
                continue
            self._troubles.pop("log", None)
            return recorded

    def _was_ended(self, last: LastWord) -> bool:
        """Whether it left because it was told to, for what was found about it."""
        return self._intervention is not None and last.kind == "stopped" and last.end["reason"] == "leave"

    def _request(self) -> str:
        """What the trainer is to do now; empty for nothing but to go on."""
        if self.asked != "cancel" and self._intervention is not None:
            return "leave"
        # A job that may not go on ends as one that pauses: with a checkpoint.
        return "pause" if self.asked in ("consent", "yield") else self.asked

    async def _pass_on_request(self) -> None:
        """Tell the trainer what is asked of it; end one that does not follow in time where that matters."""
        if self._process is None:
            return
        request = self._request()
        if request and request != self._sent:
            # Read before it is told: an error of our own then costs nobody the end of a trainer that does not follow.
            grace_s = await self._grace_s() if request == "cancel" else INTERVENTION_S
            self._folder.write_control(request)
            self._process.terminate()
            self._sent = request
            if request in ("cancel", "leave"):
                self._kill_at = anyio.current_time() + grace_s
        if self._kill_at is not None and anyio.current_time() >= self._kill_at:
            log.info("job %s: the trainer did not end by itself and is killed", self.job_id)
            self._process.kill_group()

    async def _grace_s(self) -> float:
        state, _ = await self._handler.state(settings.STREAM)
        return float((state or settings.SettingsState()).get("jobs.cancel_grace_s"))

    async def _leave(self, last: LastWord | None) -> None:
        """See the process off; record an end that it could not tell itself."""
        process = self._process
        if last is None and not self._folder.path.is_dir():
            # It still computes, but nothing it writes can reach anybody any more.
            self._damaged = "Its folder was removed while it was training."
            if process is not None:
                process.kill_group()
        if process is not None:
            with anyio.move_on_after(LEAVE_S):
                await process.gone()
            process.kill_group()
            await process.gone()
        if last is None or self._was_ended(last):
            command = self._end_as_seen()
            await self._persist(lambda: self._handler.handle(command, actor=self._actor))
        if process is not None:
            process.close()

    def _end_as_seen(self) -> RecordTrainerGone | RecordIntervention:
        """What is recorded of an end that the trainer did not tell."""
        found = self._intervention
        if found is not None:
            text = found.text or finding_text(found.kind, found.step, found.evidence)
            return RecordIntervention(
                self.job_id,
                self.number,
                found.kind,
                text,
                found.step,
                evidence={**self._end.evidence(), **found.evidence},
            )
        if self._damaged:
            return RecordTrainerGone(self.job_id, self.number, self._boot_id, text=self._damaged)
        process = self._process
        death = self._end.death(
            signal=None if process is None else process.ended_by_signal,
            exit_code=None if process is None else process.exit_code,
        )
        cause = cause_of(death)
        return RecordTrainerGone(
            self.job_id, self.number, self._boot_id, cause.reason, cause_text(cause), evidence=cause.evidence
        )

    async def _wake_on_frames(self, watch: FolderWatch) -> None:
        while True:
            await watch.changed()
            self.wake()
            await anyio.sleep(BATCH_S)

    async def _wake_on_end(self, process: RunningTrainer) -> None:
        await process.gone()
        self.wake()
