"""Feeds each importer files made from its format's grammar and spoiled, and hostile ones: rows or a refusal in words.

Files are read in a process with the limits of an inspection child, which is watched from outside: one that takes too
long, grows or dies is a failure, and its number makes the same file again. What was done is kept in .proof/importers/,
so a run goes on where the last one ended: python -m benchmarks.importers --only CSV --seconds 600
"""

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.importer_files import IMPORTERS, file_of
from benchmarks.importer_hostile import HOSTILE
from benchmarks.results import Figure, Topic, record
from btmd.data.row_chunks import clear_rows
from btmd.data.rows import read_rows
from btmd.errors import BtmdError
from btmd.inspection.dataset import inspect_dataset

KEPT: Final = Path(".proof/importers")
MOST_S: Final = 20.0
"""Of processor time for one file of a few kilobytes."""
MOST_WAIT_S: Final = 120.0
MOST_MEMORY_BYTES: Final = 1 << 30
MOST_GROWTH_BYTES: Final = 48 << 20
_FILES_A_PROCESS: Final = 3000
_WARM_UP: Final = 300
_LIMIT_BYTES: Final = 2 << 30


@dataclass(slots=True)
class Done:
    """What was found out about one importer so far; ``next_seed`` is the number of the next file."""

    next_seed: int = 0
    seconds: float = 0.0
    refused: int = 0
    worst_s: float = 0.0
    worst_seed: int = 0
    worst_memory_bytes: int = 0
    worst_growth_bytes: int = 0

    @classmethod
    def load(cls, path: Path) -> "Done":
        return cls(**json.loads(path.read_text())) if path.exists() else cls()


class Failed(Exception):
    """An importer did what none may; says which file it was."""


def feed_one(name: str, seed: int, folder: Path) -> tuple[bool, float]:
    """Read one file; whether it was refused, and the processor time in seconds. Raises what no importer may raise."""
    importer = IMPORTERS[name]
    source, rows = folder / "source", folder / "rows"
    source.write_bytes(file_of(importer, seed))
    began = time.process_time()
    try:
        facts = inspect_dataset(
            source, importer.name, rows, mapping=importer.mapping, progress=lambda _share, _text: None
        )
    except BtmdError as error:
        if not (error.detail and error.hint and os.listdir(folder) == ["source"]):
            raise Failed(f"refused with too few words or something left: {os.listdir(folder)}") from error
        return True, time.process_time() - began
    if len(list(read_rows(rows))) != facts.rows_kept or not facts.rows_kept:
        raise Failed("rows and counts differ")
    clear_rows(rows)
    return False, time.process_time() - began


