"""Beginning and following attempts while something else happens: what is asked, a log that fails, a view that does."""

import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from anyio.lowlevel import checkpoint
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy.exc import DatabaseError

from btmd.command_handler import CommandHandler
from btmd.domain.commands import DECIDERS
from btmd.domain.dataset import ConsentRevoked
from btmd.domain.job import PauseJob, RecordEnd, StartAttempt
from btmd.domain.job_housekeeping import JobDeleted
from btmd.domain.warning import CRITICAL, Finding
from btmd.errors import StoreFailed
from btmd.frames import FoundFrame
from btmd.job_folder import JobFolder
from btmd.jobs import attempt as attempts
from btmd.jobs import supervisor as module
from btmd.jobs.attempt import Attempt
from btmd.jobs.observations import LastWord
from btmd.jobs.running_trainer import RunningTrainer
from btmd.jobs.supervisor import Supervisor
from btmd.projections.job import unfinished_jobs
from btmd.projections.views import ALL_PROJECTIONS
from btmd.store.event_log import Store
from tests.fixtures import job_histories as history
from tests.store.given import ACTOR, append, opened


class _Contents:
    def whole(self, sha256: str) -> bool:
        return True

    def path(self, sha256: str) -> Path:
        return Path("/") / sha256


class _Given(Struct):
    store: Store
    handler: CommandHandler
    supervisor: Supervisor
    jobs_dir: Path

    async def state(self, job_id: str) -> Any:
        return (await self.handler.state(f"job-{job_id}"))[0]


@asynccontextmanager
async def _given(folder: Path, *job_ids: str) -> AsyncIterator[_Given]:
    """A supervisor, and jobs that wait, each with its folder."""
    jobs_dir = folder / "jobs"
    jobs_dir.mkdir()
    async with opened(folder, projections=ALL_PROJECTIONS) as store:
        for job_id in job_ids:
            plan = history.make_folder(jobs_dir / job_id).read_plan()
            await history.write(
                store, job_id, replace(history.submitted(job_id), trainer_plan=msgspec.to_builtins(plan))
            )
        handler = CommandHandler(store, DECIDERS)
        supervisor = Supervisor(
            store=store,
            handler=handler,
            jobs_dir=jobs_dir,
            answers_keys_dir=folder,
            contents=_Contents(),  # type: ignore[arg-type]
            actor=ACTOR,
            boot_id="boot-1",
            troubles={},
        )
        yield _Given(store, handler, supervisor, jobs_dir)


@asynccontextmanager
async def _running(given: _Given) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(given.supervisor.run)
        await checkpoint()
        yield
        tasks.cancel_scope.cancel()


async def _until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while True:
            if holds():
                return
            await anyio.sleep(0.001)


async def _started_in_vain(given: _Given, job_id: str, lock: int) -> None:
    async with _running(given):
        given.supervisor.start(job_id, "cpu", lock)
        await anyio.sleep_forever()


def _lock() -> int:
    return os.open("/dev/null", os.O_RDONLY)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


async def test_what_is_asked_while_an_attempt_begins_reaches_its_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed: list[str] = []

    async def follow(attempt: Attempt) -> None:
        followed.append(attempt.asked)

    monkeypatch.setattr(Attempt, "follow", follow)
    async with _given(tmp_path, "aa") as given, _running(given):
        await history.write(given.store, "aa", *history.started("aa"))
        attempt = given.supervisor._attempt("aa", 1, "", JobFolder(given.jobs_dir / "aa"), None)
        given.supervisor._attempts["aa"] = attempt
        read = given.handler.state

        async def read_slowly(*asked: Any) -> Any:
            """The log as it was; somebody pauses the job before the answer is there."""
            found = await read(*asked)
            await given.handler.handle(PauseJob("aa"), actor=ACTOR)
            await _until(lambda: attempt.asked == "pause")
            return found

        monkeypatch.setattr(given.handler, "state", read_slowly)
        await given.supervisor._follow(attempt)
    assert followed == ["pause"]


