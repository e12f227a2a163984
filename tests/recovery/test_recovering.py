"""What the daemon makes of a failure in the log: once, also when it died in between, and on time."""

import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from btmd.api.job_answer import follows
from btmd.command_handler import CommandHandler
from btmd.domain import job
from btmd.domain.commands import DECIDERS
from btmd.domain.event import Actor, Event
from btmd.domain.job_events import (
    AttemptFailed,
    AttemptStarted,
    CheckpointSaved,
    JobSubmitted,
    TrainingShapeKnown,
    TrainingStageEntered,
)
from btmd.domain.settings import ChangeSettings
from btmd.domain.units import MIB
from btmd.job_folder import JobFolder
from btmd.jobs.account import account_of
from btmd.jobs.disk_room import free_own
from btmd.jobs.recovering import Recovering
from btmd.jobs.ways_out import WaysOut
from btmd.projections import job as view
from btmd.projections.views import ALL_PROJECTIONS
from btmd.store.batch import StreamAppend
from btmd.store.event_log import Store

ACTOR = Actor(0, 0, 1, (), "daemon")
TRAINER_PLAN: dict[str, Any] = {
    "num_epochs": 2,
    "rows_sha256": "x",
    "batch_size": 8,
    "micro_batch_size": 8,
    "gradient_checkpointing": False,
    "learning_rate": 1e-3,
    "precision": "fp32",
    "training_type": "lora_adaptation",
    "device": "cpu",
    "max_length": 64,
    "keep_checkpoints": 2,
}


class Place:
    """A log with one job in training, and a clock that is set by hand."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.store, self.folder = store, folder
        self.now_us = 10**15
        self.device = True
        self.handler = CommandHandler(store, DECIDERS)
        self.jobs_dir = folder / "jobs"
        (self.jobs_dir / "j" / "checkpoints").mkdir(parents=True)
        self.attempt = 0

    def recovering(self) -> Recovering:
        """A daemon's, as after a start."""
        nothing = cast(Any, None)
        self.handler = CommandHandler(self.store, DECIDERS)
        return Recovering(
            store=self.store,
            handler=self.handler,
            jobs_dir=self.jobs_dir,
            ways_out=WaysOut(
                store=self.store, handler=self.handler, datasets=nothing, presets=nothing, hardware=nothing
            ),
            device_is_there=lambda: self.device,
            actor=ACTOR,
            clock=lambda: self.now_us,
            troubles={},
        )

    async def happen(self, *events: Event) -> None:
        await self.store.append([StreamAppend("job-j", events, expected_version=None)], actor=ACTOR)

    async def start(self) -> None:
        self.attempt += 1
        started = AttemptStarted("j", self.attempt, "boot", "first")
        await self.happen(started, TrainingStageEntered("j", self.attempt, 1, "training"))

    async def fail(self, reason: str, step: int = 5, rows: tuple[int, ...] = ()) -> None:
        await self.happen(AttemptFailed("j", self.attempt, reason, "It failed.", step, rows))

    async def save(self, step: int, *, best: bool = False, size: int = 10) -> None:
        name = f"step-{step:08d}"
        (self.jobs_dir / "j" / "checkpoints" / name).mkdir()
        (self.jobs_dir / "j" / "checkpoints" / name / "weights").write_bytes(b"\0" * size)
        await self.happen(CheckpointSaved("j", self.attempt, 1 + step, step, name, size, None, best))

    async def state(self) -> job.JobState:
        state, _ = await self.handler.state("job-j")
        assert isinstance(state, job.JobState)
        return state

    async def row(self) -> view.JobRow:
        async with self.store.session() as session:
            row = await view.job(session, "j")
        assert row is not None
        return row

    async def told(self, kind: str = "") -> list[str]:
        events = await self.store.read_stream("job-j")
        return [one.type for one in events if not kind or one.type == kind]

    async def account(self) -> tuple[str, ...]:
        async with self.store.session() as session:
            attempts, recoveries = await view.attempts(session, "j"), await view.recoveries(session, "j")
        return account_of(await self.row(), TRAINER_PLAN, attempts, recoveries).sentences


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Place]:
    times, ids = itertools.count(1_000_000, 1000), itertools.count(1)
    store = await Store.open(
        folder / "btmd.db",
        clock=lambda: next(times),
        boot_id="boot",
        new_id=lambda: f"id-{next(ids)}",
        projections=ALL_PROJECTIONS,
    )
    try:
        place = Place(folder, store)
        await place.happen(
            JobSubmitted("j", "", 0, "m", "d", "v", "quick_test", {"total_steps": 100}, TRAINER_PLAN, {})
        )
        await place.start()
        yield place
    finally:
        await store.close()


