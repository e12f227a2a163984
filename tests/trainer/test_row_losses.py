"""Losses row by row, and how sure an improvement is that was seen on so many rows."""

from pathlib import Path

import numpy as np
import pytest

from btmd.trainer.row_losses import (
    HeldOutRows,
    RowLosses,
    improvement_range,
    read_held_out,
    write_held_out,
)


def rows(losses: list[float], *, first: int = 1, tokens: int = 10) -> RowLosses:
    """Each with its loss per token."""
    return RowLosses.gathered(
        range(first, first + len(losses)), [loss * tokens for loss in losses], [tokens] * len(losses)
    )


def test_parts_of_a_line_are_one_row_and_the_mean_is_over_tokens() -> None:
    found = RowLosses.gathered([7, 3, 7], [4.0, 2.0, 8.0], [2, 4, 2])
    assert found == RowLosses((3, 7), (2.0, 12.0), (4, 4))
    assert found.mean == pytest.approx(14 / 8)
    assert found.only({7}).mean == pytest.approx(3.0)


def test_rows_that_all_gain_alike_leave_no_doubt() -> None:
    before = rows([1.0, 2.0, 3.0, 4.0, 5.0])
    sure = improvement_range(before, rows([0.8, 1.6, 2.4, 3.2, 4.0]), name="job")
    assert sure is not None
    assert (sure.low, sure.high, sure.rows) == (pytest.approx(20.0), pytest.approx(20.0), 5)


def test_the_same_job_gives_the_same_range_and_another_one_nearly_so() -> None:
    draws = np.random.default_rng(3)
    before = rows(list(draws.uniform(1, 3, 60)))
    after = rows(
        [
            loss * factor
            for loss, factor in zip([one / 10 for one in before.losses], draws.uniform(0.6, 1.2, 60), strict=True)
        ]
    )
    first, again, other = (improvement_range(before, after, name=name) for name in ("a 1", "a 1", "b 1"))
    assert first is not None
    assert other is not None
    assert first == again != other
    assert other.low == pytest.approx(first.low, abs=1.0)
    seen = 100 * (1 - after.mean / before.mean)
    assert first.low < seen < first.high


def test_nine_ranges_in_ten_hold_what_would_be_found_on_very_many_rows() -> None:
    """Of rows whose true improvement is 10 percent, 40 at a time are seen."""
    draws = np.random.default_rng(11)
    held = 0
    for experiment in range(200):
        losses = draws.gamma(4.0, 0.5, 40)
        left = losses * draws.normal(0.9, 0.25, 40)
        sure = improvement_range(rows(list(losses)), rows(list(left)), name=str(experiment))
        assert sure is not None
        held += sure.low <= 10.0 <= sure.high
    assert 160 <= held <= 195


def test_only_rows_that_were_measured_both_times_count_and_of_few_nothing_is_said() -> None:
    before, after = rows([2.0] * 6), rows([1.0] * 6, first=2)
    sure = improvement_range(before, after, name="job")
    assert sure is not None
    assert sure.rows == 5
    assert improvement_range(before, rows([1.0] * 6, first=3), name="job") is None
    assert improvement_range(rows([0.0] * 6), rows([0.0] * 6), name="job") is None


def test_what_was_kept_is_read_again_and_what_is_damaged_is_measured_anew(tmp_path: Path) -> None:
    path = tmp_path / "held_out.json"
    assert read_held_out(path) == HeldOutRows()
    kept = HeldOutRows(rows([2.0, 3.0]), rows([1.0, 2.0]), 12)
    write_held_out(path, kept)
    assert read_held_out(path) == kept
    path.write_bytes(path.read_bytes()[:-9])
    assert read_held_out(path) == HeldOutRows()
