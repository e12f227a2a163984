"""Room on the disk: what can go, what never does, the budget, deleted jobs, and what a crash left."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from btmd.command_handler import CommandHandler
from btmd.domain.commands import DECIDERS
from btmd.domain.event import Event
from btmd.domain.job import ResumeJob, StartAttempt, stream_name
from btmd.domain.job_housekeeping import DeleteJob
from btmd.domain.settings import ChangeSettings
from btmd.domain.units import GIB
from btmd.errors import Conflict, JobNotFound
from btmd.jobs.housekeeping import Housekeeping, JobNeeded
from btmd.projections.job import JobRow, checkpoints, job, jobs
from btmd.projections.views import ALL_PROJECTIONS
from btmd.store.event_log import Store
from tests.fixtures import job_histories as history
from tests.store.given import ACTOR, opened

SIZE = 1000
STEPS = (10, 20, 30, 40)
BEST = 20


class Place:
    """A log and folders with jobs in all states, each with four checkpoints, of which the second is the best."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.store, self.jobs_dir, self.cache_dir = store, folder / "jobs", folder / "cache"
        self.jobs_dir.mkdir()
        self.cache_dir.mkdir()
        self.busy: set[str] = set()
        self.asides: dict[str, str] = {}
        self.turn = anyio.Lock()
        self.handler = CommandHandler(store, DECIDERS)

    def daemon(self) -> Housekeeping:
        return Housekeeping(
            store=self.store,
            handler=self.handler,
            jobs_dir=self.jobs_dir,
            cache_dir=self.cache_dir,
            backup_turn=self.turn,
            busy=lambda: self.busy,
            actor=ACTOR,
            asides=self.asides,
        )

    async def add(self, job_id: str, *end: Event, plan: dict[str, object] | None = None) -> None:
        await history.write(self.store, job_id, history.submitted(job_id, f"run-{job_id}", plan))
        if plan is not None:
            return
        await history.write(self.store, job_id, *history.started(job_id))
        for step in STEPS:
            await history.write(self.store, job_id, history.saved(job_id, step, best=step == BEST, size_bytes=SIZE))
        await history.write(self.store, job_id, *end)
        folder = history.make_folder(self.jobs_dir / job_id, checkpoints=STEPS, size_bytes=SIZE)
        folder.result.mkdir()
        (folder.result / "adapter").write_bytes(b"a" * 100)

    def steps(self, job_id: str) -> list[int]:
        """Of the checkpoints that stand in its folder."""
        found = (self.jobs_dir / job_id / "checkpoints").iterdir()
        return sorted(int(path.name.removeprefix("step-")) for path in found)

    async def known_steps(self, job_id: str) -> list[int]:
        async with self.store.session() as session:
            return [one.step for one in await checkpoints(session, job_id)]

    async def row(self, job_id: str) -> JobRow:
        async with self.store.session() as session:
            found = await job(session, job_id)
        assert found is not None
        return found

    async def budget(self, size_bytes: int) -> None:
        await self.handler.handle(ChangeSettings({"disk.budget_gb": size_bytes / GIB}), actor=ACTOR)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with opened(tmp_path, projections=ALL_PROJECTIONS) as store:
        found = Place(tmp_path, store)
        await found.add("completed", history.completed("completed"))
        await found.add("failed", history.failed("failed"))
        await found.add("cancelled", history.cancelled("cancelled"))
        await found.add("running")
        yield found


async def test_cleaning_leaves_the_best_of_what_completed_and_all_that_has_not_ended(place: Place) -> None:
    (place.cache_dir / "tokens-1.json").write_bytes(b"t" * 50)
    daemon = place.daemon()
    would = await daemon.removable()
    assert [(one.kind, one.job_id, one.size_bytes) for one in would] == [
        ("caches", "", 50),
        ("cancelled", "cancelled", 4 * SIZE),
        ("completed", "completed", 3 * SIZE),
        ("failed", "failed", 4 * SIZE),
    ]
    freed = await daemon.clean(["caches", "cancelled", "completed"], actor=ACTOR)
    assert freed.size_bytes == 7 * SIZE + 50
    assert [place.steps(one) for one in ("completed", "cancelled")] == [[BEST], []]
    assert [place.steps(one) for one in ("failed", "running")] == [[*STEPS], [*STEPS]]
    assert await place.known_steps("completed") == [BEST]
    assert list(place.cache_dir.iterdir()) == []
    assert (place.jobs_dir / "completed" / "result" / "adapter").exists()
    # A failed one can go on nevertheless, from its beginning.
    await daemon.clean(["failed"], actor=ACTOR)
    await place.handler.handle(ResumeJob("failed"), actor=ACTOR)
    state, _ = await place.handler.state(stream_name("failed"))
    assert (state.state, state.best_step) == ("queued", None)


