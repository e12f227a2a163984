"""The program that a person wants to be run for each notification: without a shell, for a bounded time."""

import logging
import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress

import anyio
from anyio.abc import ByteReceiveStream, Process

from btmd.domain.command_line import parse_command
from btmd.domain.notification import NotificationMade

log = logging.getLogger("btmd.notifications")

MOST_OUTPUT_BYTES = 4096
LAST_OUTPUT_S = 0.5
"""For what it wrote, once it has ended; something it left running may hold the pipe open."""
_OURS = ("BTMD_", "LISTEN_", "WATCHDOG_", "NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "PYTHONPATH")
"""Of the daemon's environment, what is no business of another program."""


def facts(made: NotificationMade, seq: int) -> dict[str, str]:
    """What the program is told, as environment variables."""
    return {
        "BTMD_SEQ": str(seq),
        "BTMD_EVENT": made.kinds[0] if len(made.kinds) == 1 else "several",
        "BTMD_EVENTS": " ".join(made.kinds),
        "BTMD_COUNT": str(len(made.kinds)),
        "BTMD_JOB_ID": made.job_ids[0] if made.job_ids else "",
        "BTMD_JOB_IDS": " ".join(made.job_ids),
        "BTMD_TITLE": made.title,
        "BTMD_TEXT": made.text,
        "BTMD_URGENT": "1" if made.urgent else "0",
    }


async def run_command(command: str, told: Mapping[str, str], *, shell: bool, limit_s: float) -> str:
    """Run it with ``told`` in its environment, output to the log; returns what went wrong in words, or nothing."""
    words = ["/bin/sh", "-c", command] if shell else parse_command(command)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    try:
        process = await anyio.open_process(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={**environment, **told},
            start_new_session=True,
        )
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else str(problem)
        return f"The program for notifications ({words[0]}) cannot be run: {reason}."
    output = bytearray()
    try:
        with anyio.move_on_after(limit_s) as limit:
            await _end(process, output)
    finally:
        # With all it has started: nothing of it goes on for ever, whether it took too long or the daemon stops.
        with suppress(ProcessLookupError):
            if process.returncode is None or limit.cancelled_caught:
                os.killpg(process.pid, signal.SIGKILL)
        with anyio.CancelScope(shield=True):
            await process.aclose()
    said = output.decode("utf-8", "replace").strip()
    if said:
        log.info("the program for notifications wrote: %s", said)
    if limit.cancelled_caught:
        return f"The program for notifications ({words[0]}) took longer than {limit_s:g} seconds and was ended."
    if process.returncode:
        return f"The program for notifications ({words[0]}) ended with code {process.returncode}."
    return ""


async def _end(process: Process, output: bytearray) -> None:
    assert process.stdout is not None
    read = anyio.Event()

    async def read_all(stream: ByteReceiveStream) -> None:
        """Everything is read, so that the program never waits for a full pipe; the beginning is kept."""
        async for piece in stream:
            output.extend(piece[: MOST_OUTPUT_BYTES - len(output)])
        read.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read_all, process.stdout)
        await process.wait()
        with anyio.move_on_after(LAST_OUTPUT_S):
            await read.wait()
        tasks.cancel_scope.cancel()
