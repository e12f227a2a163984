"""Whether anybody needs the daemon just now."""

from dataclasses import dataclass


@dataclass
class Activity:
    """When somebody last asked for something, so that a daemon nobody needs can end."""

    under_way: int = 0
    last_us: int = 0
