"""So many at once, and so many more as time goes on: for each user by themselves."""

import time
from collections.abc import Callable

MOST_USERS = 1000


class Budgets:
    """``burst`` at once, then ``per_s`` a second, by user id. ``now_s`` is a clock that only goes forward."""

    def __init__(self, burst: float, per_s: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._per_s, self._now_s = float(burst), per_s, now_s
        self._left: dict[int, tuple[float, float]] = {}
        self._denied: dict[int, int] = {}

    def take(self, uid: int) -> int | None:
        """How many were denied since the last that was not; None: this one is denied too."""
        now_s = self._now_s()
        left, since_s = self._left.pop(uid, (self._burst, now_s))
        left = min(self._burst, left + (now_s - since_s) * self._per_s)
        while len(self._left) >= MOST_USERS:
            # The one that asked longest ago.
            gone = next(iter(self._left))
            del self._left[gone]
            self._denied.pop(gone, None)
        if left < 1:
            self._left[uid] = (left, now_s)
            self._denied[uid] = self._denied.get(uid, 0) + 1
            return None
        self._left[uid] = (left - 1, now_s)
        return self._denied.pop(uid, 0)

    def wait_s(self, uid: int) -> float:
        """Until the next one."""
        left, since_s = self._left.get(uid, (self._burst, 0.0))
        return max(0.0, (1 - left) / self._per_s - (self._now_s() - since_s))
