"""Reads a document in a process of its own, so that a reader that crashes takes nothing else with it."""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Final, NoReturn, TypeVar

from btmd.errors import BtmdError, ChildFailed, DatasetDamaged, all_errors

_SET_PARENT_DEATH_SIGNAL: Final = 1
"""PR_SET_PDEATHSIG of prctl(2)."""

Result = TypeVar("Result")


def read_apart(read: Callable[[], Result], what: str) -> Result:
    """What ``read`` returns. Raises the refusal that it raises, OSError, MemoryError, and DatasetDamaged if it crashes.

    ``what`` is read, for the sentence: ``PDF``.
    """
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_read, args=(read, there, os.getpid()), daemon=True)
    process.start()
    there.close()
    try:
        said, value = here.recv()
    except EOFError:
        process.join()
        raise DatasetDamaged(
            f"The {what} makes the program that reads it crash (signal {-(process.exitcode or 0)}): it is damaged, or "
            "built to do so.",
            hint=f"Open it in a viewer and print it to a new {what}, or leave it out.",
        ) from None
    finally:
        process.kill()
        process.join()
        here.close()
    if said == "refused":
        code, detail, hint = value
        raise all_errors().get(code, ChildFailed)(detail, hint=hint)
    if said == "failed":
        raise value
    result: Result = value
    return result


def _read(read: Callable[[], Any], connection: Connection, parent: int) -> NoReturn:
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    try:
        connection.send(("read", read()))
    except BtmdError as error:
        connection.send(("refused", (error.code, error.detail, error.hint)))
    # Whatever it was, who waits is told.
    except Exception as error:  # noqa: BLE001
        connection.send(("failed", error))
    sys.stderr.flush()
    os._exit(0)
