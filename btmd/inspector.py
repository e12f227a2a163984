"""The daemon's side of inspection: starts a child for each request, follows it, and ends it when nobody waits."""

import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE
from typing import Final, TypeVar

import anyio
import msgspec
from anyio.abc import ByteReceiveStream, Process

from btmd.errors import BtmdError, ChildFailed, all_errors
from btmd.inspection.facts import ConversionFacts, DatasetFacts, ModelFacts, TokenFacts
from btmd.inspection.requests import (
    Answer,
    AnyRequest,
    ConvertGgufRequest,
    DatasetRequest,
    ModelRequest,
    TokensRequest,
    aside,
    encode_request,
)

logger = logging.getLogger(__name__)

Facts = TypeVar("Facts", bound=msgspec.Struct)
OnProgress = Callable[[float, str], None]

_ANSWER: Final = msgspec.json.Decoder(Answer)
_ROOT: Final = str(Path(__file__).resolve().parents[1])
_LONGEST_LINE_BYTES: Final = 16 * 1024 * 1024
_KEPT_STDERR_BYTES: Final = 8192


def _ignore(_share: float, _text: str) -> None:
    return


class Inspector:
    """Runs inspections, at most ``at_once`` children at a time; each is killed ``deadline_s`` after its start.

    A request that is refused, cancelled or past its deadline leaves none of its outputs behind.
    """

    def __init__(self, *, at_once: int = 2, deadline_s: float = 3600.0) -> None:
        self._limiter = anyio.CapacityLimiter(at_once)
        self._deadline_s = deadline_s

    async def dataset(self, request: DatasetRequest, on_progress: OnProgress = _ignore) -> DatasetFacts:
        """Read a dataset into normalised rows. Raises DatasetRefused, FileMissing, InvalidValue or ChildFailed."""
        return await self._run(request, DatasetFacts, on_progress)

    async def tokens(self, request: TokensRequest, on_progress: OnProgress = _ignore) -> TokenFacts:
        """Measure rows with a tokenizer. Raises NothingToLearn, ModelRefused or ChildFailed."""
        return await self._run(request, TokenFacts, on_progress)

    async def model(self, request: ModelRequest, on_progress: OnProgress = _ignore) -> ModelFacts:
        """Read a model folder's facts. Raises ModelRefused, FileMissing or ChildFailed."""
        return await self._run(request, ModelFacts, on_progress)

    async def convert_gguf(self, request: ConvertGgufRequest, on_progress: OnProgress = _ignore) -> ConversionFacts:
        """Convert a GGUF file into a folder. Raises ModelRefused, NotEnoughDisk, FileMissing or ChildFailed."""
        return await self._run(request, ConversionFacts, on_progress)

    async def _run(self, request: AnyRequest, kind: type[Facts], on_progress: OnProgress) -> Facts:
        async with self._limiter:
            succeeded = False
            process = await _start()
            try:
                with anyio.fail_after(self._deadline_s):
                    result = await _Conversation(process, on_progress).hold(request)
                facts = msgspec.json.decode(result, type=kind)
                succeeded = True
                return facts
            except TimeoutError as error:
                raise ChildFailed(
                    f"Reading took longer than {self._deadline_s:.0f} seconds and was given up.",
                    hint="Try a smaller file, or again when the machine is less busy.",
                ) from error
            except msgspec.DecodeError as error:
                raise ChildFailed("The reading process gave no usable answer.", hint="Please report it.") from error
            finally:
                with anyio.CancelScope(shield=True):
                    await _end(process)
                    if not succeeded:
                        await anyio.to_thread.run_sync(_clear, request)


async def _start() -> Process:
    path = os.pathsep.join(part for part in (_ROOT, os.environ.get("PYTHONPATH", "")) if part)
    # -P: a file called torch.py where the daemon happens to stand must not be imported.
    return await anyio.open_process(
        [sys.executable, "-P", "-m", "btmd.inspection"],
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    )


async def _end(process: Process) -> None:
    if process.returncode is None:
        # Not process.kill(): that reaps a child that has just ended, and asyncio then warns of an unknown one.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    await process.aclose()


def _clear(request: AnyRequest) -> None:
    for output in request.outputs():
        left_over = Path(aside(output))
        if left_over.is_dir():
            shutil.rmtree(left_over, ignore_errors=True)
        else:
            left_over.unlink(missing_ok=True)


class _Conversation:
    """Sends one request and reads lines until the answer; drains standard error, or a chatty child would block."""

    def __init__(self, process: Process, on_progress: OnProgress) -> None:
        self._process = process
        self._on_progress = on_progress
        self._stderr = b""
        self._last: Answer | None = None

    async def hold(self, request: AnyRequest) -> msgspec.Raw:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        try:
            # Standard input stays open: its end tells the child that the daemon is gone.
            await self._process.stdin.send(encode_request(request))
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
                logger.debug("inspection failed: %s", self._stderr.decode(errors="replace"))
            raise kind(self._last.error.detail, hint=self._last.error.hint)
        return self._last.result

    async def _listen(self, stdout: ByteReceiveStream) -> ChildFailed | None:
        """Read to the end; returns what is wrong instead of raising, or the task group would wrap it."""
        pending = b""
        async for chunk in stdout:
            *lines, pending = (pending + chunk).split(b"\n")
            if len(pending) > _LONGEST_LINE_BYTES:
                return ChildFailed("The reading process answered without end.", hint="Please report it.")
            for line in lines:
                try:
                    self._last = _ANSWER.decode(line)
                except msgspec.DecodeError:
                    return ChildFailed("The reading process gave no usable answer.", hint="Please report it.")
                if self._last.progress is not None:
                    self._on_progress(self._last.progress, self._last.text)
        return None

    async def _drain(self, stderr: ByteReceiveStream) -> None:
        async for chunk in stderr:
            self._stderr = (self._stderr + chunk)[-_KEPT_STDERR_BYTES:]

    async def _died(self) -> BtmdError:
        code = await self._process.wait()
        logger.debug("inspection died (%s): %s", code, self._stderr.decode(errors="replace"))
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        return ChildFailed(
            f"The process that reads the file {how} before it had an answer.",
            hint="If memory is short, close other programs and try again.",
        )
