"""Statistics that a few wild values do not move: medians, and what is made of them."""

import itertools
import math
import statistics
from collections.abc import Sequence

NORMAL_SCALE = 1.4826
"""Median absolute deviation to standard deviation, for a normal distribution (Rousseeuw and Croux, 1993)."""
MEDIAN_ERROR = 1.2533
"""Standard error of a median to that of a mean, for a normal distribution: sqrt(pi / 2)."""
LOWEST_MEAN = 0.515
"""The mean of the lowest three quarters of normal values' distances from their mean, in deviations:
(phi(0) - phi(q)) / (3/8), with q = 1.150, below which three quarters lie."""
MOST_PAIRED = 30
"""Points that are paired for a slope: 435 pairs."""

median = statistics.median


def scale(values: Sequence[float]) -> float:
    """What would be the standard deviation if the bulk of the values were all; 0 for fewer than two."""
    if len(values) < 2:
        return 0.0
    middle = median(values)
    return NORMAL_SCALE * median([abs(value - middle) for value in values])


def log_scale(values: Sequence[float]) -> float:
    """The same of the logarithms; values must be above 0."""
    return scale([math.log(value) for value in values])


def deviation(differences: Sequence[float]) -> float:
    """The deviation of what should be 0, from the lowest three quarters; there must be one or more.

    Where no more than a quarter can be wild it is steadier than ``scale``, by a sixth for a hundred normal values.
    """
    lowest = sorted(abs(one) for one in differences)[: max(1, round(0.75 * len(differences)))]
    return sum(lowest) / len(lowest) / LOWEST_MEAN


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Rise of y with x: the median over all pairs (Theil, 1950; Sen, 1968); 0 for fewer than two points."""
    step = max(1, math.ceil(len(points) / MOST_PAIRED))
    chosen = points[::-1][::step]
    rises = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.combinations(chosen, 2) if a[0] != b[0]]
    return median(rises) if rises else 0.0
