"""From timed micro-batches to the time of a whole run."""

from collections.abc import Sequence
from typing import NamedTuple

FEW = 2


class Sample(NamedTuple):
    """One micro-batch that was computed; ``warm`` when its shapes had been seen before."""

    tokens: int
    seconds: float
    warm: bool


class Cost(NamedTuple):
    """Seconds of a micro-batch: a part for each, and one for each of its tokens."""

    each_s: float
    token_s: float

    def seconds(self, tokens: int) -> float:
        return self.each_s + self.token_s * tokens


def fitted(samples: Sequence[Sample]) -> Cost:
    """The line through the samples, by least squares, with no negative part; warm ones where there are enough.

    The first pass over a shape also pays for making its kernels.
    """
    warm = [one for one in samples if one.warm]
    chosen = warm if len(warm) >= FEW else samples
    count = len(chosen)
    tokens = sum(one.tokens for one in chosen) / count
    seconds = sum(one.seconds for one in chosen) / count
    spread = sum((one.tokens - tokens) ** 2 for one in chosen)
    slope = sum((one.tokens - tokens) * (one.seconds - seconds) for one in chosen) / spread if spread else -1.0
    each = seconds - slope * tokens
    if slope <= 0 or each < 0:
        return Cost(0.0, seconds / tokens)
    return Cost(each, slope)
