"""``python -m benchmarks.daemon_without_budgets``: btmd, of which one user may ask as much as they like.

A daemon as it is stops a fuzzer after some hundreds of changes, before most of them have come to anything.
"""

import sys

from btmd.__main__ import main
from btmd.api import application, guard

WITHOUT_END = 10**15

if __name__ == "__main__":
    guard.BURST = application.CHANGES_BURST = application.WRITTEN_BURST_BYTES = WITHOUT_END
    sys.exit(main())
