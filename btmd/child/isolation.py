"""What a child gives up before it opens anything: the network, and its place when memory runs out."""

import os
from pathlib import Path

from btmd.no_network import OFFLINE, leave_the_network


def isolate() -> None:
    """Leave the network, and be the first process that the kernel ends when memory runs out."""
    leave_the_network()
    os.environ.update(OFFLINE)
    Path("/proc/self/oom_score_adj").write_text("1000")
