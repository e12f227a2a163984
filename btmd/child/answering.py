"""The child's side: one JSON request on standard input, JSON lines on standard output, exit code 0 or 1.

It ends when its parent closes standard input.
"""

import errno
import os
import re
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Final

import msgspec

from btmd.child.protocol import Answer, ErrorAnswer
from btmd.errors import BtmdError, ChildFailed, DatasetRefused, NotEnoughDisk, NotEnoughMemory

Progress = Callable[[float, str], None]
Perform = Callable[[bytes, Progress], msgspec.Struct]

_PROGRESS_EVERY_S: Final = 0.2
_FIGURES: Final = re.compile(r"[\d,]+")
_NICENESS: Final = 5


class _Out:
    """The real standard output, out of reach of libraries that print."""

    def __init__(self) -> None:
        self._file = os.dup(1)
        os.dup2(2, 1)
        self._lock = threading.Lock()
        self._told_at, self._stage = 0.0, ""

    def say(self, answer: Answer) -> None:
        line = msgspec.json.encode(answer) + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._file, line) :]

    def progress(self, share: float, text: str) -> None:
        now, stage = time.monotonic(), _FIGURES.sub("", text)
        # What is begun is told at once: while it lasts nothing may be said that would show it.
        if stage != self._stage or now - self._told_at >= _PROGRESS_EVERY_S:
            self._told_at, self._stage = now, stage
            self.say(Answer(progress=round(min(1.0, max(0.0, share)), 4), text=text))


def answer_one(perform: Perform) -> int:
    """Read one request, let ``perform`` carry it out, write what became of it; returns the exit code."""
    os.umask(0o077)
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = _Out()
    line = sys.stdin.buffer.readline()
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        result = perform(line, out.progress)
    # Nobody else will hear of it: whatever it was becomes the one answer the caller waits for.
    except Exception as error:  # noqa: BLE001
        if not isinstance(error, BtmdError):
            traceback.print_exc()
        refusal = _as_refusal(error)
        suggestions = refusal.suggestions if isinstance(refusal, DatasetRefused) else ()
        out.say(Answer(error=ErrorAnswer(refusal.code, refusal.detail, refusal.hint, suggestions)))
        return 1
    out.say(Answer(result=msgspec.Raw(msgspec.json.encode(result))))
    return 0


def _die_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def _as_refusal(error: Exception) -> BtmdError:
    if isinstance(error, BtmdError):
        return error
    if isinstance(error, MemoryError):
        return NotEnoughMemory("There is not enough memory for this.", hint="Close other programs, try again.")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NotEnoughDisk("The disk is full.", hint="Free some room and try again; nothing was left behind.")
    if isinstance(error, PermissionError):
        return ChildFailed("A file may not be read or written.", hint="Check who owns the file and the state folder.")
    return ChildFailed(
        f"It failed in a way nobody thought of ({type(error).__name__}).",
        hint="The daemon's log at level debug says where; please report it.",
    )