def _work(name: str, first: int, there: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (_LIMIT_BYTES, _LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    process, before = psutil.Process(), 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(_FILES_A_PROCESS):
            try:
                refused, taken = feed_one(name, first + number, Path(folder))
            # Whatever it was, its number is what is needed to make it again.
            except Exception as error:  # noqa: BLE001
                there.send(("failed", f"{type(error).__name__}: {error}"))
                return
            memory = process.memory_info().rss
            before = memory if number < _WARM_UP else before
            there.send(("read", (refused, taken, memory, memory - before)))


def feed(name: str, seconds: float, done: Done, *, files: int | None = None) -> Done:
    """Feed an importer for so long, or so many files. Raises Failed with the number of the file."""
    end, last = time.monotonic() + seconds, None if files is None else done.next_seed + files
    while time.monotonic() < end and (last is None or done.next_seed < last):
        began = time.monotonic()
        for refused, taken, memory, growth in _answers(name, done.next_seed):
            if taken > done.worst_s:
                done.worst_s, done.worst_seed = taken, done.next_seed
            done.refused += refused
            done.worst_memory_bytes = max(done.worst_memory_bytes, memory)
            done.worst_growth_bytes = max(done.worst_growth_bytes, growth)
            for what, found, most in (
                ("processor time in s", taken, MOST_S),
                ("memory in bytes", memory, MOST_MEMORY_BYTES),
                ("growth in bytes", growth, MOST_GROWTH_BYTES),
            ):
                if found > most:
                    raise Failed(f"{name}, file {done.next_seed}: {what} {found:,.0f}")
            done.next_seed += 1
            if time.monotonic() >= end or done.next_seed == last:
                break
        done.seconds += time.monotonic() - began
    return done


def _answers(name: str, first: int) -> Iterator[tuple[bool, float, int, int]]:
    here, there = multiprocessing.get_context("fork").Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_work, args=(name, first, there), daemon=False)
    process.start()
    there.close()
    try:
        for number in range(_FILES_A_PROCESS):
            if not here.poll(MOST_WAIT_S):
                raise Failed(f"{name}, file {first + number}: no answer for {MOST_WAIT_S:.0f} s")
            try:
                what, value = here.recv()
            except EOFError:
                process.join()
                raise Failed(f"{name}, file {first + number}: the process died ({process.exitcode})") from None
            if what == "failed":
                raise Failed(f"{name}, file {first + number}: {value}")
            yield value
    finally:
        process.kill()
        process.join()
        here.close()


@dataclass(frozen=True, slots=True)
class Answer:
    """What an inspection child made of a file: a refusal's code or empty for rows, its time and most memory."""

    code: str
    taken_s: float
    memory_bytes: int


def ask_child(source: Path, name: str, rows: Path) -> Answer:
    """Let a real inspection child read a file; for those that are built to do harm. Raises Failed for no answer."""
    request = {"what": "dataset", "source": str(source), "name": name, "rows": str(rows)}
    began = time.monotonic()
    # Standard input stays open, as the daemon keeps it: its end would end the child.
    child = subprocess.Popen(
        [sys.executable, "-m", "btmd.inspection"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child.stdout, child.stdin:
        child.stdin.write(json.dumps(request).encode() + b"\n")
        child.stdin.flush()
        last = child.stdout.read().splitlines()[-1:]
        child.stdin.close()
        _, _, used = os.wait4(child.pid, 0)
        child.returncode = 0
    if not last:
        raise Failed(f"{name}: no answer")
    answer: dict[str, Any] = json.loads(last[0])
    code = answer["error"]["code"] if "error" in answer else ""
    return Answer(code, time.monotonic() - began, used.ru_maxrss * 1024)


def measure_hostile() -> None:
    """Every hostile file through a real child, and its figures recorded."""
    answers = {}
    for what, hostile in HOSTILE.items():
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "source")
            hostile.make(source)
            answers[what] = ask_child(source, hostile.name, Path(folder, "rows"))
        print(what, answers[what], flush=True)
        if answers[what].code not in hostile.codes:
            raise Failed(f"{what}: answered {answers[what].code or 'with rows'}")
    record(
        Topic(
            "Importers: files built to do harm",
            "make proof-importers",
            [
                Figure("files", [len(answers)], digits=0),
                Figure("not refused as they should be", [0], "", "<= 0", 0),
                Figure("longest time for one", [max(one.taken_s for one in answers.values())], "s", "< 120"),
                Figure(
                    "most memory of a child", [max(one.memory_bytes for one in answers.values()) / 1e6], "MB", "< 1100"
                ),
            ],
            notes=["Each in an inspection child: " + ", ".join(HOSTILE) + "."],
        )
    )


def measure(name: str, seconds: float) -> None:
    """Feed one importer until it was fed for so long in all, keep that, and record its figures."""
    KEPT.mkdir(parents=True, exist_ok=True)
    kept = KEPT / f"{name.replace(' ', '-')}.json"
    done = Done.load(kept)
    while done.seconds < seconds:
        feed(name, min(15.0, seconds - done.seconds), done)
        kept.write_text(json.dumps(asdict(done)))
        print(f"{name}: {done.next_seed:,} files in {done.seconds:.0f} s, {done.refused:,} refused", flush=True)
    record(
        Topic(
            f"Importers: spoiled files, {name}",
            f"python -m benchmarks.importers --only '{name}' --seconds {seconds:.0f}",
            [
                Figure(f"files read within {done.seconds:.0f} s", [done.next_seed], digits=0),
                Figure("refused in words", [done.refused], digits=0),
                Figure("unhandled exceptions, hangs and deaths", [0], "", "<= 0", 0),
                Figure("longest time for one file", [done.worst_s], "s", f"< {MOST_S:.0f}"),
                Figure("most memory", [done.worst_memory_bytes / 1e6], "MB", f"< {MOST_MEMORY_BYTES / 1e6:.0f}"),
                Figure("most growth in 3,000 files", [done.worst_growth_bytes / 1e6], "MB", "< 51"),
            ],
            notes=["Files made from the format's grammar and spoiled; a number makes the same file again."],
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=(*IMPORTERS, "hostile"), help="one importer, or the files built to do harm")
    parser.add_argument("--seconds", type=float, default=600.0, help="for each importer, in all runs together")
    parser.add_argument("--again", action="store_true", help="begin anew instead of going on")
    parser.add_argument("--file", type=int, help="read the file with this number alone, here; with --only")
    arguments = parser.parse_args()
    if arguments.file is not None:
        with tempfile.TemporaryDirectory() as folder:
            print(feed_one(arguments.only, arguments.file, Path(folder)))
        return
    for name in [arguments.only] if arguments.only else [*IMPORTERS, "hostile"]:
        if name == "hostile":
            measure_hostile()
            continue
        if arguments.again:
            (KEPT / f"{name.replace(' ', '-')}.json").unlink(missing_ok=True)
        measure(name, arguments.seconds)


if __name__ == "__main__":
    main()
