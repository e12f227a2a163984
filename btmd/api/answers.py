"""Answers: JSON documents, JSON lines while work goes on, and what the OpenAPI document says of them."""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from btmd.api import problems
from btmd.api.refusals import record_refusal
from btmd.api.shapes import example_of, schema_of
from btmd.errors import BtmdError, Stopping

log = logging.getLogger("btmd.api")

NDJSON = "application/x-ndjson"
PIECE_BYTES = 1024 * 1024
"""Of a file, read and sent at once."""
Progress = Callable[[float | None, str], Awaitable[None]]
Write = Callable[[bytes], Awaitable[None]]
Work = Callable[[Progress], Awaitable[dict[str, Any]]]


def json_answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Any of our values as JSON."""
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")


def described(
    example: Any = None,
    *,
    text: str = "done",
    status: int = 200,
    errors: tuple[int, ...] = (),
    progress: bool = False,
    media_type: str = "",
) -> dict[str, Any]:
    """Keywords for an operation whose answer is a JSON value like ``example`` (see shapes), and the problems to expect.

    ``progress``: it tells how far it is where JSON lines are accepted. ``media_type``: its answer is a text of another
    type. With neither an example nor a type it has headers alone.
    """
    answer: dict[str, Any] = {"description": text}
    if example is not None:
        answer["content"] = {"application/json": {"schema": schema_of(example), "example": example_of(example)}}
    elif media_type:
        answer["content"] = {media_type: {"schema": {"type": "string"}}}
    if progress:
        said = "`progress` and `text` on each line, and `result` (as in JSON) or `error` on the last"
        answer["content"][NDJSON] = {"schema": {"type": "string", "description": said}}
    responses: dict[int | str, dict[str, Any]] = {status: answer}
    for code in (*errors, 403, 422, 503):
        responses[code] = {"description": "refused", "content": problems.CONTENT}
    return {"responses": responses}


def wants(request: Request, media_type: str) -> bool:
    return media_type in request.headers.get("accept", "")


class StreamAnswer(Response):
    """An answer that is produced piece by piece; it ends early when the client goes or ``stopping`` is set.

    One whose ``size_bytes`` was said at its beginning is broken off then: it cannot be taken for the whole.
    """

    def __init__(
        self,
        produce: Callable[[Write], Awaitable[None]],
        media_type: str,
        stopping: anyio.Event,
        *,
        size_bytes: int | None = None,
    ) -> None:
        super().__init__(b"", media_type=media_type, headers={"Cache-Control": "no-store"})
        if size_bytes is None:
            del self.headers["content-length"]
        else:
            self.headers["content-length"] = str(size_bytes)
        self._produce = produce
        self._left_bytes = size_bytes
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        turn = anyio.Lock()
        gone = False

        async def write(piece: bytes) -> None:
            # Several tasks may write: a piece is never torn by another one.
            async with turn:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                if self._left_bytes is not None:
                    self._left_bytes -= len(piece)

        async def disconnected() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        async def until_gone() -> None:
            nonlocal gone
            await disconnected()
            gone = True
            tasks.cancel_scope.cancel()

        async def until_stopping() -> None:
            await self._stopping.wait()
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(until_gone)
            tasks.start_soon(until_stopping)
            await self._produce(write)
            tasks.cancel_scope.cancel()
        if not gone and self._left_bytes:
            scope["state"]["break_off"]()
            await disconnected()
        elif not gone:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def file_answer(path: Path, offset: int, stopping: anyio.Event) -> Response:
    """The bytes of a file from ``offset`` to its end. Raises OSError."""
    size_bytes = max(0, (await anyio.Path(path).stat()).st_size - offset)

    async def produce(write: Write) -> None:
        left = size_bytes
        async with await anyio.open_file(path, "rb") as file:
            await file.seek(offset)
            while left and (piece := await file.read(min(left, PIECE_BYTES))):
                await write(piece)
                left -= len(piece)

    return StreamAnswer(produce, "application/octet-stream", stopping, size_bytes=size_bytes)


async def working_answer(request: Request, work: Work, stopping: anyio.Event, *, status: int = 200) -> Response:
    """Do ``work`` and answer its value; a client that accepts JSON lines is told how far it is meanwhile.

    A client that goes away stops the work.
    """
    if wants(request, NDJSON):
        return StreamAnswer(lambda write: _lines(request, work, write), NDJSON, stopping)
    result: dict[str, Any] = {}
    failure: list[BtmdError] = []

    async def unheard(progress: float | None, text: str) -> None:
        return

    async def run() -> None:
        try:
            result.update(await work(unheard))
        except BtmdError as error:
            failure.append(error)
        tasks.cancel_scope.cancel()

    async def cancelled_when(event: Callable[[], Awaitable[None]]) -> None:
        await event()
        failure.append(Stopping("The work was given up."))
        tasks.cancel_scope.cancel()

    async def client_gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        tasks.start_soon(cancelled_when, client_gone)
        tasks.start_soon(cancelled_when, stopping.wait)
    if failure:
        raise failure[0]
    return json_answer(result, status)


async def _lines(request: Request, work: Work, write: Write) -> None:
    async def progress(share: float | None, text: str) -> None:
        await write(line({"progress": share, "text": text}))

    try:
        last = {"result": await work(progress)}
    except BtmdError as error:
        await record_refusal(request, error)
        last = {"error": problems.problem(error)}
    except Exception:
        # The status line is out: an error can only be told in the stream itself.
        log.exception("a piece of work failed")
        last = {"error": problems.UNEXPECTED}
    await write(line(last))


def line(value: dict[str, Any]) -> bytes:
    """One JSON document on a line of its own."""
    return msgspec.json.encode(value) + b"\n"
