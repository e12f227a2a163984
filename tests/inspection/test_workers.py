"""Work on all processors ends with whoever asked for it, and tells what went wrong."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from btmd.data.row_chunks import RowsWriter
from btmd.errors import ChildFailed, NothingToLearn
from btmd.inspection.workers import Done, in_turn, in_workers, portions

MIB = 1 << 20
ENDLESS = """
import os, sys, time
from btmd.inspection.workers import in_turn, in_workers
def work(number, on_done):
    # One write: two workers that print share the pipe, and print writes the line and its end apart.
    os.write(1, b"%d\\n" % os.getpid())
    time.sleep(600)
def produce(number):
    work(number, None)
    yield number
if sys.argv[1] == "in_turn":
    list(in_turn(produce, 2))
in_workers(work, 2, lambda rows: None)
"""


def test_every_row_is_in_one_portion_of_one_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("btmd.inspection.workers.PORTION_ROWS", 7)
    with RowsWriter(tmp_path / "rows") as out:
        for line in range(1, 101):
            out.write({"line": line, "text": "word " * line})
        out.finish()
    seen = [
        (first + index + 1, row["line"])
        for worker in range(3)
        for first, rows in portions(tmp_path / "rows", worker, 3)
        for index, row in enumerate(rows)
    ]
    assert sorted(seen) == [(line, line) for line in range(1, 101)]


def test_results_come_in_the_order_of_workers_and_progress_adds_up() -> None:
    told: list[int] = []

    def work(number: int, on_done: Done) -> int:
        on_done(10 * (number + 1))
        return number

    assert in_workers(work, 3, told.append) == [0, 1, 2]
    assert sum(told) == 60


def test_what_a_worker_raises_is_raised_here() -> None:
    def refuse(number: int, on_done: Done) -> int:
        raise NothingToLearn("No row.", hint="Add some.")

    with pytest.raises(NothingToLearn) as refused:
        in_workers(refuse, 2, lambda rows: None)
    assert refused.value.hint == "Add some."

    def die(number: int, on_done: Done) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return number

    with pytest.raises(ChildFailed):
        in_workers(die, 2, lambda rows: None)


def test_of_what_went_wrong_in_a_worker_no_text_of_a_row_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    row = "what a customer wrote"

    def stumble(number: int, on_done: Done) -> int:
        raise KeyError(row)

    with pytest.raises(ChildFailed, match="KeyError") as failed:
        in_workers(stumble, 2, lambda rows: None)
    said = capfd.readouterr().err + str(failed.value)
    assert "in stumble" in said, "where it happened is told"
    assert row not in said


def test_what_workers_make_comes_in_turn_and_waits_until_it_is_wanted(tmp_path: Path) -> None:
    def count(number: int) -> Iterator[tuple[int, bytes]]:
        for one in range(number, 9, 3):
            (tmp_path / str(one)).touch()
            yield one, bytes(MIB)

    assert [one for one, _ in in_turn(count, 3)] == list(range(9))

    def endless(number: int) -> Iterator[bytes]:
        for one in itertools.count():
            (tmp_path / f"{number}-{one}").touch()
            yield bytes(MIB)

    with closing(in_turn(endless, 2)) as made:
        assert len(list(itertools.islice(made, 10))) == 10
    ended = sorted(os.listdir(tmp_path))
    # No worker makes much more than was taken, and none works on.
    assert not {"0-7", "1-7"} & set(ended)
    assert sorted(os.listdir(tmp_path)) == ended


def test_what_a_worker_raises_in_its_turn_is_raised_here() -> None:
    def refuse(number: int) -> Iterator[int]:
        yield number
        raise NothingToLearn("No row.", hint="Add some.")

    made = in_turn(refuse, 2)
    assert [next(made), next(made)] == [0, 1]
    with pytest.raises(NothingToLearn):
        next(made)


@pytest.mark.parametrize("way", ["in_turn", "in_workers"])
def test_workers_die_with_the_process_that_started_them(way: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", ENDLESS, way], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until_s = time.monotonic() + 30
    while any(_lives(pid) for pid in workers):
        assert time.monotonic() < until_s, "a worker outlived its parent"
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
