"""What surrounds every request: counted, bounded, and never answered with a traceback."""

import logging
import math
import os
from contextlib import suppress

import anyio
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from btmd import __version__
from btmd.api.budgets import Budgets
from btmd.api.parts import Parts
from btmd.api.problems import UNEXPECTED, problem, problem_response
from btmd.errors import RequestTimeout, TooLarge, TooMany

log = logging.getLogger("btmd.api")

LARGEST_BODY_BYTES = 4 * 1024 * 1024
_VERSION = (b"btmd-version", __version__.encode())
"""Told with every answer, so that a client of another version can say which of the two is to be upgraded."""
BODY_S = 60.0
"""The longest pause within a request's body."""
BURST, PER_S = 200, 50.0
"""Requests of one user at once and a second; the daemon's own and root ask as much as they like."""


class Guard:
    """ASGI middleware. Bodies other than contents (PUT) are refused beyond LARGEST_BODY_BYTES."""

    def __init__(self, app: ASGIApp, parts: Parts) -> None:
        self._app = app
        self._parts = parts
        self._budgets = Budgets(BURST, PER_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        uid = scope["state"]["peer"].uid
        if uid not in (os.getuid(), 0) and self._budgets.take(uid) is None:
            wait_s = math.ceil(self._budgets.wait_s(uid))
            refused = TooMany("You ask more than this daemon answers one user.", hint=f"Wait {wait_s} s.")
            await problem_response(problem(refused), {"Retry-After": str(wait_s)})(scope, receive, send)
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
        started = whole = False
        received = 0
        refusal: TooLarge | RequestTimeout | None = None

        async def watched_send(message: Message) -> None:
            nonlocal started
            if refusal is not None:
                # What reads the body turns our refusal into an answer of its own, which would hide the reason.
                return
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), _VERSION]
                self._parts.activity.answered[message["status"]] += 1
            await send(message)

        async def bounded_receive() -> Message:
            nonlocal received, refusal, whole
            # After the body this waits for the client to hang up, for as long as the answer takes.
            with anyio.move_on_after(None if whole else BODY_S) as pause:
                message = await receive()
            if pause.cancelled_caught:
                refusal = RequestTimeout(f"Nothing more of the request's body came for {BODY_S:g} s.")
                raise refusal
            whole = whole or not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > LARGEST_BODY_BYTES and scope["method"] != "PUT":
                refusal = TooLarge(f"The request's body is larger than {LARGEST_BODY_BYTES // 1024**2} MB.")
                raise refusal
            return message

        try:
            await self._app(scope, bounded_receive, watched_send)
        except ClientDisconnect:
            return
        except (TooLarge, RequestTimeout) as told:
            log.info("%s %s: %s", scope["method"], scope["path"], told.title)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if started:
                raise
            with suppress(OSError):
                await problem_response(UNEXPECTED)(scope, receive, send)
            return
        if refusal is not None:
            await problem_response(problem(refusal))(scope, receive, send)