async def test_a_view_that_cannot_be_read_as_a_job_begins_leaves_neither_the_job_nor_its_device_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreadable(*_: Any) -> None:
        raise DatabaseError("SELECT", {}, Exception("malformed"))

    async with _given(tmp_path, "aa") as given:
        supervisor, locks = given.supervisor, [_lock(), _lock()]
        with monkeypatch.context() as patched:
            patched.setattr(module, "job", unreadable)
            with pytest.raises(BaseExceptionGroup):
                await _started_in_vain(given, "aa", locks[0])
        # Turns are given meanwhile as well.
        supervisor.start("aa", "cpu", locks[1])
        assert supervisor.busy == frozenset()
        assert not any(map(_is_open, locks))
        freed: list[bool] = []
        supervisor.on_freed = lambda: freed.append(True)
        await supervisor.adopt()
        async with _running(given):
            assert freed, "what was refused has its turn again"


async def test_what_keeps_one_job_from_beginning_ends_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems: dict[str, Exception] = {"aa": OSError(errno.EIO, "Input/output error"), "bb": ZeroDivisionError()}

    async def failing(job_id: str, device: str, lock: int) -> None:
        raise problems[job_id]

    monkeypatch.setattr(module, "FULL_DISK_S", 0.0)
    async with _given(tmp_path, "aa", "bb") as given, _running(given):
        handle = given.handler.handle
        refusals = iter([StoreFailed("The disk has failed.")])

        async def failing_once(*told: Any, **more: Any) -> Any:
            for refused in refusals:
                raise refused
            return await handle(*told, **more)

        monkeypatch.setattr(given.supervisor, "_spawn", failing)
        monkeypatch.setattr(given.handler, "handle", failing_once)
        for job_id in ("aa", "aa", "bb"):
            given.supervisor.start(job_id, "cpu", _lock())
            await _until(lambda: not given.supervisor.busy)
        states = [await given.state(job_id) for job_id in ("aa", "bb")]
    assert [one.state for one in states] == ["failed", "failed"]


async def test_a_start_that_is_on_record_although_its_commit_failed_has_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FULL_DISK_S", 0.0)
    async with _given(tmp_path, "aa") as given, _running(given):

        async def recorded(job_id: str, device: str, lock: int) -> None:
            await given.handler.handle(StartAttempt(job_id, "boot-1", device), actor=ACTOR)
            raise StoreFailed("The disk has failed.")

        monkeypatch.setattr(given.supervisor, "_spawn", recorded)
        given.supervisor.start("aa", "cpu", _lock())
        await _until(lambda: not given.supervisor.busy)
        state = await given.state("aa")
    assert (state.state, state.attempt) == ("recovering", 1)


async def test_a_start_that_is_on_record_has_its_trainer_also_when_the_daemon_is_stopped_just_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawned: list[int] = []

    class Process:
        pid = 1

    def spawn(folder: Any, attempt: int, **_: Any) -> Process:
        spawned.append(attempt)
        return Process()

    monkeypatch.setattr(RunningTrainer, "spawn", spawn)
    monkeypatch.setattr(module, "_allows_training", lambda state: True)
    monkeypatch.setattr(Supervisor, "_is_ours", lambda self, folder: True)
    async with _given(tmp_path, "aa") as given:
        handle, lock = given.handler.handle, _lock()
        async with anyio.create_task_group() as tasks:

            async def handle_while_stopped(command: Any, **more: Any) -> Any:
                assert isinstance(command, StartAttempt)
                tasks.cancel_scope.cancel()
                return await handle(command, **more)

            monkeypatch.setattr(given.handler, "handle", handle_while_stopped)
            tasks.start_soon(given.supervisor.run)
            await checkpoint()
            given.supervisor.start("aa", "cpu", lock)
        await given.store.round_trip()
        assert (await given.state("aa")).attempt == 1
        assert spawned == [1]
        assert not _is_open(lock)


