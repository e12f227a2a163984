"""Large datasets: how fast they are read, counted in tokens and compared, and in how much memory.

Makes a file of conversations in .proof/data and looks at it in processes of their own, one after the other, round
after round: ``datasets.load_dataset`` (from PyPI, in an environment of its own, offline), the reading of the product,
the bare tokenizer on the very texts that a training would see, and the product's counting of tokens with its search for
near-duplicates. In a first round each process's memory, that of its workers included, is looked at ten times a second;
the rounds that are timed are not looked at. What is done is kept in .proof/data: interrupted, the program goes on where
it was.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.results import Figure, Topic, commit, record
from benchmarks.training_speed import demo_model

ROOT = Path(__file__).resolve().parents[1]
PROOF = ROOT / ".proof" / "data"
VENV = PROOF / "datasets-venv"
DATASETS = "datasets==5.2.0"
LOOK_EVERY_S = 0.1
PARTS = ("load_dataset", "read", "bare", "tokens", "near")
_LOAD = """
import json, os, resource, sys, time
os.environ.update(HF_DATASETS_OFFLINE="1", HF_HUB_OFFLINE="1")
from datasets import load_dataset
began = time.perf_counter()
found = load_dataset("json", data_files=sys.argv[1], cache_dir=sys.argv[2], split="train")
print(json.dumps({"s": time.perf_counter() - began, "rows": len(found)}))
"""


def main() -> None:
    options = _options()
    if options.part:
        print(json.dumps(_work(options.part, options.file, options.folder, options.model)))
        return
    PROOF.mkdir(parents=True, exist_ok=True)
    model = options.model or demo_model()
    large, small = _file(options.size_mb), _file(options.tokens_mb)
    runs = _rounds(large, small, model, options)
    planted = _planted(options.planted_rounds, options.planted)
    _report(runs, planted, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size-mb", type=int, default=1000, help="of the file that is read")
    parser.add_argument("--tokens-mb", type=int, default=100, help="of the file whose tokens are counted every round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--planted", type=int, default=3000, help="originals among which near-duplicates are planted")
    parser.add_argument("--planted-rounds", type=int, default=5)
    parser.add_argument("--model", type=Path, help="a Hugging Face folder; default: the demo model")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _file(size_mb: int) -> Path:
    """Conversations of one to six exchanges in real English; one in twenty repeats an earlier one, or nearly so."""
    path = PROOF / f"{size_mb}.jsonl"
    if path.is_file():
        return path
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        size = 0
        for line in _conversations():
            size += file.write(line)
            if size >= size_mb * 1_000_000:
                break
    part.replace(path)
    return path


def _conversations() -> Iterator[bytes]:
    draw = random.Random(0)
    prose = _prose()
    kept: list[list[dict[str, str]]] = []
    while True:
        turns = [
            {"role": role, "content": draw.choice(prose)}
            for _ in range(draw.randint(1, 6))
            for role in ("user", "assistant")
        ]
        chance = draw.random()
        if chance < 0.05 and kept:
            turns = draw.choice(kept)
            if chance < 0.02:
                turns = [turn | {"content": turn["content"].replace(".", "!")} for turn in turns]
        elif len(kept) < 10_000:
            kept.append(turns)
        yield json.dumps({"messages": turns}).encode() + b"\n"


def _prose() -> list[str]:
    """Paragraphs of Python's own documentation, which every installation has: no made-up word among them."""
    from pydoc_data.topics import topics

    paragraphs = {" ".join(one.split()) for text in topics.values() for one in text.split("\n\n")}
    return sorted(one for one in paragraphs if 80 <= len(one) <= 1500)


