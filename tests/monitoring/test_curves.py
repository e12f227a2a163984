"""Curves in few points lose no spike, and say how they went."""

from hypothesis import given, settings
from hypothesis import strategies as st

from btmd.monitoring.curves import CurveFold, Curves, TickValues
from btmd.monitoring.verdict import Measurement


def tick(step: int, loss: float, *, attempt: int = 1, **changes: float) -> TickValues:
    values = {"learning_rate": 1e-3, "tokens_per_s": 100.0, "memory_bytes": 2**30, **changes}
    return TickValues(attempt, step, (step,), (loss,), **values)  # type: ignore[arg-type]


def told(losses: list[float], points: int = 10, **more: object) -> Curves:
    fold = CurveFold(len(losses), points)
    fold.add(tick(step, loss) for step, loss in enumerate(losses, 1))
    return fold.curves(more.get("held_out", []), len(losses))  # type: ignore[arg-type]


def curve(curves: Curves, key: str = "loss"):  # type: ignore[no-untyped-def]
    return next(one for one in curves.curves if one.key == key)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=400), st.integers(1, 50))
@settings(max_examples=100)
def test_few_points_keep_extremes_number_and_mean(losses: list[float], points: int) -> None:
    found = curve(told(losses, points))
    assert len(found.step) <= points
    assert (min(found.low), max(found.high)) == (min(losses), max(losses))
    assert found.values == len(losses)
    assert list(found.step) == sorted(set(found.step))
    assert found.step[-1] == len(losses)
    assert all(
        low <= mean + 1e-9 and mean <= high + 1e-9
        for low, mean, high in zip(found.low, found.mean, found.high, strict=True)
    )


def test_one_spike_among_thousands_of_steps_is_seen() -> None:
    losses = [1.0] * 5000
    losses[3210] = 50.0
    found = told(losses, 100)
    assert found.thinned
    assert max(curve(found).high) == 50.0


def test_steps_done_again_by_a_later_attempt_count_once_as_told_last() -> None:
    fold = CurveFold(8, 100, {1: 0, 2: 4})
    fold.add(tick(step, 9.0) for step in range(1, 7))
    fold.add(tick(step, 1.0, attempt=2) for step in range(5, 9))
    found = fold.curves([], 8)
    assert curve(found).mean == (9.0,) * 4 + (1.0,) * 4
    assert found.resumed_at == (4,)


def test_each_curve_says_how_it_went() -> None:
    assert "fell from" in curve(told([3 - 0.02 * n for n in range(100)])).said
    assert "rose from" in curve(told([1 + 0.02 * n for n in range(100)])).said
    assert "stayed at about" in curve(told([1.0] * 50)).said
    measured = [Measurement(0, 3.0), Measurement(50, 1.5), Measurement(100, 2.0)]
    assert "after step 50 and rose to 2" in curve(told([1.0] * 100, held_out=measured), "held_out").said
    fold = CurveFold(40, 40)
    fold.add(tick(n, 1.0, tokens_per_s=100 - n, memory_bytes=2**30 * (1 + n / 40)) for n in range(1, 41))
    found = fold.curves([], 40)
    assert "slower" in curve(found, "tokens_per_s").said
    uneven = CurveFold(40, 40)
    uneven.add(tick(n, 1.0, tokens_per_s=100 if n % 3 else 900) for n in range(1, 41))
    assert "varied between about 100 and 900" in curve(uneven.curves([], 40), "tokens_per_s").said
    assert "grew from about" in curve(found, "memory_bytes").said


def test_values_that_are_no_numbers_are_left_out() -> None:
    found = told([1.0, float("nan"), float("inf"), 2.0])
    assert (curve(found).values, max(curve(found).high)) == (2, 2.0)
