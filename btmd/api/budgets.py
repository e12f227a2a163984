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
        left = self._now_left(uid)
        if left < 1:
            self._keep(uid, left)
            self._denied[uid] = self._denied.get(uid, 0) + 1
            return None
        self._keep(uid, left - 1)
        return self._denied.pop(uid, 0)

    def spend(self, uid: int, amount: float) -> None:
        """Count what was taken already; it may be more than was left."""
        self._keep(uid, self._now_left(uid) - amount)

    def is_spent(self, uid: int) -> bool:
        """Whether nothing is left."""
        return self._now_left(uid) < 1

    def _now_left(self, uid: int) -> float:
        now_s = self._now_s()
        left, since_s = self._left.get(uid, (self._burst, now_s))
        return min(self._burst, left + (now_s - since_s) * self._per_s)

    def _keep(self, uid: int, left: float) -> None:
        self._left.pop(uid, None)
        while len(self._left) >= MOST_USERS:
            # The one that asked longest ago.
            gone = next(iter(self._left))
            del self._left[gone]
            self._denied.pop(gone, None)
        self._left[uid] = (left, self._now_s())

    def wait_s(self, uid: int) -> float:
        """Until the next one."""
        left, since_s = self._left.get(uid, (self._burst, 0.0))
        return max(0.0, (1 - left) / self._per_s - (self._now_s() - since_s))
