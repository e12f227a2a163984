"""The inspection child: one JSON request on standard input, JSON lines on standard output, exit code 0 or 1.

Files of unknown origin are opened here, so that what goes wrong with them - memory, a crash in a library, time -
goes wrong in a process that is thrown away. It ends when its parent closes standard input.
"""

import errno
import os
import resource
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Final

import msgspec

from btmd.errors import BtmdError, ChildFailed, NotEnoughDisk, NotEnoughMemory
from btmd.inspection.requests import (
    Answer,
    AnyRequest,
    ConvertGgufRequest,
    DatasetRequest,
    ErrorAnswer,
    ModelRequest,
    TokensRequest,
    decode_request,
)

_PROGRESS_EVERY_S: Final = 0.2
_NICENESS: Final = 5


class _Out:
    """The real standard output, out of reach of libraries that print."""

    def __init__(self) -> None:
        self._file = os.dup(1)
        os.dup2(2, 1)
        self._lock = threading.Lock()
        self._told_at = 0.0

    def say(self, answer: Answer) -> None:
        line = msgspec.json.encode(answer) + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._file, line) :]

    def progress(self, share: float, text: str) -> None:
        now = time.monotonic()
        if now - self._told_at >= _PROGRESS_EVERY_S:
            self._told_at = now
            self.say(Answer(progress=round(min(1.0, max(0.0, share)), 4), text=text))


def main() -> int:
    os.umask(0o077)
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
    out = _Out()
    line = sys.stdin.buffer.readline()
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        result = _perform(decode_request(line), out)
    # Nobody else will hear of it: whatever it was becomes the one answer the daemon waits for.
    except Exception as error:  # noqa: BLE001
        if not isinstance(error, BtmdError):
            traceback.print_exc()
        refusal = _as_refusal(error)
        out.say(Answer(error=ErrorAnswer(refusal.code, refusal.detail, refusal.hint)))
        return 1
    out.say(Answer(result=msgspec.Raw(msgspec.json.encode(result))))
    return 0


def _die_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def _perform(request: AnyRequest, out: _Out) -> msgspec.Struct:
    # Each kind imports what it needs and no more: numpy, transformers and the like cost seconds.
    match request:
        case DatasetRequest():
            from btmd.inspection.dataset import inspect_dataset

            return inspect_dataset(
                Path(request.source), request.name, Path(request.rows), mapping=request.mapping, progress=out.progress
            )
        case TokensRequest():
            from btmd.inspection.tokens import measure

            return measure(
                Path(request.rows), Path(request.model), max_length=request.max_length, progress=out.progress
            )
        case ModelRequest():
            from btmd.inspection.model import inspect_model

            tokenizer_folder = Path(request.tokenizer_folder) if request.tokenizer_folder is not None else None
            return inspect_model(Path(request.folder), tokenizer_folder=tokenizer_folder, progress=out.progress)
        case ConvertGgufRequest():
            from btmd.inspection.gguf import convert_gguf

            return convert_gguf(Path(request.source), Path(request.folder), progress=out.progress)


def _as_refusal(error: Exception) -> BtmdError:
    if isinstance(error, BtmdError):
        return error
    if isinstance(error, MemoryError):
        return NotEnoughMemory("There is not enough memory to read this file.", hint="Close other programs, try again.")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NotEnoughDisk("The disk is full.", hint="Free some room and try again; nothing was left behind.")
    if isinstance(error, PermissionError):
        return ChildFailed("A file may not be read or written.", hint="Check who owns the file and the state folder.")
    return ChildFailed(
        f"Reading the file failed in a way nobody thought of ({type(error).__name__}).",
        hint="The daemon's log at level debug says where; please report it.",
    )


if __name__ == "__main__":
    sys.exit(main())
