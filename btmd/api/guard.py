"""What surrounds every request: counted, bounded, and never answered with a traceback."""

import logging
from contextlib import suppress

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from btmd.api.parts import Parts
from btmd.api.problems import UNEXPECTED, problem, problem_response
from btmd.errors import TooLarge

log = logging.getLogger("btmd.api")

LARGEST_BODY_BYTES = 4 * 1024 * 1024


class Guard:
    """ASGI middleware. Bodies other than contents (PUT) are refused beyond LARGEST_BODY_BYTES."""

    def __init__(self, app: ASGIApp, parts: Parts) -> None:
        self._app = app
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        activity = self._parts.activity
        activity.under_way += 1
        activity.last_us = self._parts.clock()
        try:
            await self._answer(scope, receive, send)
        finally:
            activity.under_way -= 1
            activity.last_us = self._parts.clock()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        received = 0
        refusal: TooLarge | None = None

        async def watched_send(message: Message) -> None:
            nonlocal started
            if refusal is not None:
                # What reads the body turns our refusal into an answer of its own, which would hide the reason.
                return
            started = started or message["type"] == "http.response.start"
            await send(message)

        async def bounded_receive() -> Message:
            nonlocal received, refusal
            message = await receive()
            received += len(message.get("body", b""))
            if received > LARGEST_BODY_BYTES and scope["method"] != "PUT":
                refusal = TooLarge(f"The request's body is larger than {LARGEST_BODY_BYTES // 1024**2} MB.")
                raise refusal
            return message

        try:
            await self._app(scope, bounded_receive, watched_send)
        except ClientDisconnect:
            return
        except TooLarge:
            log.info("%s %s: the body is too large", scope["method"], scope["path"])
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if started:
                raise
            with suppress(OSError):
                await problem_response(UNEXPECTED)(scope, receive, send)
            return
        if refusal is not None:
            await problem_response(problem(refusal))(scope, receive, send)
