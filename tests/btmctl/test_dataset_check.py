"""What is good and bad in a dataset is told in words with rows to look at; a cleaning says what it dropped."""

import json
from typing import Any

import pytest

from btmctl.commands import dataset_check
from btmctl.output import Output
from btmd.inspection.findings import DROPPABLE
from tests.btmctl.conftest import Btmctl
from tests.btmctl.small_server import Request, SmallServer, reply
from tests.btmctl.test_data import DATASET, MODEL

FOUND: dict[str, Any] = {
    "score": 79.9,
    "parts": [
        {"part": "variety", "score": 79.9, "costs": 20.1},
        {"part": "text", "score": 100.0, "costs": 0.0},
    ],
    "findings": [
        {
            "kind": "duplicates",
            "part": "variety",
            "severity": "serious",
            "count": 21,
            "share": 0.117,
            "lines": list(range(14, 35)),
            "text": "21 rows (11.7 %) repeat an earlier row exactly.",
            "meaning": "They count as often as they stand there.",
            "command": "btmctl datasets clean rows --drop duplicates",
            "gain": 20.1,
        }
    ],
    "dataset": DATASET,
    "model_id": None,
    "max_length": None,
    "tokens": None,
    "languages": {"en": 170, "de": 8, "": 2},
    "similar_groups": 4,
}
TOKENS = {
    "tokens_total": 12_345, "learned_tokens": 2_000, "p50": 20, "p95": 90, "longest": 131, "template": "model",
}  # fmt: skip


def test_a_check_tells_what_was_found_and_what_helps(btmctl: Btmctl, server: SmallServer) -> None:
    server.answers("POST", "/datasets/rows/check", FOUND)
    code, out, err = btmctl("datasets", "check", "rows")
    assert code == 0
    for text in (
        "79.9 of 100 points",
        "costs 20.1 points",
        "21 rows (11.7 %) repeat an earlier row exactly. Without it: 20.1 points more.",
        "They count as often as they stand there.",
        "lines 14, 15, 16, 17, 18, 19, 20, 21, ...",
        "btmctl datasets clean rows --drop duplicates",
        "English (170), German (8)",
    ):
        assert text in out
    assert "btmctl datasets check rows --model M" in err
    assert "characters and line ends" not in out
    code, out, _ = btmctl("datasets", "check", "rows", "--json")
    assert code == 0
    assert json.loads(out) == FOUND


def test_a_check_with_a_model_shows_lengths_in_its_tokens(btmctl: Btmctl, server: SmallServer) -> None:
    bodies: list[object] = []

    def check(request: Request) -> None:
        bodies.append(json.loads(request.body()))
        reply(request, {**FOUND, "findings": [], "tokens": TOKENS})

    server.answers("GET", "/models/tiny", MODEL)
    server.does("POST", "/datasets/rows/check", check)
    code, out, _ = btmctl("datasets", "check", "rows", "--model", "tiny", "--max-length", "512")
    assert code == 0
    assert bodies == [{"model_id": "tiny", "max_length": 512}]
    for text in ("12.3 k", "131 tokens", "the model's own", "Nothing was found"):
        assert text in out


def test_a_cleaning_says_what_it_dropped(btmctl: Btmctl, server: SmallServer) -> None:
    bodies: list[object] = []
    changes = {"rows_before": 180, "rows": 158, "dropped": {"near_duplicates": {"count": 22, "lines": [4, 9]}}}

    def clean(request: Request) -> None:
        bodies.append(json.loads(request.body()))
        reply(request, {"cleaned": True, "changes": changes, "dataset": {**DATASET, "version_id": "1b"}})

    server.does("POST", "/datasets/rows/clean", clean)
    code, out, _ = btmctl("datasets", "clean", "rows", "--drop", "duplicates, near_duplicates")
    assert code == 0
    assert bodies == [{"drop": ["duplicates", "near_duplicates"]}]
    assert "near duplicates: 22 (lines 4, 9, ...)" in out
    assert "rows is at version 1b now: 158 of 180 rows." in out


def test_a_cleaning_with_nothing_to_drop_says_so(btmctl: Btmctl, server: SmallServer) -> None:
    changes = {"rows_before": 180, "rows": 180, "dropped": {"broken": {"count": 1, "lines": [7]}}}
    server.answers("POST", "/datasets/rows/clean", {"cleaned": False, "changes": changes, "dataset": DATASET})
    code, out, _ = btmctl("datasets", "clean", "rows", "--drop", "broken")
    assert code == 0
    assert "broken: 1 (line 7)" in out
    assert "stays at version" in out


def test_the_help_of_a_cleaning_names_all_that_can_be_dropped() -> None:
    assert dataset_check.DROPPABLE == DROPPABLE


def test_a_check_keeps_to_the_width_of_the_terminal(
    btmctl: Btmctl, server: SmallServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Output, "width", 80)
    long = {**FOUND["findings"][0], "text": "21 rows repeat an earlier row " * 5, "lines": list(range(100000, 100008))}
    server.answers("POST", "/datasets/rows/check", {**FOUND, "findings": [long]})
    _, out, _ = btmctl("datasets", "check", "rows")
    assert all(len(line) <= 80 for line in out.splitlines()), out


def test_rows_of_a_folder_are_named_by_file_and_page(btmctl: Btmctl, server: SmallServer) -> None:
    files = [{"name": "a.txt", "first_line": 1, "unit": "line"}, {"name": "b.pdf", "first_line": 20, "unit": "page"}]
    dataset = {**DATASET, "facts": {**DATASET["facts"], "files": files}}  # type: ignore[dict-item]
    server.answers("POST", "/datasets/rows/check", {**FOUND, "dataset": dataset})
    code, out, _ = btmctl("datasets", "check", "rows")
    assert code == 0
    assert "a.txt, line 14; " in out
    assert "b.pdf, page 1; b.pdf, page 2, ..." in out
