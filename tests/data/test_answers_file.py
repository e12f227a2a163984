"""Sample answers under a key of their dataset: opened with it, told apart from damage, and gone without it."""

import json
from pathlib import Path

import pytest

from btmd.data.answers_file import key_files, open_sealed, seal
from btmd.errors import Damaged, PartMissing, Tampered

ANSWERS = b'{"samples": [{"line": 1}]}'


def test_what_was_sealed_is_opened_and_one_key_serves_a_dataset(tmp_path: Path) -> None:
    keys = tmp_path / "keys" / "faq"
    first, second = seal(ANSWERS, keys), seal(ANSWERS, keys)
    assert first != second
    assert b"samples" not in first
    assert open_sealed(first, keys) == open_sealed(second, keys) == ANSWERS
    [key] = key_files(keys)
    assert (key.stat().st_mode & 0o777, keys.stat().st_mode & 0o777) == (0o600, 0o700)


def test_without_the_key_nobody_reads_them(tmp_path: Path) -> None:
    sealed = seal(ANSWERS, tmp_path / "faq")
    key_files(tmp_path / "faq")[0].unlink()
    seal(ANSWERS, tmp_path / "faq")
    with pytest.raises(PartMissing):
        open_sealed(sealed, tmp_path / "faq")


def test_changed_and_damaged_answers_are_told(tmp_path: Path) -> None:
    sealed = json.loads(seal(ANSWERS, tmp_path / "faq"))
    changed = {**sealed, "nonce": "AAAAAAAAAAAAAAAA"}
    with pytest.raises(Tampered):
        open_sealed(json.dumps(changed).encode(), tmp_path / "faq")
    with pytest.raises(Damaged):
        open_sealed(b"{", tmp_path / "faq")


def test_plain_answers_of_earlier_releases_are_read(tmp_path: Path) -> None:
    assert open_sealed(ANSWERS, tmp_path / "none") == ANSWERS
