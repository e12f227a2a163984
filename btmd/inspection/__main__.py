"""The inspection child: files of unknown origin are opened here.

What goes wrong with them - memory, a crash in a library, time - goes wrong in a process that is thrown away.
"""

import ctypes
import os
import resource
import sys
from pathlib import Path
from typing import Final

from btmd.child.answering import answer_one
from btmd.domain.units import GIB
from btmd.hardware.memory import read_memory
from btmd.inspection.tasks import perform

LEAST_MEMORY_BYTES: Final = 2 * GIB
_NEW_NETWORK, _NEW_USER = 0x4000_0000, 0x1000_0000
"""CLONE_NEWNET and CLONE_NEWUSER of unshare(2)."""


def main() -> int:
    _limit_memory()
    _leave_the_network()
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
    return answer_one(perform)


def _limit_memory() -> None:
    """Half of what is free, so that one line of a chat template cannot take the machine's memory and a training's.

    Files that are mapped do not count. Should memory run out all the same, the kernel is to end this process first.
    """
    limit = max(LEAST_MEMORY_BYTES, read_memory().available_bytes // 2)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    Path("/proc/self/oom_score_adj").write_text("1000")


def _leave_the_network() -> None:
    """Into a network namespace of its own, where there is nothing to talk to.

    Without rights that takes a user namespace, which some systems refuse; then there is only the offline mode.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NETWORK) != 0:
        libc.unshare(_NEW_USER | _NEW_NETWORK)


if __name__ == "__main__":
    sys.exit(main())
