"""Ranges from this machine's own forecasts and outcomes.

The factors are quantiles of the ratios of outcome to forecast so far, the latter as it was before any factor. They are
widened for the one to come as in conformal prediction (Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random
World", 2005). Before there are many, made-up ratios spread as the prior says stand beside them and count for
PRIOR_COUNT; they fade as real ones come in.
"""

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from btmd.domain.forecast import DISK, FORMULA, GPU_MEMORY, GUESS, MEMORY, TIME, TRIAL, Range

COVERAGE = 0.95
"""Aimed at, so that nine in ten hold: the next training is not always of the kind of those before."""
PRIOR_COUNT = 10
PRIOR_SAMPLES = 40
TO_COME = 2
"""Outcomes not seen yet, at either end."""
NEWEST = 100
"""Older outcomes are forgotten: drivers, libraries and habits change."""

PRIOR_DEVIATIONS: Mapping[tuple[str, str], float] = {
    (MEMORY, FORMULA): 0.13,
    (MEMORY, TRIAL): 0.035,
    (GPU_MEMORY, FORMULA): 0.2,
    (GPU_MEMORY, TRIAL): 0.05,
    (DISK, FORMULA): 0.15,
    (DISK, TRIAL): 0.15,
    (TIME, FORMULA): 0.4,
    (TIME, TRIAL): 0.1,
    (TIME, GUESS): 0.8,
}
"""Standard deviation of the logarithm of outcome to forecast, until this machine has its own."""

LEAST_DEVIATIONS: Mapping[tuple[str, str], float] = {(MEMORY, TRIAL): 0.02, (GPU_MEMORY, TRIAL): 0.02}
"""No range is narrower to either side, as logarithms: by as much two runs of one plan differ, for how what was freed is
used again."""

History = Mapping[tuple[str, str], Sequence[float]]
"""Logarithms of the ratios of outcome to forecast by quantity and basis, the newest first."""


class Factors(Struct, frozen=True):
    """What a forecast is multiplied by to get the low end, the middle and the high end of its range."""

    low: float
    middle: float
    high: float

    def applied(self, forecast: float, base: float = 0.0) -> Range:
        """The range of ``forecast``; its part ``base`` is certain."""
        above = max(0.0, forecast - base)
        low, middle, high = (base + above * factor for factor in (self.low, self.middle, self.high))
        return Range(low, middle, high, base + above)


def factors(history: History, quantity: str, basis: str) -> Factors:
    """The factors for one quantity."""
    seen = list(history.get((quantity, basis), ()))[:NEWEST]
    deviation = PRIOR_DEVIATIONS[quantity, basis]
    weighted = [(one, 1.0) for one in seen]
    for index in range(PRIOR_SAMPLES):
        # Faded once real outcomes are many: it then stands for less than one of them.
        weight = PRIOR_COUNT / (1 + len(seen) / PRIOR_COUNT) / PRIOR_SAMPLES
        weighted.append((deviation * standard_quantile((index + 0.5) / PRIOR_SAMPLES), weight))
    weighted.sort()
    total = sum(weight for _, weight in weighted)
    # The outcome to come is one more of the same kind, and may lie outside all of them.
    tail = (1 - COVERAGE) / 2 * total / (total + TO_COME)
    low, middle, high = (_quantile(weighted, total * level) for level in (tail, 0.5, 1 - tail))
    least = LEAST_DEVIATIONS.get((quantity, basis), 0.0)
    return Factors(*map(math.exp, (min(low, middle - least), middle, max(high, middle + least))))


def standard_quantile(share: float) -> float:
    """Of the logistic distribution of mean 0 and deviation 1: like the normal one, with more far out."""
    return math.sqrt(3) / math.pi * math.log(share / (1 - share))


def _quantile(weighted: Sequence[tuple[float, float]], wanted: float) -> float:
    passed = 0.0
    for value, weight in weighted:
        passed += weight
        if passed >= wanted:
            return value
    return weighted[-1][0]
