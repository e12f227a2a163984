"""Watches over trainings: samples the machine beside them, follows their part of the log, and records what is wrong."""

import logging
from collections.abc import Callable, Collection, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread
from msgspec import Struct, field

from btmd.command_handler import CommandHandler
from btmd.domain import machine, settings, warning
from btmd.domain.event import Actor
from btmd.domain.job import stream_name
from btmd.domain.job_events import AttemptStarted, TrainingProgressed
from btmd.domain.warning import Finding, ReportFindings, WatchState
from btmd.errors import BtmdError
from btmd.job_folder import JobFolder
from btmd.jobs.sampling import MachineSampling, SampledTrainer
from btmd.projections.warning import jobs_with_open_warnings
from btmd.store.batch import StreamAppend
from btmd.store.event_log import Recorded, Store
from btmd.subscriptions import subscribe

if TYPE_CHECKING:
    from btmd.monitoring.watch import Watch

log = logging.getLogger("btmd.watching")

LOOK_S = 5.0
"""Ticks alone are looked at no more often."""
IDLE_S = 600.0
"""Nothing is watched; the first attempt wakes it."""
PAGE_ROWS = 2000

Intervene = Callable[[str, Finding, int, str, int], None]
"""Told a job, a finding that a training had better be ended for, the step, words of its own, and the attempt."""


class _Watched(Struct):
    """A job's watch, the log's position up to which it has seen everything, and what was last recorded of it."""

    watch: "Watch"
    seq: int
    open: frozenset[str] | None = None
    looked_us: int = 0
    has_news: bool = field(default=False)


