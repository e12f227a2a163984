"""All checks, one after the other; one that fails itself is told of and stops no other."""

from collections.abc import Callable, Iterator

from btmctl.doctor.daemon import check_daemon
from btmctl.doctor.door import check_door
from btmctl.doctor.finding import Finding, attention
from btmctl.doctor.folders import check_folders
from btmctl.doctor.installation import check_installation
from btmctl.doctor.known import Known
from btmctl.doctor.machine import check_machine
from btmctl.errors import CommandError

Check = Callable[[Known], Iterator[Finding]]
CHECKS: dict[str, Check] = {
    "installation": check_installation,
    "folders": check_folders,
    "socket": check_door,
    "daemon": check_daemon,
    "machine": check_machine,
}


def examine(known: Known, announce: Callable[[str], None]) -> list[Finding]:
    """Everything that was found, in order; ``announce`` is told what is being looked at."""
    found: list[Finding] = []
    for name, check in CHECKS.items():
        announce(f"Looking at the {name}")
        try:
            for one in check(known):
                found.append(one)
        except (CommandError, OSError, ValueError, LookupError, TypeError) as error:
            what = f"This check failed itself: {type(error).__name__}."
            found.append(attention(name, what, str(error), "btmctl doctor --debug"))
    return found
