"""Recall, precision and speed of finding and replacing personal data, on texts made anew for each run.

``python -m benchmarks.anonymising`` records; ``--seed`` makes a run again, ``--texts`` and ``--rows`` make it smaller.
"""

import argparse
import os
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.personal_texts import KINDS, Planted, Text, Texts
from benchmarks.results import Figure, Topic, record
from btmd.data.row_chunks import RowsWriter
from btmd.data.rows import read_rows
from btmd.inspection.anonymising import anonymise
from btmd.inspection.personal_data import survey_personal_data
from btmd.inspection.requests import Replacing
from btmd.inspection.row_scan import LookingFor, look_through
from btmd.inspection.workers import workers_for
from btmd.privacy.detectors import Detectors
from btmd.privacy.finding import Finding

TEXTS, ROWS, ROUNDS = 5000, 100_000, 3
DIFFERENT_TEXTS = 20_000
_CONTEXT_CHARS = 30


@dataclass
class Score:
    """What was planted and found by kind; ``said`` describes what was missed and what was found wrongly."""

    planted: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    right: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    said: list[str] = field(default_factory=list)

    def recall(self, kind: str) -> float:
        """The share of what was planted of a kind that was found whole and called so."""
        return self.found[kind] / self.planted[kind]

    @property
    def precision(self) -> float:
        """The share of what was found that lies where something of that kind was planted."""
        return self.right / (self.right + self.wrong.total())

    def add(self, text: Text, findings: Sequence[Finding]) -> None:
        for one in text.planted:
            self.planted[one.kind] += 1
            if any(found.kind == one.kind and found.start <= one.start and found.end >= one.end for found in findings):
                self.found[one.kind] += 1
            else:
                self.said.append(f"missed {one.kind} ({text.language}): {_around(text, one.start, one.end)}")
        for found in findings:
            if any(_meets(found, one) for one in text.planted):
                self.right += 1
            else:
                self.wrong[found.kind] += 1
                self.said.append(f"wrong {found.kind} ({text.language}): {_around(text, found.start, found.end)}")


def _meets(found: Finding, planted: Planted) -> bool:
    return found.kind == planted.kind and found.start < planted.end and planted.start < found.end


def _around(text: Text, start: int, end: int) -> str:
    return repr(text.text[max(0, start - _CONTEXT_CHARS) : end + _CONTEXT_CHARS])


def scored(texts: Sequence[Text]) -> Score:
    """How well the detectors do on these texts."""
    detectors, score = Detectors(), Score()
    for text in texts:
        score.add(text, detectors.find(text.text))
    return score


def written(folder: Path, texts: Sequence[str]) -> Path:
    """Rows of one question each."""
    with RowsWriter(folder / "rows") as out:
        for line, text in enumerate(texts, 1):
            asked = {"role": "user", "content": text}
            out.write({"line": line, "messages": [asked, {"role": "assistant", "content": "Thank you."}]})
        out.finish()
    return folder / "rows"


def left_after_anonymising(folder: Path, texts: Sequence[Text]) -> tuple[int, int]:
    """Planted values that still stand in the anonymised rows; rows that a second run would change."""
    rows = written(folder, [one.text for one in texts])
    anonymise(rows, len(texts), folder / "once", Replacing(), _quiet)
    left = 0
    for text, row in zip(texts, read_rows(folder / "once"), strict=True):
        content = row["messages"][0]["content"]
        left += sum(text.text[one.start : one.end] in content for one in text.planted)
    again = anonymise(folder / "once", len(texts), folder / "twice", Replacing(), _quiet)
    return left, again.changes.rows_changed


def texts_per_second(folder: Path, texts: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """By what is done: looking through, surveying, and anonymising with reading and writing."""
    rows, count = written(folder, texts), len(texts)
    speeds: dict[str, list[float]] = {"looking": [], "surveying": [], "anonymising": []}
    for number in range(rounds):
        begin = time.perf_counter()
        for _ in look_through(rows, LookingFor()):
            pass
        speeds["looking"].append(count / (time.perf_counter() - begin))
        begin = time.perf_counter()
        survey_personal_data(rows, count, _quiet)
        speeds["surveying"].append(count / (time.perf_counter() - begin))
        begin = time.perf_counter()
        anonymise(rows, count, folder / f"out{number}", Replacing(), _quiet)
        speeds["anonymising"].append(count / (time.perf_counter() - begin))
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--texts", type=int, default=TEXTS)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    made = Texts(asked.seed)
    texts = made.make(asked.texts)
    score = scored(texts)
    print("\n".join(score.said))
    with tempfile.TemporaryDirectory() as folder:
        left, changed_again = left_after_anonymising(Path(folder), texts)
    short = [one.text for one in made.make(min(asked.rows, DIFFERENT_TEXTS))]
    with tempfile.TemporaryDirectory() as folder:
        many = (short * (asked.rows // len(short) + 1))[: asked.rows]
        speeds = texts_per_second(Path(folder), many, asked.rounds)
        workers = workers_for(Path(folder) / "rows")
    if (asked.texts, asked.rows, asked.rounds) != (TEXTS, ROWS, ROUNDS):
        print({kind: score.recall(kind) for kind in KINDS}, score.precision, score.wrong, left, changed_again, speeds)
        return
    length = sum(map(len, short)) / len(short)
    record(
        Topic(
            "Anonymising",
            "make proof-anonymise",
            [
                *(Figure(f"recall, {kind}", [score.recall(kind)], target="> 0.98", digits=4) for kind in KINDS),
                Figure("precision, all kinds", [score.precision], target="> 0.95", digits=4),
                Figure("planted values left after anonymising", [left], digits=0),
                Figure("rows that a second run changes", [changed_again], target="<= 0", digits=0),
                Figure("looking through", speeds["looking"], "texts/s", ">= 20000", 0),
                Figure("surveying a version", speeds["surveying"], "texts/s", digits=0),
                Figure("anonymising, reading and writing rows", speeds["anonymising"], "texts/s", digits=0),
            ],
            packages=("phonenumbers", "regex", "faker"),
            notes=(
                f"Seed {asked.seed}: {asked.texts:,} texts in five languages, a third without personal data but with "
                f"numbers and codes that look like some; {score.planted.total():,} values planted.",
                "A value counts as found when it was found whole and as its kind; what was found elsewhere, or as "
                "another kind, is wrong.",
                f"Speed on {asked.rows:,} texts of {length:.0f} characters on average, two thirds with personal data, "
                f"{workers} processes on {len(os.sched_getaffinity(0))} cores.",
            ),
        )
    )


def _quiet(_share: float, _text: str) -> None:
    return


if __name__ == "__main__":
    main()