async def test_nothing_is_removed_while_a_backup_reads(place: Place) -> None:
    async with place.turn:
        with pytest.raises(Conflict, match="backup"):
            await place.daemon().clean(["failed"], actor=ACTOR)
        with pytest.raises(Conflict, match="backup"):
            await place.daemon().delete(await place.row("failed"), actor=ACTOR)
    assert place.steps("failed") == [*STEPS]


async def test_a_job_that_goes_on_meanwhile_keeps_its_checkpoints(place: Place) -> None:
    daemon = place.daemon()
    would = await daemon.removable(["failed"])
    await place.handler.handle(ResumeJob("failed"), actor=ACTOR)
    assert [await daemon._free_one(one, ACTOR, "asked") for one in would] == [False]
    assert place.steps("failed") == [*STEPS]


async def test_the_budget_takes_what_is_least_needed_first_and_never_best_or_newest(place: Place) -> None:
    daemon = place.daemon()
    taken = sum(use.total_bytes for use in (await daemon.uses()).values())
    assert (await daemon.keep_to_budget()).size_bytes == 0
    await place.budget(taken - SIZE)
    assert [one.job_id for one in (await daemon.keep_to_budget()).removed] == ["cancelled"]
    assert place.steps("cancelled") == [BEST, 40]
    assert place.asides == {}
    await place.budget(1000)
    assert [one.job_id for one in (await daemon.keep_to_budget()).removed] == ["completed", "failed"]
    assert [place.steps(one) for one in ("completed", "failed")] == [[BEST, 40]] * 2
    assert place.steps("running") == [*STEPS]
    assert "btmctl disk" in place.asides["disk.budget_gb"]
    removed = [one for one in await place.store.read_stream("job-failed") if one.type == "CheckpointsRemoved"]
    assert (removed[0].data["why"], removed[0].data["left_step"]) == ("budget", 40)
    await place.budget(0)
    await daemon.keep_to_budget()
    assert place.asides == {}


async def test_a_deleted_job_is_gone_but_for_its_history(place: Place) -> None:
    daemon = place.daemon()
    with pytest.raises(Conflict, match="has not ended"):
        await daemon.delete(await place.row("running"), actor=ACTOR)
    freed = await daemon.delete(await place.row("failed"), actor=ACTOR)
    assert freed > 4 * SIZE
    assert not (place.jobs_dir / "failed").exists()
    async with place.store.session() as session:
        assert {row.job_id for row in await jobs(session)} == {"completed", "cancelled", "running"}
    assert [one.type for one in await place.store.read_stream("job-failed")][-2:] == ["JobFailed", "JobDeleted"]
    for command in (ResumeJob("failed"), StartAttempt("failed", "boot"), DeleteJob("failed", 0)):
        with pytest.raises(JobNotFound, match="deleted"):
            await place.handler.handle(command, actor=ACTOR)


async def test_what_a_waiting_training_goes_on_from_is_deleted_only_by_force(place: Place) -> None:
    await place.add("waiting", plan={"from_job": "completed"})
    daemon = place.daemon()
    with pytest.raises(JobNeeded, match="waiting goes on from its adapter"):
        await daemon.delete(await place.row("completed"), actor=ACTOR)
    assert (place.jobs_dir / "completed").exists()
    await daemon.delete(await place.row("completed"), actor=ACTOR, force=True)
    assert not (place.jobs_dir / "completed").exists()


async def test_what_a_crash_left_goes_at_the_start(place: Place) -> None:
    # A daemon that died after the deletion was recorded, and one that died in the middle of removing.
    await place.handler.handle(DeleteJob("failed", 1), actor=ACTOR)
    (place.jobs_dir / "cancelled").rename(place.jobs_dir / ".deleted-cancelled")
    (place.jobs_dir / "completed" / "checkpoints" / ".tmp-step-00000050").mkdir()
    (place.jobs_dir / "completed" / "tmp" / "half").write_bytes(b"h")
    at_work = history.make_folder(place.jobs_dir / "running")
    (at_work.tmp / "in use").write_bytes(b"h")
    lock = at_work.take_lock()
    assert lock is not None
    await place.daemon().at_start()
    assert {path.name for path in place.jobs_dir.iterdir()} == {"completed", "running"}
    assert place.steps("completed") == [*STEPS]
    assert list((place.jobs_dir / "completed" / "tmp").iterdir()) == []
    assert (at_work.tmp / "in use").exists()
