"""A daemon that restarts is waited for: what it was doing goes on without it."""

import time
from collections.abc import Callable

from btmctl.client import Client
from btmctl.errors import Unreachable

PATIENCE_S = 120.0
AWAY = "The daemon is away; waiting for it. A training goes on meanwhile."


def wait_for_connection(client: Client, announce: Callable[[str], None], patience_s: float = PATIENCE_S) -> None:
    """Wait until a daemon answers at the same socket again. Raises Unreachable after ``patience_s``."""
    from btmctl.session import probe

    deadline = time.monotonic() + patience_s
    pause_s = 0.1
    # A daemon that is just ending still takes connections: without a pause we would ask it again and again.
    time.sleep(pause_s)
    while (problem := probe(client.socket_path)) is not None:
        if time.monotonic() > deadline:
            raise Unreachable(
                "The daemon went away and did not come back.",
                f"Nothing answers at {client.socket_path} ({problem}). A training goes on without it.",
                "btmctl daemon run starts it again; it finds its jobs.",
            )
        announce(AWAY)
        time.sleep(pause_s)
        pause_s = min(1.0, pause_s * 1.5)
