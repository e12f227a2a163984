"""How long something took, each time, in as little memory as a monitoring system needs."""

from bisect import bisect_left

BOUNDS_S = (0.005, 0.025, 0.1, 0.5, 2.5)


class Durations:
    """Counts by upper bound in seconds, the last beyond them all; their sum, and the longest."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = self.longest_s = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds
        self.longest_s = max(self.longest_s, seconds)
