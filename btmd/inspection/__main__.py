"""The inspection child: files of unknown origin are opened here.

What goes wrong with them - memory, a crash in a library, time - goes wrong in a process that is thrown away.
"""

import resource
import sys
from typing import Final

from btmd.child.answering import answer_one
from btmd.child.isolation import isolate
from btmd.domain.units import GIB
from btmd.hardware.memory import read_memory
from btmd.inspection.tasks import perform

LEAST_MEMORY_BYTES: Final = 2 * GIB


def main() -> int:
    _limit_memory()
    isolate()
    return answer_one(perform)


def _limit_memory() -> None:
    """Half of what is free, so that one line of a chat template cannot take the machine's memory and a training's.

    Files that are mapped do not count.
    """
    limit = max(LEAST_MEMORY_BYTES, read_memory().available_bytes // 2)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))


if __name__ == "__main__":
    sys.exit(main())
