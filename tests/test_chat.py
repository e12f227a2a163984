"""Answering with warm children: whoever hangs up keeps nobody else from being answered."""

from contextlib import aclosing
from pathlib import Path

import anyio
import pytest

from btmd.chat import ChatModel, Chats

ANSWERING = """
echo '{"ready": true}'
while read question; do
  echo '{"token": "bees"}'
  echo '{"done": true, "tokens": 1}'
done
"""
MODEL = ChatModel(base=Path("/base"), adapter=None, full=None, precision="bf16", threads=1)


async def test_who_hangs_up_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChatModel, "command", lambda self: ["/bin/sh", "-c", ANSWERING])
    chats = Chats()

    async def hang_up() -> None:
        async with chats.users.turn(), aclosing(chats.ask(MODEL, {}, 60.0)) as answer:
            async for told in answer:
                assert told == {"token": "bees"}
                return

    async def listen() -> None:
        async with chats.users.turn(), aclosing(chats.ask(MODEL, {}, 60.0)) as answer:
            assert [told async for told in answer][-1] == {"done": True, "tokens": 1}

    with anyio.fail_after(60):
        for _ in range(2):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hang_up)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listen)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(chats.run)
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert not chats._children


async def test_who_waited_for_a_child_that_somebody_gave_up_on_is_answered_by_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ChatModel, "command", lambda self: ["/bin/sh", "-c", ANSWERING])
    chats, heard, answered = Chats(), anyio.Event(), []

    async def give_up() -> None:
        async with aclosing(chats.ask(MODEL, {}, 60.0)) as answer:
            async for _ in answer:
                heard.set()
                while not chats._children[MODEL].turn.statistics().tasks_waiting:
                    await anyio.lowlevel.checkpoint()
                return

    async def wait_for_it() -> None:
        await heard.wait()
        async with aclosing(chats.ask(MODEL, {}, 60.0)) as answer:
            answered.extend([told async for told in answer])

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(give_up)
            tasks.start_soon(wait_for_it)
    assert answered == [{"token": "bees"}, {"done": True, "tokens": 1}]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(chats.run)
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert not chats._children
