"""Whether anybody needs the daemon just now, and what they were answered."""

from collections import Counter

from msgspec import Struct, field


class Activity(Struct):
    """When somebody last asked for something, so that a daemon nobody needs can end."""

    under_way: int = 0
    last_us: int = 0
    answered: Counter[int] = field(default_factory=Counter)
    """Requests by the status of their answer, since the start."""
