"""What people are told: by kind, several in one, once each however often the daemon is started, and to a program."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from btmd.command_handler import CommandHandler
from btmd.domain.commands import DECIDERS
from btmd.domain.job_events import AnswerAsked, AttemptFailed
from btmd.domain.notification import STREAM
from btmd.domain.settings import ChangeSettings
from btmd.domain.warning import WarningRaised
from btmd.jobs.notification_command import run_command
from btmd.jobs.notifying import Notifying
from btmd.projections.views import ALL_PROJECTIONS
from btmd.store.event_log import Store, StreamAppend
from tests.fixtures import job_histories as history
from tests.store.given import ACTOR, Clocks, append, opened

GATHER_S, WINDOW_S = 0.05, 0.4
REPORT = """
import json, os, sys
with open(sys.argv[1], "a") as file:
    told = {name: value for name, value in os.environ.items() if name.startswith("BTMD_")}
    file.write(json.dumps(told) + "\\n")
"""


class Place:
    """A log with jobs, whose daemon can be started again and again."""

    def __init__(self, folder: Path, store: Store, clocks: Clocks) -> None:
        self.folder, self.store, self.clocks = folder, store, clocks
        self.troubles: dict[str, str] = {}

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[None]:
        notifying = Notifying(
            store=self.store,
            handler=CommandHandler(self.store, DECIDERS),
            jobs_dir=self.folder / "jobs",
            actor=ACTOR,
            clock=lambda: self.clocks.wall_us,
            troubles=self.troubles,
            gather_s=GATHER_S,
            window_s=WINDOW_S,
        )
        async with anyio.create_task_group() as tasks:
            await tasks.start(notifying.run)
            yield
            tasks.cancel_scope.cancel()

    async def settings(self, **changes: object) -> None:
        command = ChangeSettings({key.replace("__", "."): value for key, value in changes.items()})
        await CommandHandler(self.store, DECIDERS).handle(command, actor=ACTOR)

    async def told(self) -> list[dict[str, Any]]:
        return [one.data for one in await self.store.read_stream(STREAM)]

    async def told_of(self, count: int) -> list[dict[str, Any]]:
        """What was told, once it is so much; a little later it is still no more."""
        await until(lambda: self.told(), lambda found: len(found) >= count)
        await anyio.sleep(WINDOW_S + 3 * GATHER_S)
        found = await self.told()
        assert len(found) == count, found
        return found


async def until(read: Callable[[], Any], wanted: Callable[[Any], bool]) -> Any:
    with anyio.fail_after(200):
        while True:
            found = await read()
            if wanted(found):
                return found
            await anyio.sleep(0.05)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    clocks = Clocks()
    async with opened(tmp_path, clocks, projections=ALL_PROJECTIONS) as store:
        for job_id in ("aa", "bb", "cc"):
            await history.write(store, job_id, history.submitted(job_id, f"run-{job_id}"), *history.started(job_id))
        yield Place(tmp_path, store, clocks)


async def test_an_end_is_told_with_what_came_of_it_and_one_that_was_asked_for_is_not(place: Place) -> None:
    async with place.daemon():
        await history.write(place.store, "bb", history.cancelled("bb"))
        await history.write(place.store, "aa", history.completed("aa"))
        (told,) = await place.told_of(1)
    assert told["title"] == "The training run-aa is done"
    assert "50" in told["text"]
    assert (told["kinds"], told["job_ids"], told["urgent"]) == (["finished"], ["aa"], False)
    assert told["channels"] == ["desktop"]


async def test_what_comes_within_the_window_becomes_one(place: Place) -> None:
    async with place.daemon():
        await history.write(place.store, "aa", history.completed("aa"))
        await until(place.told, bool)
        both = history.appends("bb", history.failed("bb")) + history.appends("cc", history.completed("cc"))
        await place.store.append(both, actor=ACTOR)
        _, several = await place.told_of(2)
    assert several["title"] == "2 things about your trainings"
    assert several["text"].splitlines() == ["The training run-bb has failed", "The training run-cc is done"]
    assert several["urgent"]


async def test_nothing_is_told_twice_after_a_restart_and_nothing_old(place: Place) -> None:
    async with place.daemon():
        await history.write(place.store, "aa", history.failed("aa"))
        await place.told_of(1)
    # Recorded by a daemon that ended before it could tell.
    await history.write(place.store, "bb", history.failed("bb"))
    async with place.daemon():
        assert [one["job_ids"] for one in await place.told_of(2)] == [["aa"], ["bb"]]
    await history.write(place.store, "cc", history.failed("cc"))
    place.clocks.advance(3600 * 10**6)
    async with place.daemon():
        await place.told_of(2)


async def test_each_kind_can_be_switched_off(place: Place) -> None:
    await place.settings(notify__finished=False, notify__attention=False)
    async with place.daemon():
        await history.write(place.store, "aa", history.completed("aa"))
        await append(place.store, "watch-bb", WarningRaised("bb", 1, "loss_flat", "warning", {}))
        await history.write(place.store, "bb", history.failed("bb"))
        (told,) = await place.told_of(1)
        assert told["kinds"] == ["failed"]
    # Switched on later, it is not told of what was before.
    await place.settings(notify__finished=True)
    async with place.daemon():
        await place.told_of(1)


async def test_a_question_and_a_grave_warning_are_told_with_the_command_that_helps(place: Place) -> None:
    async with place.daemon():
        asked = AnswerAsked("aa", 1, "May it use shorter rows?", "shorter", {}, 2 * 10**15)
        failed = AttemptFailed("aa", 1, "out_of_memory", "No memory.")
        evidence = {"step": 5, "silent_s": 300.0, "limit_s": 60.0, "cause": "stopped"}
        warned = StreamAppend("watch-bb", (WarningRaised("bb", 1, "hung", "critical", evidence),))
        await place.store.append([*history.appends("aa", failed, asked), warned], actor=ACTOR)
        (told,) = await place.told_of(1)
    assert sorted(told["kinds"]) == ["attention", "warnings"]
    await place.settings(notify__warnings=False)
    async with place.daemon():
        asked = AnswerAsked("cc", 1, "May it use shorter rows?", "shorter", {}, 2 * 10**15)
        await history.write(place.store, "cc", AttemptFailed("cc", 1, "out_of_memory", "No memory."), asked)
        _, told = await place.told_of(2)
    assert told["title"] == "The training run-cc has a question"
    assert "May it use shorter rows?" in told["text"]
    assert "btmctl jobs answer cc yes" in told["text"]


async def test_quarters_are_told_once_each_if_wanted(place: Place) -> None:
    await place.settings(notify__progress=True)
    async with place.daemon():
        await history.write(place.store, "aa", *(history.tick("aa", step) for step in (10, 24, 26, 30)))
        (told,) = await place.told_of(1)
        assert (told["title"], told["marks"]) == ("The training run-aa is at 25 %", {"aa": 25})
    async with place.daemon():
        # Gone back to a checkpoint: 25 was told, also by the daemon before; of 50 and 75 at once the higher is news.
        await history.write(place.store, "aa", *(history.tick("aa", step) for step in (20, 30, 60, 80)))
        _, told = await place.told_of(2)
        assert told["title"] == "The training run-aa is at 75 %"


async def test_a_program_is_told_the_facts_in_its_environment(place: Place) -> None:
    script, heard = place.folder / "report it.py", place.folder / "heard"
    script.write_text(REPORT)
    await place.settings(notify__command=f"{sys.executable} '{script}' {heard}")
    async with place.daemon():
        await history.write(place.store, "aa", history.failed("aa"))
        text = await until(_reader(heard), lambda found: found.endswith("\n"))
    for fact in ('"BTMD_JOB_ID": "aa"', '"BTMD_EVENT": "failed"', '"BTMD_TITLE": "The training run-aa has failed"'):
        assert fact in text
    assert "The trainer crashed. Look at its log." in text
    assert place.troubles == {}


async def test_a_program_that_fails_is_a_trouble_until_one_works(place: Place) -> None:
    await place.settings(notify__command="false $(touch /)")
    async with place.daemon():
        await history.write(place.store, "aa", history.failed("aa"))
        await until(_troubles(place), lambda found: "notify.command" in found)
        assert place.troubles["notify.command"].endswith("(false) ended with code 1.")
        await place.settings(notify__command="echo $BTMD_TITLE | grep -q run-bb", notify__shell=True)
        await history.write(place.store, "bb", history.failed("bb"))
        await until(_troubles(place), lambda found: not found)


async def test_a_program_has_a_bounded_time_and_may_leave_something_behind(tmp_path: Path) -> None:
    assert "longer than 0.3 seconds" in await run_command("sleep 600", {}, shell=False, limit_s=0.3)
    with anyio.fail_after(30):
        assert await run_command("sleep 600 & echo left", {}, shell=True, limit_s=60) == ""
    assert "cannot be run" in await run_command("/nowhere/at/all", {}, shell=False, limit_s=5)
    flood = f"{sys.executable} -c 'print(\"x\" * 10_000_000)'"
    assert await run_command(flood, {}, shell=False, limit_s=60) == ""


def _reader(path: Path) -> Callable[[], Any]:
    async def read() -> str:
        there = await anyio.Path(path).exists()
        return await anyio.Path(path).read_text() if there else ""

    return read


def _troubles(place: Place) -> Callable[[], Any]:
    async def read() -> dict[str, str]:
        return dict(place.troubles)

    return read
