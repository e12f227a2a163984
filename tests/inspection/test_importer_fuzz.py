"""Whatever stands in a file, its importer makes rows or refuses in words: no crash, no hang, no growth.

A few files of each importer here; ``make proof-importers`` feeds each for ten minutes and records the figures.
"""

import os
import signal
import time
from pathlib import Path

import pytest

from benchmarks import importers
from benchmarks.importer_files import IMPORTERS, file_of
from benchmarks.importer_hostile import HOSTILE
from benchmarks.importers import Done, Failed, ask_child, feed, feed_one

FILES = 25


@pytest.mark.parametrize("name", IMPORTERS)
def test_any_file_becomes_rows_or_is_refused(name: str) -> None:
    done = feed(name, 60.0, Done(next_seed=1000), files=FILES)
    assert done.next_seed > 1000
    # Neither all right nor all wrong, or the files say nothing about the importer.
    assert 0 < done.refused < done.next_seed - 1000


def test_one_number_makes_one_file() -> None:
    for name, importer in IMPORTERS.items():
        # A zip keeps the time at which it was written, in steps of two seconds.
        if name not in ("Word", "OpenDocument"):
            assert file_of(importer, 7) == file_of(importer, 7)


@pytest.mark.parametrize("how", ["raises", "dies", "hangs", "grows"])
def test_what_goes_wrong_is_told_with_the_number_of_the_file(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hoard: list[bytes] = []

    def wrong(name: str, seed: int, folder: Path) -> tuple[bool, float]:
        if seed == 3:
            if how == "raises":
                raise KeyError("x")
            if how == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "hangs":
                time.sleep(60)
        if how == "grows":
            hoard.append(os.urandom(8 << 20))
        return True, 0.0

    monkeypatch.setattr(importers, "feed_one", wrong)
    monkeypatch.setattr(importers, "MOST_WAIT_S", 2.0)
    monkeypatch.setattr(importers, "_WARM_UP", 2)
    with pytest.raises(Failed, match="CSV, file"):
        feed("CSV", 60.0, Done(), files=20)


def test_a_run_goes_on_where_the_last_one_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    monkeypatch.setattr(importers, "KEPT", tmp_path)
    monkeypatch.setattr(importers, "record", lambda topic: seen.append(topic.figures[0].values[0]))
    importers.measure("CSV", 0.5)
    first = Done.load(tmp_path / "CSV.json")
    importers.measure("CSV", 0.4)
    importers.measure("CSV", 1.0)
    assert seen[0] == seen[1] == first.next_seed < seen[2]


def test_a_file_that_is_fed_leaves_nothing(tmp_path: Path) -> None:
    for seed in range(20):
        feed_one("JSON lines", seed, tmp_path)
        assert set(os.listdir(tmp_path)) <= {"source"}


@pytest.mark.parametrize("what", ["entities that expand", "a device", "a pipe", "zips in a zip", "JSON nested deeply"])
def test_a_file_built_to_do_harm_is_refused_by_a_child(what: str, tmp_path: Path) -> None:
    hostile = HOSTILE[what]
    hostile.make(tmp_path / "source")
    answer = ask_child(tmp_path / "source", hostile.name, tmp_path / "rows")
    assert answer.code in hostile.codes
    assert answer.memory_bytes < 1 << 30
    assert not (tmp_path / "rows").exists()
