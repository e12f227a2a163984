"""What a child gives up before it opens anything: the network, and its place when memory runs out."""

import ctypes
import os
from pathlib import Path
from typing import Final

_NEW_NETWORK, _NEW_USER = 0x4000_0000, 0x1000_0000
"""CLONE_NEWNET and CLONE_NEWUSER of unshare(2)."""
OFFLINE: Final = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""For libraries that would ask a hub."""


def isolate() -> None:
    """Leave the network, and be the first process that the kernel ends when memory runs out."""
    leave_the_network()
    os.environ.update(OFFLINE)
    Path("/proc/self/oom_score_adj").write_text("1000")


def leave_the_network() -> None:
    """Into a network namespace of its own, where there is nothing to talk to.

    Without rights that takes a user namespace, which some systems refuse; then there is only the offline mode.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NETWORK) != 0:
        libc.unshare(_NEW_USER | _NEW_NETWORK)
