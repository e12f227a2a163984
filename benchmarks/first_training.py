"""A person's first training with their own rows: added as they are, planned, trained with quick_test, and told.

`python -m benchmarks.first_training --data rows.jsonl [--model FOLDER] [--rows 500]`. Without a model the demo model
is taken. Everything goes through btmctl and a daemon on empty folders.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.quickstart import end_daemon
from benchmarks.results import Figure, Topic, record

PLAIN = re.compile(r"[A-Z].*[.!]$", re.DOTALL)


class Person:
    """Types commands, with folders of their own."""

    def __init__(self, folder: str) -> None:
        names = ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "HOME")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("BTMD_")}
        self.environment = kept | dict.fromkeys(names, folder)
        self.program = str(Path(sys.executable).with_name("btmctl"))

    def types(self, *words: str) -> Any:
        done = subprocess.run(
            [self.program, "--json", *words], env=self.environment, stdout=subprocess.PIPE, text=True, check=True
        )
        return json.loads(done.stdout)

    def watches(self, *words: str) -> list[dict[str, Any]]:
        done = subprocess.run(
            [self.program, "--json", *words], env=self.environment, stdout=subprocess.PIPE, text=True, check=True
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    def starts_the_daemon(self) -> subprocess.Popen[bytes]:
        daemon = subprocess.Popen([self.program.removesuffix("ctl") + "d"], env=self.environment)
        for _ in range(300):
            answered = subprocess.run([self.program, "status"], env=self.environment, capture_output=True)
            if answered.returncode == 0:
                return daemon
            time.sleep(0.1)
        raise TimeoutError("the daemon does not answer")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--model", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="btmd-") as folder:
        rows = Path(folder, "rows.jsonl")
        rows.write_text("".join(given.data.read_text().splitlines(keepends=True)[: given.rows]))
        person = Person(folder)
        daemon = person.starts_the_daemon()
        try:
            seen, job, result, seconds = _train(person, rows, given.model or _demo_model())
        finally:
            end_daemon(daemon.pid)
            daemon.wait(10)
    return _report(given.rows, seen, job, result, seconds)


def _demo_model() -> Path:
    from btmctl.demo_model import find

    found = find(os.environ)
    if found is None:
        sys.exit("The demo model is not installed; give --model FOLDER.")
    return Path(found)


def _train(person: Person, rows: Path, model: Path) -> tuple[list[dict[str, Any]], Any, Any, float]:
    added = person.types("models", "add", str(model), "--name", "first")
    person.types("datasets", "add", str(rows), "--consent", "--purpose", "a first training")
    start = time.perf_counter()
    seen = person.watches("train", added["model_id"], "rows", "--preset", "quick_test", "--watch")
    seconds = time.perf_counter() - start
    return seen, person.types("jobs", "show", "last"), person.types("jobs", "result", "last"), seconds


def _report(rows: int, seen: list[dict[str, Any]], job: Any, result: Any, seconds: float) -> int:
    percentages = [line["progress_percentage"] for line in seen if "progress_percentage" in line]
    steps_back = sum(later < earlier for earlier, later in pairwise(percentages))
    shape = job["shape"]
    accounted = shape["train_rows"] + shape["held_out_rows"] + shape["left_out_rows"]
    told = any(str(shape["left_out_rows"]) in notice["text"] for notice in job["notices"])
    figures = [
        Figure("rows given", [rows], digits=0),
        Figure("rows learned from, held out or left out whole", [accounted], "", f">= {rows}", digits=0),
        Figure("rows left out whole", [shape["left_out_rows"]], digits=0),
        Figure("left-out rows told in a notice", [float(told or shape["left_out_rows"] == 0)], "", ">= 1", digits=0),
        Figure("progress reports", [len(percentages)], digits=0),
        Figure("progress that went back", [steps_back], "", "<= 0", digits=0),
        Figure("progress at the end", [percentages[-1]], "%", ">= 100", digits=0),
        Figure("held-out loss before", [job["held_out_before"]], digits=3),
        Figure("held-out loss after", [job["held_out_after"]], digits=3),
        Figure("result in a plain sentence", [float(bool(PLAIN.match(result["performance_summary"])))], "", ">= 1"),
        Figure("from the command to the result", [seconds], "s", digits=0),
    ]
    notes = [f"Told at the end: {result['performance_summary']}"]
    record(Topic("First training", "python -m benchmarks.first_training --data FILE", figures, ("torch",), notes))
    return 1 if any(figure.met is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
