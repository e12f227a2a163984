"""The verdict and the range it rests on, over many simulated sets of rows: chance is seldom taken for learning."""

from collections import Counter

import numpy as np
import pytest

from btmd.monitoring.verdict import Evidence, judge
from btmd.trainer.row_losses import RowLosses, improvement_range

SETS = 100
ROWS = 30


def verdicts(*, effect: float, noise: float, seed: int, rows: int = ROWS) -> Counter[str]:
    """Kinds of verdict where the true loss falls by ``effect``, and single rows change by ``noise`` besides."""
    draw = np.random.default_rng(seed)
    found: Counter[str] = Counter()
    for number in range(SETS):
        counts = draw.integers(5, 60, rows)
        before = draw.gamma(4.0, 0.6, rows)
        after = before * (1 - effect) * np.exp(draw.normal(0.0, noise, rows) - noise**2 / 2)
        pair = [
            RowLosses.gathered(range(rows), (losses * counts).tolist(), counts.tolist()) for losses in (before, after)
        ]
        low, high, _ = improvement_range(pair[0], pair[1], name=f"{seed}-{number}") or (None, None, 0)
        found[judge(Evidence(pair[0].mean, pair[1].mean, low=low, high=high, rows=rows)).kind] += 1
    return found


@pytest.mark.parametrize("rows", [5, 8, 30])
def test_where_nothing_was_learned_little_is_claimed(rows: int) -> None:
    found = verdicts(effect=0.0, noise=0.2, seed=1, rows=rows)
    # The range leaves out one case in ten; so many sets of rows tell it to within a few.
    assert SETS - found["unchanged"] <= 0.16 * SETS, found


@pytest.mark.parametrize(("effect", "kind"), [(0.2, "better"), (-0.2, "worse")])
def test_a_clear_change_is_found_in_thirty_rows(effect: float, kind: str) -> None:
    assert verdicts(effect=effect, noise=0.2, seed=2)[kind] >= 0.95 * SETS


def test_a_small_change_is_found_where_the_rows_agree() -> None:
    found = verdicts(effect=0.03, noise=0.03, seed=3)
    assert found["slightly_better"] + found["better"] >= 0.9 * SETS, found
