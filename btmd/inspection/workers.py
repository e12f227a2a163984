"""One piece of work on all processors: processes that each take every so many portions of the rows."""

import ctypes
import fcntl
import gc
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from btmd.data.row_chunks import RowsFile
from btmd.data.rows import Row, decode_row
from btmd.errors import BtmdError, ChildFailed, all_errors

PORTION_ROWS: Final = 1000
PORTION_BYTES: Final = 1 << 20
_WORTH_A_PROCESS_BYTES: Final = 4 << 20
_MOST_WORKERS: Final = 4
_PIPE_BYTES: Final = 1 << 20
"""What a worker may be ahead of the one that collects."""
_SET_PARENT_DEATH_SIGNAL: Final = 1
"""PR_SET_PDEATHSIG of prctl(2)."""

_OBJECTS_BEFORE_A_SEARCH: Final = 50_000
"""For circles of garbage: rows come and go by the thousand and have none."""

Result = TypeVar("Result")
Done = Callable[[int], None]
"""Told how many rows were worked off since it was last called."""


def workers_for(rows_path: Path) -> int:
    """How many processes are worth their start for this dataset."""
    of_size = max(1, RowsFile(rows_path).size_bytes // _WORTH_A_PROCESS_BYTES)
    return int(min(of_size, len(os.sched_getaffinity(0)), _MOST_WORKERS))


def portions(rows_path: Path, worker: int, workers: int) -> Iterator[tuple[int, list[Row]]]:
    """Every so many rows with the number of the first, counted from 0; together the workers get each row once."""
    first, turn, size = 0, 0, 0
    some: list[tuple[bytes, int]] = []
    for number, line in enumerate(RowsFile(rows_path).lines(), 1):
        some.append(line)
        size += len(line[0])
        if len(some) >= PORTION_ROWS or size >= PORTION_BYTES:
            if turn % workers == worker:
                yield first, [decode_row(*one) for one in some]
            some, size, first, turn = [], 0, number, turn + 1
    if some and turn % workers == worker:
        yield first, [decode_row(*one) for one in some]


def in_workers(work: Callable[[int, Done], Result], workers: int, on_done: Done) -> list[Result]:
    """Call ``work`` with each number below ``workers``, each in a process; one alone is done here.

    A worker dies with this process. Raises what a worker raises, and ChildFailed for one that dies.
    """
    if workers == 1:
        return [work(0, on_done)]
    with _started(work, workers) as connections:
        return _collect(connections, on_done)


def in_turn(produce: Callable[[int], Iterator[Result]], workers: int) -> Generator[Result, None, None]:
    """What ``produce`` yields for each number below ``workers``, each in a process: the first of each, the second, ...

    Ends where a process has no more, whose turn it is. None goes further than what its pipe holds. To be closed, which
    ends the processes; they die with this one. Raises as `in_workers`.
    """

    def send_all(number: int, send: Callable[[Result], None]) -> None:
        for one in produce(number):
            send(one)

    with _started(send_all, workers) as connections:
        for connection in cycle(connections):
            what, value = _receive(connection)
            if what == "result":
                return
            if what != "done":
                raise _error(what, value)
            yield value


@contextmanager
def _started(work: Callable[[int, Callable[[Any], None]], Any], workers: int) -> Iterator[list[Connection]]:
    started = [_start(work, number) for number in range(workers)]
    try:
        yield [connection for _, connection in started]
    finally:
        for process, connection in started:
            process.kill()
            process.join()
            connection.close()


def _start(work: Callable[[int, Done], Any], number: int) -> "tuple[multiprocessing.process.BaseProcess, Connection]":
    # Forked: it begins at once, with what was loaded here, and with the files that are open here.
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    with suppress(OSError):
        # Where an account may have no more, it works with what there is.
        fcntl.fcntl(there.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    process = context.Process(target=_work, args=(work, number, there, os.getpid()), daemon=True)
    process.start()
    there.close()
    return process, here


def _work(work: Callable[[int, Done], Any], number: int, connection: Connection, parent: int) -> NoReturn:
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    gc.freeze()
    gc.set_threshold(_OBJECTS_BEFORE_A_SEARCH)
    try:
        connection.send(("result", work(number, lambda count: connection.send(("done", count)))))
    except BtmdError as error:
        connection.send(("refused", (error.code, error.detail, error.hint)))
    except (OSError, MemoryError) as error:
        connection.send(("failed", error))
    # The parent waits for an answer, whatever happened; the text of a row may stand in the error and is not passed on.
    except Exception as error:  # noqa: BLE001
        traceback.print_tb(error.__traceback__)
        connection.send(("died", type(error).__name__))
    sys.stderr.flush()
    os._exit(0)


def _collect(connections: list[Connection], on_done: Done) -> list[Any]:
    results: dict[int, Any] = {}
    waiting = {id(connection): number for number, connection in enumerate(connections)}
    while waiting:
        for ready in wait([one for one in connections if id(one) in waiting]):
            assert isinstance(ready, Connection)
            what, value = _receive(ready)
            if what == "done":
                on_done(value)
            elif what == "result":
                results[waiting.pop(id(ready))] = value
            else:
                raise _error(what, value)
    return [results[number] for number in range(len(connections))]


def _receive(connection: Connection) -> tuple[str, Any]:
    try:
        what, value = connection.recv()
    except EOFError:
        raise ChildFailed(
            "A worker process ended before it had an answer.",
            hint="If memory is short, close other programs and try again.",
        ) from None
    return what, value


def _error(what: str, value: Any) -> Exception:
    if what == "refused":
        code, detail, hint = value
        return all_errors().get(code, ChildFailed)(detail, hint=hint)
    if what == "failed":
        assert isinstance(value, Exception)
        return value
    return ChildFailed(f"A worker process failed in a way nobody thought of ({value}).", hint="Please report it.")
