"""The caller's side: starts a child, follows it, and ends it when nobody waits or it takes too long."""

import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from subprocess import PIPE
from typing import Final, TypeVar

import anyio
import msgspec
from anyio.abc import ByteReceiveStream, Process

from btmd.child.protocol import Answer
from btmd.errors import BtmdError, ChildFailed, DatasetRefused, all_errors
from btmd.own_program import own_command, own_environment

logger = logging.getLogger(__name__)

Result = TypeVar("Result", bound=msgspec.Struct)
OnProgress = Callable[[float, str], None]

_ANSWER: Final = msgspec.json.Decoder(Answer)
_LONGEST_LINE_BYTES: Final = 16 * 1024 * 1024
_KEPT_STDERR_BYTES: Final = 8192


def ignore_progress(_share: float, _text: str) -> None:
    """For work that nobody watches."""


async def ask_child(
    module: str,
    request: msgspec.Struct,
    kind: type[Result],
    on_progress: OnProgress = ignore_progress,
    *,
    deadline_s: float,
) -> Result:
    """Run ``python -m module`` for one request; it is killed when cancelled, and ``deadline_s`` after its start.

    Raises the error that the child tells, or ChildFailed.
    """
    process = await _start(module)
    try:
        with anyio.fail_after(deadline_s):
            result = await _Conversation(process, on_progress).hold(request)
        return msgspec.json.decode(result, type=kind)
    except TimeoutError as error:
        raise ChildFailed(
            f"It took longer than {deadline_s:.0f} seconds and was given up.",
            hint="Try again when the machine is less busy.",
        ) from error
    except msgspec.DecodeError as error:
        raise ChildFailed("The worker process gave no usable answer.", hint="Please report it.") from error
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process)


async def _start(module: str) -> Process:
    return await anyio.open_process(
        own_command(module),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=own_environment(),
        start_new_session=True,
    )


async def _end(process: Process) -> None:
    if process.returncode is None:
        # Not process.kill(): that reaps a child that has just ended, and asyncio then warns of an unknown one.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    await process.aclose()


class _Conversation:
    """Sends one request and reads lines until the answer; drains standard error, or a chatty child would block."""

    def __init__(self, process: Process, on_progress: OnProgress) -> None:
        self._process = process
        self._on_progress = on_progress
        self._stderr = b""
        self._last: Answer | None = None

    async def hold(self, request: msgspec.Struct) -> msgspec.Raw:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        try:
            # Standard input stays open: its end tells the child that the daemon is gone.
            await self._process.stdin.send(msgspec.json.encode(request) + b"\n")
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise await self._died() from error
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._drain, self._process.stderr)
            failure = await self._listen(self._process.stdout)
            if failure is not None:
                tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if self._last is None or (not self._last.result and self._last.error is None):
            raise await self._died()
        if self._last.error is not None:
            kind = all_errors().get(self._last.error.code, ChildFailed)
            if kind is ChildFailed:
                logger.debug("a child failed: %s", self._stderr.decode(errors="replace"))
            told = self._last.error
            if issubclass(kind, DatasetRefused):
                raise kind(told.detail, hint=told.hint, suggestions=told.suggestions)
            raise kind(told.detail, hint=told.hint)
        return self._last.result

    async def _listen(self, stdout: ByteReceiveStream) -> ChildFailed | None:
        """Read to the end; returns what is wrong instead of raising, or the task group would wrap it."""
        pending = b""
        async for chunk in stdout:
            *lines, pending = (pending + chunk).split(b"\n")
            if len(pending) > _LONGEST_LINE_BYTES:
                return ChildFailed("The worker process answered without end.", hint="Please report it.")
            for line in lines:
                try:
                    self._last = _ANSWER.decode(line)
                except msgspec.DecodeError:
                    return ChildFailed("The worker process gave no usable answer.", hint="Please report it.")
                if self._last.progress is not None:
                    self._on_progress(self._last.progress, self._last.text)
        return None

    async def _drain(self, stderr: ByteReceiveStream) -> None:
        async for chunk in stderr:
            self._stderr = (self._stderr + chunk)[-_KEPT_STDERR_BYTES:]

    async def _died(self) -> BtmdError:
        code = await self._process.wait()
        logger.debug("a child died (%s): %s", code, self._stderr.decode(errors="replace"))
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        return ChildFailed(
            f"The process that does this {how} before it had an answer.",
            hint="If memory is short, close other programs and try again.",
        )
