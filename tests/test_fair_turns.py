"""A few have their turn at once, and nobody takes all of them."""

import os

import anyio
import pytest

from btmd.fair_turns import FairTurns, asking_uid


async def test_one_user_leaves_a_turn_to_the_others() -> None:
    turns, began, go_on = FairTurns(2), [], anyio.Event()

    async def work(uid: int | None) -> None:
        asking_uid.set(uid)
        async with turns.turn():
            began.append(uid)
            await go_on.wait()

    async with anyio.create_task_group() as tasks:
        for uid in (4711, 4711, 4711, 4712, 4713):
            tasks.start_soon(work, uid)
        await anyio.wait_all_tasks_blocked()
        assert began == [4711, 4712]
        go_on.set()
    assert sorted(began) == [4711, 4711, 4711, 4712, 4713]


@pytest.mark.parametrize("uid", [None, os.getuid()])
async def test_the_daemons_own_user_may_have_all(uid: int | None) -> None:
    turns = FairTurns(2)
    asking_uid.set(uid)
    ended = []

    async def second() -> None:
        async with turns.turn():
            ended.append(uid)

    async with turns.turn():
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(second)
    assert ended == [uid]


async def test_who_comes_later_waits_for_their_own_too_and_nothing_is_kept_of_whoever_is_gone() -> None:
    turns, began, ends = FairTurns(3), [], [anyio.Event() for _ in range(4)]
    gives_up = anyio.CancelScope()

    async def work(number: int) -> None:
        asking_uid.set(4711)
        async with turns.turn():
            began.append(number)
            await ends[number].wait()

    async def give_up(number: int) -> None:
        with gives_up:
            await work(number)

    async with anyio.create_task_group() as tasks:
        for task, number in ((work, 0), (give_up, 1), (work, 2)):
            tasks.start_soon(task, number)
            await anyio.wait_all_tasks_blocked()
        gives_up.cancel()
        await anyio.wait_all_tasks_blocked()
        ends[0].set()
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(work, 3)
        await anyio.wait_all_tasks_blocked()
        assert began == [0, 2]
        ends[2].set()
        await anyio.wait_all_tasks_blocked()
        assert began == [0, 2, 3]
        ends[3].set()
    assert turns._users == {}