def _rounds(large: Path, small: Path, model: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    kept = PROOF / f"rounds-{options.size_mb}-{options.tokens_mb}-{commit()}.jsonl"
    runs = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    python = _datasets_python()
    # For memory. The large file is counted and compared this once: it takes long.
    plan = [(part, large, 0) for part in ("load_dataset", "read", "tokens", "near")]
    plan += [(part, small, 0) for part in ("tokens", "near")]
    for number in range(1, options.rounds + 1):
        plan += [("load_dataset", large, number), ("read", large, number)]
        plan += [(part, small, number) for part in ("bare", "tokens", "near")]
    rows_of = {file: _rows(file, model) for file in (large, small)}
    for part, file, number in plan:
        if any((run["part"], run["file"], run["round"]) == (part, file.name, number) for run in runs):
            continue
        source = file if part in ("load_dataset", "read") else rows_of[file]
        run = {
            "part": part,
            "file": file.name,
            "round": number,
            **_run(part, source, model, python, watched=number == 0),
        }
        runs.append(run)
        with kept.open("a") as out:
            out.write(json.dumps(run) + "\n")
        found = f"{run['s']:.1f} s" if number else f"{run['peak_mb']:.0f} MB"
        print(f"round {number}, {part} of {file.name}: {found}", flush=True)
    return runs


def _rows(file: Path, model: Path) -> Path:
    """The file as rows, made once: under a name that stands for the code that made them."""
    rows = PROOF / f"rows-{file.stem}-{commit()}"
    if not rows.exists():
        _run("read", file, model, "", keep=rows)
    return rows


def _datasets_python() -> str:
    python = VENV / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", DATASETS], check=True)
    return str(python)


def _run(
    part: str, file: Path, model: Path, datasets_python: str, *, watched: bool = False, keep: Path | None = None
) -> dict[str, Any]:
    folder = PROOF / "scratch"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    command = [sys.executable, "-m", "benchmarks.data", "--part", part, "--file", str(file)]
    command += ["--folder", str(folder), "--model", str(model)]
    if part == "load_dataset":
        command = [datasets_python, "-c", _LOAD, str(file), str(folder / "cache")]
    file.open("rb").close()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    peak = _Peak(process.pid) if watched else None
    answer, _ = process.communicate()
    found: dict[str, Any] = json.loads(answer.splitlines()[-1])
    if peak is not None:
        found["peak_mb"] = peak.stop()
    if keep is not None:
        (folder / "rows.chunks").replace(keep.with_name(keep.name + ".chunks"))
        (folder / "rows").replace(keep)
    shutil.rmtree(folder)
    return found


class _Peak:
    """Looks at the memory of a process and of its children; what they share counts once."""

    def __init__(self, pid: int) -> None:
        self._pid, self._most = pid, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def stop(self) -> float:
        self._ended.set()
        self._thread.join()
        return self._most / 1e6

    def _look(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            self._most = max(self._most, sum(map(_proportional_bytes, _tree(self._pid))))


def _tree(pid: int) -> list[int]:
    try:
        threads = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    return [pid, *(one for children in threads for child in children for one in _tree(int(child)))]


def _proportional_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        # Ended between two looks.
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def _work(part: str, file: Path, folder: Path, model: Path) -> dict[str, Any]:
    """One part in this process; what it imports is not timed, as it is not for load_dataset either."""
    began_s = 0.0

    def silent(_share: float, _text: str) -> None:
        return

    if part == "read":
        from btmd.inspection.dataset import inspect_dataset

        began_s = time.perf_counter()
        facts = inspect_dataset(file, file.name, folder / "rows", progress=silent)
        return {"s": time.perf_counter() - began_s, "rows": facts.rows_kept, "repeats": facts.duplicates}
    if part == "bare":
        return _bare(file, model)
    if part == "tokens":
        from btmd.inspection.tokens import measure

        began_s = time.perf_counter()
        tokens = measure(file, model, max_length=None, progress=silent)
        return {"s": time.perf_counter() - began_s, "rows": tokens.rows, "tokens": tokens.tokens_total}
    from btmd.data.row_chunks import RowsFile
    from btmd.inspection.quality import examine

    began_s = time.perf_counter()
    quality = examine(file, folder / "groups", rows_total=RowsFile(file).rows or 0, progress=silent)
    return {"s": time.perf_counter() - began_s, "rows": quality.rows, "groups": quality.similar_groups}


def _bare(file: Path, model: Path) -> dict[str, Any]:
    """Only the tokenizer's own calls are timed: a thousand texts at a time, on as many threads as it likes."""
    os.environ.pop("TOKENIZERS_PARALLELISM", None)
    from tokenizers import Tokenizer

    from btmd.data.encoding import Encoder
    from btmd.data.rows import read_rows

    tokenizer, encoder = Tokenizer.from_file(str(model / "tokenizer.json")), Encoder.load(model)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    rows, seconds, tokens, count = read_rows(file), 0.0, 0, 0
    while some := [encoder.render(row["messages"]) for row in islice(rows, 1000)]:
        began_s = time.perf_counter()
        encodings = tokenizer.encode_batch(some, add_special_tokens=False)
        seconds += time.perf_counter() - began_s
        tokens += sum(map(len, encodings))
        count += len(some)
    return {"s": seconds, "rows": count, "tokens": tokens}


def _planted(rounds: int, originals: int) -> list[tuple[float, float]]:
    """Recall and precision on near-duplicates planted with a fresh seed each round."""
    from tests.data.planted import plant, told_apart

    found = []
    for _ in range(rounds):
        seed = random.SystemRandom().randrange(2**32)
        recall, precision = told_apart(plant(seed, originals), PROOF)
        print(f"planted with seed {seed}: recall {recall:.4f}, precision {precision:.4f}", flush=True)
        found.append((recall, precision))
    return found


def _report(runs: list[dict[str, Any]], planted: list[tuple[float, float]], options: argparse.Namespace) -> None:
    large, small = f"{options.size_mb}.jsonl", f"{options.tokens_mb}.jsonl"

    def figures(part: str, file: str, what: str) -> list[float]:
        return [run[what] for run in runs if (run["part"], run["file"]) == (part, file) and what in run]

    def of_rounds(part: str, file: str) -> list[float]:
        return [run["s"] for run in runs if (run["part"], run["file"]) == (part, file) and run["round"]]

    reading = [
        theirs / ours for theirs, ours in zip(of_rounds("load_dataset", large), of_rounds("read", large), strict=True)
    ]
    both = [sum(pair) for pair in zip(of_rounds("tokens", small), of_rounds("near", small), strict=True)]
    tokens = [bare / ours for bare, ours in zip(of_rounds("bare", small), both, strict=True)]
    rows = runs[-1]["rows"]
    mean_bytes = options.tokens_mb * 1e6 / rows
    record(
        Topic(
            title=f"Large datasets: {options.size_mb:,} MB of conversations",
            command="make proof-data",
            figures=[
                Figure("reading, with exact duplicates, against load_dataset", reading, "x", ">= 0.5"),
                Figure("reading", of_rounds("read", large), "s", digits=1),
                Figure("load_dataset", of_rounds("load_dataset", large), "s", digits=1),
                Figure("tokens and near-duplicates against the bare tokenizer", tokens, "x", ">= 0.8"),
                *(
                    Figure(f"{name}, {options.tokens_mb} MB", of_rounds(part, small), "s", digits=1)
                    for part, name in (("bare", "bare tokenizer"), ("tokens", "tokens"), ("near", "quality of rows"))
                ),
                *(
                    Figure(f"peak memory of {name}, {file}", figures(part, file, "peak_mb"), "MB", "< 400", 0)
                    for part, name in (("read", "reading"), ("tokens", "tokens"), ("near", "near-duplicates"))
                    for file in dict.fromkeys((small, large))
                    if figures(part, file, "peak_mb")
                ),
                Figure("peak memory of load_dataset", figures("load_dataset", large, "peak_mb"), "MB", digits=0),
                Figure("recall of planted near-duplicates", [one for one, _ in planted], "", "> 0.95", 4),
                Figure("precision", [one for _, one in planted], "", "> 0.9", 4),
            ],
            packages=("msgspec", "numpy", "tokenizers", "zstandard"),
            notes=[
                f"{DATASETS} in an environment of its own, with an empty cache each time; rounds interleaved.",
                f"Rows of {mean_bytes:,.0f} bytes in the mean: conversations of one to six exchanges, of paragraphs of "
                "Python's documentation; 3 % repeat an earlier one exactly, 2 % nearly.",
                "Near-duplicates are searched for in the same pass that looks at every row for damage, odd answers and "
                "its language; all of it is timed. Memory is the proportional size of a process and its workers.",
                f"Planted: {options.planted:,} originals a round, a fresh seed each, half of them again after an edit, "
                "and look-alikes that are none: another number, answer, label or name, the same passage, half of it.",
            ],
        )
    )


if __name__ == "__main__":
    main()
