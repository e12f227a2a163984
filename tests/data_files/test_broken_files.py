"""Each way in which a file can be broken is found and told by its line; good files that look broken are taken."""

from pathlib import Path

import pytest

from tests.data_files import broken_documents, broken_rows
from tests.data_files.cases import Case, Refused, check

CASES = broken_rows.CASES + broken_documents.CASES


def test_there_are_enough_of_each_kind() -> None:
    assert len({case.title for case in CASES}) == len(CASES)
    assert sum(not case.looks_broken for case in CASES) >= 60
    assert sum(case.looks_broken for case in CASES) >= 20
    assert not any(isinstance(case.expected, Refused) for case in CASES if case.looks_broken)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_what_is_wrong_with_a_file_is_found(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)