class Watching:
    """One watch for each job that a trainer belongs to. ``clock`` gives microseconds since the epoch."""

    def __init__(
        self,
        *,
        store: Store,
        handler: CommandHandler,
        jobs_dir: Path,
        actor: Actor,
        clock: Callable[[], int],
        busy: Callable[[], Collection[str]],
        intervene: Intervene,
        troubles: MutableMapping[str, str],
        sampling: MachineSampling | None = None,
    ) -> None:
        self._store, self._handler, self._actor, self._clock = store, handler, actor, clock
        self._jobs_dir, self._busy, self._intervene, self._troubles = jobs_dir, busy, intervene, troubles
        self._sampling = sampling or MachineSampling(jobs_dir, clock)
        self._watched: dict[str, _Watched] = {}
        self._wanted = anyio.Event()

    async def run(self) -> None:
        """Watch until cancelled; first everything is learned anew from the log."""
        position = self._store.head.seq
        with self._guarded("Warnings of earlier trainings cannot be withdrawn; the daemon's log says why."):
            await self._withdraw_left_over()
        for job_id in sorted(self._busy()):
            await self._begin(job_id, position)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._sample_on)
            async for batch in subscribe(self._store, position):
                await self._take(batch)

    async def _withdraw_left_over(self) -> None:
        """Warnings of jobs that nobody works on: the daemon ended before it could withdraw them."""
        async with self._store.session() as session:
            left = await jobs_with_open_warnings(session)
        for job_id, attempt in left.items():
            if job_id not in self._busy():
                await self._report(ReportFindings(job_id, attempt, ()))

    async def _begin(self, job_id: str, upto: int) -> None:
        with self._one_job(job_id):
            self._watched[job_id] = await self._learned(job_id, upto)
            self._wanted.set()

    @contextmanager
    def _one_job(self, job_id: str) -> Iterator[None]:
        """An error of our own ends the watch over one job, not that over others."""
        try:
            yield
        except Exception:
            log.exception("job %s cannot be watched any more", job_id)
            self._watched.pop(job_id, None)
            self._tell_trouble(f"The job {job_id} is not watched over any more; the daemon's log says why.")

    @contextmanager
    def _guarded(self, trouble: str) -> Iterator[None]:
        """An error of our own is told; it costs neither the daemon nor any training."""
        try:
            yield
        except Exception:
            log.exception("%s", trouble)
            self._tell_trouble(trouble)

    async def _learned(self, job_id: str, upto: int) -> _Watched:
        """A watch that has seen everything of a job up to a position; only what is recorded counts."""
        # An idle daemon needs no detectors.
        from btmd.monitoring.watch import Watch

        found = _Watched(Watch(), upto)
        streams = (stream_name(job_id), f"ticks-{job_id}", warning.samples_stream(job_id), machine.STREAM)
        after = 0
        while page := await self._store.read(after, limit=PAGE_ROWS, upto=upto, streams=streams):
            for recorded in page:
                found.watch.see(recorded.event, recorded.wall_at_us)
            after = page[-1].seq
        return found

    async def _take(self, batch: list[Recorded]) -> None:
        for recorded in batch:
            job_id = _job_of(recorded.stream)
            if job_id is None:
                continue
            if recorded.type == AttemptStarted.TYPE and job_id not in self._watched:
                await self._begin(job_id, recorded.seq)
            watched = self._watched.get(job_id)
            if watched is not None:
                with self._one_job(job_id):
                    self._see(watched, recorded)
        for job_id, watched in list(self._watched.items()):
            if watched.has_news:
                with self._one_job(job_id):
                    await self._look(job_id, watched)

    def _see(self, watched: _Watched, recorded: Recorded) -> None:
        if recorded.seq > watched.seq:
            watched.watch.see(recorded.event, recorded.wall_at_us)
            watched.seq = recorded.seq
        is_progress = recorded.type == TrainingProgressed.TYPE
        watched.has_news |= not is_progress or self._clock() - watched.looked_us >= LOOK_S * 1e6

    async def _look(self, job_id: str, watched: _Watched) -> None:
        """Record what has come and gone, and pass on what a training should be ended for."""
        watched.has_news, watched.looked_us = False, self._clock()
        run = watched.watch.run
        findings = watched.watch.look(watched.looked_us)
        kinds = frozenset(one.kind for one in findings)
        if kinds != watched.open:
            if watched.open is None:
                state, _ = await self._handler.state(warning.stream_name(job_id))
                watched.open = frozenset((state or WatchState()).open)
            command = ReportFindings(job_id, run.attempt, findings, watched.watch.figures())
            if kinds != watched.open and await self._report(command):
                watched.open = kinds
        for one in findings:
            if one.stops and run.alive:
                # Another attempt may have begun since: what is seen here comes after it happened.
                self._intervene(job_id, one, int(one.evidence.get("step", run.step)), "", run.attempt)
        if not run.alive and run.state not in ("recovering", "queued"):
            self._watched.pop(job_id, None)

    async def _report(self, command: ReportFindings) -> bool:
        """Whether it is recorded; where it cannot be now, the next look tries again."""
        try:
            handled = await self._handler.handle(command, actor=self._actor)
        except BtmdError as error:
            self._tell_trouble(f"What is wrong with the job {command.job_id} cannot be recorded: {error.detail}")
            return False
        for recorded in handled.events:
            log.info("job %s: %s %s", command.job_id, recorded.type, recorded.data.get("kind"))
        self._troubles.pop("watching", None)
        return True

    async def _sample_on(self) -> None:
        while True:
            state, _ = await self._handler.state(settings.STREAM)
            every_s = float((state or settings.SettingsState()).get("monitoring.sample_every_s"))
            if not self._trainers():
                self._sampling.rest()
                self._wanted = anyio.Event()
                with anyio.move_on_after(LOOK_S if self._watched else IDLE_S):
                    await self._wanted.wait()
            trainers = self._trainers()
            if trainers:
                with self._guarded("The machine beside the trainings cannot be watched; the daemon's log says why."):
                    await self._sample(trainers, every_s)
                await anyio.sleep(every_s)

    async def _sample(self, trainers: list[SampledTrainer], waited_s: float) -> None:
        try:
            samples = await to_thread.run_sync(self._sampling.read, trainers, waited_s)
            appends = [StreamAppend(warning.samples_stream(one.job_id), (one,)) for one in samples]
            await self._store.append(appends, actor=self._actor)
        except (BtmdError, OSError) as error:
            detail = error.detail if isinstance(error, BtmdError) else error.strerror or str(error)
            self._tell_trouble(f"The machine beside the trainings cannot be watched: {detail}")
            return
        self._troubles.pop("watching", None)

    def _trainers(self) -> list[SampledTrainer]:
        found = []
        for job_id, watched in self._watched.items():
            run = watched.watch.run
            process = JobFolder(self._jobs_dir / job_id).read_pid() if run.alive else None
            if process is not None and process.attempt == run.attempt:
                own = run.tick.gpu_memory_bytes if run.tick is not None else None
                device = str(run.plan.get("device", "cpu"))
                found.append(SampledTrainer(job_id, run.attempt, process.pid, device, own))
        return found

    def _tell_trouble(self, text: str) -> None:
        if self._troubles.get("watching") != text:
            log.error("%s", text)
        self._troubles["watching"] = text


def _job_of(stream: str) -> str | None:
    """The job that a stream tells of; None for other streams."""
    for beginning in ("ticks-machine-", "ticks-", "job-"):
        if stream.startswith(beginning):
            return stream.removeprefix(beginning)
    return None