async def test_a_job_that_was_deleted_meanwhile_ends_no_withdrawing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _given(tmp_path, "aa", "bb") as given:
        async with given.store.session() as session:
            before = sorted(await unfinished_jobs(session), key=lambda row: row.job_id)

        async def as_before(_: Any) -> Any:
            return before

        monkeypatch.setattr(module, "unfinished_jobs", as_before)
        await history.write(given.store, "aa", history.cancelled("aa"), JobDeleted("aa", 0))
        await given.supervisor._withdraw("dataset-facts")
        assert (await given.state("bb")).state == "cancelled"


async def test_consent_taken_back_between_the_looking_and_the_following_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _given(tmp_path) as given:
        withdrawn: list[str] = []

        async def withdraw(stream: str) -> None:
            withdrawn.append(stream)

        monkeypatch.setattr(given.supervisor, "_withdraw", withdraw)
        await given.supervisor.adopt()
        await append(given.store, "dataset-facts", ConsentRevoked("facts", 0))
        async with _running(given):
            await _until(lambda: bool(withdrawn))
        assert withdrawn == ["dataset-facts"]


async def test_what_was_found_about_one_attempt_does_not_end_the_next(tmp_path: Path) -> None:
    async with _given(tmp_path, "aa") as given:
        attempt = given.supervisor._attempt("aa", 2, "", JobFolder(given.jobs_dir / "aa"), None)
        given.supervisor._attempts["aa"] = attempt
        found = Finding("hung", CRITICAL, {}, stops=True)
        given.supervisor.intervene("aa", found, 5, "", 1)
        assert attempt._request() == ""
        given.supervisor.intervene("aa", found, 5, "", 2)
        assert attempt._request() == "leave"


async def test_a_last_word_that_could_not_be_recorded_is_read_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = LastWord("finished", {**history.OUTCOME, "ended_by": "finished"})
    monkeypatch.setattr(attempts, "read_frames", lambda path, offset: iter([] if offset else [_frame(7)]))
    monkeypatch.setattr(attempts, "observe", lambda *_: last)
    async with _given(tmp_path, "aa") as given:
        await history.write(given.store, "aa", *history.started("aa"))
        attempt = given.supervisor._attempt("aa", 1, "", JobFolder(given.jobs_dir / "aa"), None)
        handle, tried = given.handler.handle, []

        async def failing_once(command: Any, **more: Any) -> Any:
            tried.append(command)
            if len(tried) == 1:
                raise ZeroDivisionError
            return await handle(command, **more)

        monkeypatch.setattr(given.handler, "handle", failing_once)
        monkeypatch.setattr(module, "LOOK_AGAIN_S", 0.0)
        await given.supervisor._follow(attempt)
        assert [type(one) for one in tried] == [RecordEnd, RecordEnd]
        assert (await given.state("aa")).state == "completed"


class _Deaf:
    """A trainer that does not follow."""

    def __init__(self) -> None:
        self.told = 0

    def terminate(self) -> None:
        self.told += 1


async def test_a_cancelled_trainer_that_does_not_follow_is_killed_also_after_an_error_of_our_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _given(tmp_path, "aa") as given:
        attempt, trainer = given.supervisor._attempt("aa", 1, "cancel", JobFolder(given.jobs_dir / "aa"), None), _Deaf()
        attempt._process = trainer  # type: ignore[assignment]
        read, failures = given.handler.state, iter([StoreFailed("It cannot be read.")])

        async def failing_once(*asked: Any) -> Any:
            for failed in failures:
                raise failed
            return await read(*asked)

        monkeypatch.setattr(given.handler, "state", failing_once)
        with pytest.raises(StoreFailed):
            await attempt._pass_on_request()
        await attempt._pass_on_request()
        assert trainer.told == 1
        assert attempt._kill_at is not None


def _frame(end: int) -> FoundFrame:
    return FoundFrame(3, None, end)  # type: ignore[arg-type]
