"""Warm children that answer questions with a job's base and tuned model."""

import logging
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

import anyio
import msgspec
from anyio.abc import Process
from msgspec import Struct, field

from btmd.errors import BtmdError, ChildFailed, all_errors
from btmd.fair_turns import FairTurns
from btmd.own_program import own_command, own_environment

log = logging.getLogger("btmd.chat")

LOAD_LIMIT_S = 300.0
MOST_CHILDREN, MOST_QUESTIONS = 2, 1000


class ChatModel(Struct, frozen=True):
    """What a child loads: a base folder, and an adapter or a whole tuned model."""

    base: Path
    adapter: Path | None
    full: Path | None
    precision: str
    threads: int

    def command(self) -> list[str]:
        words = own_command("btmd.trainer.chat", str(self.base))
        if self.adapter is not None:
            words += ["--adapter", str(self.adapter)]
        if self.full is not None:
            words += ["--full", str(self.full)]
        return [*words, "--precision", self.precision, "--threads", str(self.threads)]


class _Child(Struct):
    process: Process
    turn: anyio.Lock = field(default_factory=anyio.Lock)
    pending: bytes = b""
    used_s: float = 0.0
    idle_s: float = 0.0


class Chats:
    """One child for each model that was asked; it is kept warm for a while after the last question."""

    def __init__(self) -> None:
        self._children: dict[ChatModel, _Child] = {}
        self._opening = anyio.Lock()
        self.users = FairTurns(MOST_QUESTIONS)
        """One question of a user after the other: loading model after model would keep all others waiting."""
        self._used = anyio.Event()

    async def run(self) -> None:
        """End children that nobody asks any more; end all of them when cancelled."""
        try:
            while True:
                self._used = anyio.Event()
                with anyio.move_on_after(await self._end_idle()):
                    await self._used.wait()
        finally:
            with anyio.CancelScope(shield=True):
                for model, child in list(self._children.items()):
                    await self._end(model, child)

    async def ask(
        self, model: ChatModel, question: dict[str, Any], idle_s: float
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The child's answers to one question, the last one with ``done``. Raises the child's errors, ChildFailed.

        Giving up in the middle ends the child, since its answer cannot be taken back. To be closed by who asks.
        """
        async with self._turn_of_child(model) as child:
            finished = False
            try:
                assert child.process.stdin is not None
                await child.process.stdin.send(msgspec.json.encode(question) + b"\n")
                while not finished:
                    message = await self._line(child)
                    if "error" in message:
                        finished = True
                        raise _error(message["error"])
                    finished = bool(message.get("done"))
                    yield message
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                raise ChildFailed("The process that answers ended.", hint="Ask again.") from None
            finally:
                child.used_s, child.idle_s = anyio.current_time(), idle_s
                self._used.set()
                if not finished:
                    with anyio.CancelScope(shield=True):
                        await self._end(model, child)

    @asynccontextmanager
    async def _turn_of_child(self, model: ChatModel) -> AsyncIterator[_Child]:
        """A child that answers nobody else; one that was ended while somebody waited for it is followed by another."""
        while True:
            child = await self._child(model)
            async with child.turn:
                if self._children.get(model) is child:
                    yield child
                    return

    async def _child(self, model: ChatModel) -> _Child:
        async with self._opening:
            found = self._children.get(model)
            if found is not None and found.process.returncode is None:
                return found
            if found is not None:
                await self._end(model, found)
            while len(self._children) >= MOST_CHILDREN:
                # One that answers somebody just now goes only where all do.
                needed_least = min(self._children, key=self._needed)
                await self._end(needed_least, self._children[needed_least])
            process = await anyio.open_process(
                model.command(),
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                env=own_environment(),
                start_new_session=True,
            )
            child = _Child(process)
            self._children[model] = child
            try:
                with anyio.fail_after(LOAD_LIMIT_S):
                    message = await self._line(child)
                if "error" in message:
                    raise _error(message["error"])
            except TimeoutError:
                raise ChildFailed("The model took too long to load.", hint="Try again later.") from None
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await self._end(model, child)
                raise
            child.used_s, child.idle_s = anyio.current_time(), 60.0
            self._used.set()
            return child

    def _needed(self, model: ChatModel) -> tuple[bool, float]:
        child = self._children[model]
        return child.turn.locked(), child.used_s

    async def _line(self, child: _Child) -> dict[str, Any]:
        assert child.process.stdout is not None
        while b"\n" not in child.pending:
            try:
                child.pending += await child.process.stdout.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                code = await child.process.wait()
                raise ChildFailed(
                    f"The process that answers ended with code {code}.",
                    hint="If memory is short, close other programs and ask again.",
                ) from None
        line, _, child.pending = child.pending.partition(b"\n")
        message: dict[str, Any] = msgspec.json.decode(line)
        return message

    async def _end_idle(self) -> float | None:
        """End what is idle too long; returns how long until the next one is, None when none is left."""
        now = anyio.current_time()
        for model, child in list(self._children.items()):
            if not child.turn.locked() and child.used_s and now - child.used_s >= child.idle_s:
                await self._end(model, child)
        waits = [max(1.0, one.used_s + one.idle_s - now) for one in self._children.values()]
        return min(waits, default=None)

    async def _end(self, model: ChatModel, child: _Child) -> None:
        """End this one, unless somebody does already; the one that may have followed it stays."""
        if self._children.get(model) is not child:
            return
        del self._children[model]
        if child.process.returncode is None:
            # Not process.kill(): that reaps a child that has just ended, and asyncio then warns of an unknown one.
            with suppress(ProcessLookupError):
                os.killpg(child.process.pid, signal.SIGKILL)
        await child.process.wait()
        await child.process.aclose()


def _error(told: dict[str, str]) -> BtmdError:
    kind = all_errors().get(told["code"], ChildFailed)
    return kind(told["detail"], hint=told.get("hint", ""))