async def test_a_failure_is_followed_by_one_plan_however_often_it_is_looked_at(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        await place.fail("out_of_memory")
        assert await place.recovering().look() is None
        await place.recovering().look()
        assert await place.told("RecoveryPlanned") == ["RecoveryPlanned"]
        state = await place.state()
        assert state.changes == {"micro_batch_size": 4}
        assert (await place.row()).text.startswith("It failed. It computes 4 rows at once instead of 8")
        assert await place.account() == (
            "Attempt 1: It failed. It computes 4 rows at once instead of 8 from now on; a step still learns from 8 "
            "rows, so the result is the same.",
            "The number of rows computed at once was 8 in the plan and is 4.",
        )


async def test_what_the_trial_came_down_to_by_itself_is_not_tried_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        (place.jobs_dir / "j" / "trial.json").write_text('{"micro_batch_size": 1, "done": false}')
        await place.fail("out_of_memory")
        await place.recovering().look()
        assert (await place.state()).changes == {"gradient_checkpointing": True}


async def test_a_second_crash_waits_and_is_due_when_its_time_has_come_also_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        await place.fail("crash")
        await place.recovering().look()
        assert (await place.state()).not_before_us == 0
        await place.start()
        await place.fail("crash")
        assert await place.recovering().look() is None
        waits_s = await place.recovering().look()
        assert waits_s == pytest.approx(10)
        with pytest.raises(Exception, match="waits"):
            await place.handler.handle(job.StartAttempt("j", "boot"), actor=ACTOR)
        place.now_us += 10_000_000
        assert await place.recovering().look() is None
        assert await place.told("RecoveryDue") == ["RecoveryDue"]
        await place.handler.handle(job.StartAttempt("j", "boot"), actor=ACTOR)


async def test_crashes_end_the_job_after_as_many_as_the_setting_says(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        await place.handler.handle(ChangeSettings({"jobs.crash_resumes": 1, "recovery.wait_s": 0}), actor=ACTOR)
        await place.save(4)
        for _ in range(2):
            await place.fail("crash")
            await place.recovering().look()
            state = await place.state()
            if not state.ended:
                await place.start()
        row = await place.row()
        assert (row.state, row.reason) == ("failed", "crash_limit")
        assert "ended unexpectedly 2 times" in row.text
        assert "jobs resume j" in row.hint
        assert "step 4" in row.hint


async def _asks(place: Place) -> None:
    await place.handler.handle(ChangeSettings({"recovery.attempts": 0}), actor=ACTOR)
    await place.fail("hung")
    await place.recovering().look()
    assert (await place.state()).state == "needs_attention"


async def test_a_question_stands_for_its_time_and_then_what_was_learned_is_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        await place.save(4)
        await _asks(place)
        row = await place.row()
        assert "Shall it be tried again? Without an answer within 24h 0m it ends and keeps its best" in row.question
        place.now_us += 24 * 3600 * 10**6 - 1
        assert await place.recovering().look() is not None
        assert (await place.state()).state == "needs_attention"
        place.now_us += 1
        assert await place.recovering().look() is None
        state = await place.state()
        assert (state.state, state.asked, state.unanswered) == ("queued", "stop", True)
        # While it only brings in what it has, nobody is asked again.
        await place.start()
        await place.fail("hung")
        await place.recovering().look()
        assert (await place.row()).state == "failed"


async def test_an_answer_goes_on_with_what_was_asked_about(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        await _asks(place)
        await place.handler.handle(job.AnswerJob("j", True), actor=ACTOR)
        state = await place.state()
        assert (state.state, state.undecided, state.not_before_us) == ("recovering", False, 0)
        assert await place.recovering().look() is None
        assert "The answer was yes." in (await place.account())[0]


async def test_a_full_disk_gives_what_is_its_own_and_then_waits_for_room(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        for step in (4, 8, 12, 16):
            await place.save(step, best=step == 8, size=1000)
        checkpoints = place.jobs_dir / "j" / "checkpoints"
        (checkpoints / ".tmp-step-00000020").mkdir()
        await place.handler.handle(ChangeSettings({"disk.reserve_gb": 9999.0}), actor=ACTOR)
        await place.fail("disk_full")
        await place.recovering().look()
        assert sorted(path.name for path in checkpoints.iterdir()) == ["step-00000008", "step-00000016"]
        assert "It waits for room on the disk" in (await place.row()).text
        place.now_us += 1200 * 10**6
        assert await place.recovering().look() is not None
        assert (await place.state()).state == "recovering"
        place.now_us += 1200 * 10**6
        await place.recovering().look()
        assert await place.told("RecoveryDue") == []
        assert "It has waited for room on the disk for 39m" in (await place.row()).question
        await place.handler.handle(ChangeSettings({"disk.reserve_gb": 0.0}), actor=ACTOR)
        assert await place.recovering().look() is None
        assert await place.told("RecoveryDue") == ["RecoveryDue"]


async def test_a_lost_gpu_is_waited_for_until_it_is_there(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        place.device = False
        await place.fail("device")
        await place.recovering().look()
        place.now_us += 600 * 10**6
        assert await place.recovering().look() is not None
        place.device = True
        assert await place.recovering().look() is None
        assert await place.told("RecoveryDue") == ["RecoveryDue"]


async def _asked_whether_to_wait(place: Place) -> None:
    place.device = False
    await place.fail("device")
    await place.recovering().look()
    place.now_us += 1700 * 10**6
    await place.recovering().look()
    assert (await place.state()).state == "recovering"
    place.now_us += 200 * 10**6
    await place.recovering().look()
    row = await place.row()
    assert (row.state, row.question_action) == ("needs_attention", "wait_for_device")
    assert "It has waited for 31m 30s until the GPU can be used again" in row.question


@pytest.mark.parametrize("answer", [None, True])
async def test_who_is_asked_whether_it_shall_wait_on_is_not_needed_once_the_gpu_is_there(
    tmp_path: Path, answer: bool | None
) -> None:
    async with opened(tmp_path) as place:
        await _asked_whether_to_wait(place)
        if answer:
            await place.handler.handle(job.AnswerJob("j", answer), actor=ACTOR)
            assert follows(await place.state(), yes=True).startswith("It waits on")
            # Nobody is asked twice.
            place.now_us += 48 * 3600 * 10**6
        assert await place.recovering().look() is not None
        assert await place.told("AnswerAsked") == ["AnswerAsked"]
        place.device = True
        assert await place.recovering().look() is None
        state, row = await place.state(), await place.row()
        assert (state.state, state.question, state.not_before_us) == ("recovering", None, 0)
        assert (row.state, row.question, row.not_before_us) == ("recovering", "", 0)
        await place.handler.handle(job.StartAttempt("j", "boot"), actor=ACTOR)


@pytest.mark.parametrize("answers", [True, False])
async def test_without_a_yes_it_waits_no_longer_and_can_be_taken_up_again(tmp_path: Path, answers: bool) -> None:
    async with opened(tmp_path) as place:
        await place.save(4)
        await _asked_whether_to_wait(place)
        if answers:
            await place.handler.handle(job.AnswerJob("j", False), actor=ACTOR)
            assert "`btmctl jobs resume j`" in follows(await place.state(), yes=False)
        else:
            place.now_us += 24 * 3600 * 10**6
            await place.recovering().look()
        row = await place.row()
        assert (row.state, row.reason) == ("failed", "declined" if answers else "unanswered")
        assert "its checkpoint of step 4 is kept" in row.text
        assert "`btmctl jobs resume j`" in row.hint
        await place.handler.handle(job.ResumeJob("j"), actor=ACTOR)
        await place.handler.handle(job.StartAttempt("j", "boot"), actor=ACTOR)


async def test_a_result_that_cannot_be_made_is_given_up_and_nobody_is_asked(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        await place.save(4)
        await place.handler.handle(job.StopJob("j"), actor=ACTOR)
        await place.handler.handle(ChangeSettings({"disk.reserve_gb": 9999.0}), actor=ACTOR)
        await place.fail("disk_full")
        await place.recovering().look()
        place.now_us += 3600 * 10**6
        assert await place.recovering().look() is not None
        place.now_us += 24 * 3600 * 10**6
        await place.recovering().look()
        row = await place.row()
        assert (row.state, row.reason) == ("failed", "disk_full")
        assert "It failed. What its result needs was not there for 24h 59m" in row.text
        assert await place.told("AnswerAsked") == []


async def test_nothing_is_decided_while_the_trainer_is_still_leaving(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        lock = JobFolder(place.jobs_dir / "j").take_lock()
        assert lock is not None
        await place.fail("crash")
        assert await place.recovering().look() is not None
        assert (await place.state()).undecided
        os.close(lock)
        await place.recovering().look()
        assert not (await place.state()).undecided


async def test_an_attempt_that_begins_further_back_than_it_should_is_told_of(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        await place.save(4)
        await place.fail("killed")
        await place.recovering().look()
        await place.start()
        shape = {"total_steps": 100, "total_epochs": 2, "resumed_from_step": 0}
        await place.happen(TrainingShapeKnown("j", 2, 2, shape))
        assert (await place.account())[-1].startswith("No checkpoint was there any more when attempt 2 began")
        assert (await place.state()).best_step is None


def test_only_half_written_files_and_old_checkpoints_are_given(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    for name in ("step-00000004", "step-00000008", ".tmp-step-00000012"):
        (folder.checkpoints / name).mkdir(parents=True)
        (folder.checkpoints / name / "weights").write_bytes(b"\0" * MIB)
    folder.tmp.mkdir()
    (folder.tmp / "piece").write_bytes(b"\0" * 10)
    (tmp_path / "result").mkdir()
    assert free_own(folder, ()) == 2 * MIB + 10
    assert [path.name for path in folder.checkpoints.iterdir()] == ["step-00000008"]
    assert (tmp_path / "result").is_dir()
