"""The machine: its clock, and the limits that were set for this program."""

import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from btmctl import words
from btmctl.doctor.finding import Finding, attention, broken, ok
from btmctl.doctor.known import Known
from btmd.hardware.cpu import read_quota
from btmd.hardware.memory import read_memory

MADE = datetime(2026, 1, 1, tzinfo=UTC)
"""No right clock shows an earlier time: btmd is younger."""
AHEAD_S = 300.0
ENOUGH_FILES = 1024
LITTLE_MEMORY_BYTES = 4 * 1024**3
ASK_CLOCK_S = 5.0


def check_machine(known: Known) -> Iterator[Finding]:
    yield check_clock(known.state_dir, time.time())
    yield from check_synchronised()
    yield from check_limits(known)
    yield from check_process_limits()


def check_clock(state_dir: Path, now_s: float) -> Finding:
    """Against the time when btmd was made, and when the daemon wrote last."""
    shown = words.moment_us(int(now_s * 1e6))
    if now_s < MADE.timestamp():
        why = "Times in the log, and backups by time, would be wrong."
        return broken("clock", f"It shows {shown}, which is long past.", why, "timedatectl set-ntp true")
    written_s = [_written_s(state_dir / name) for name in ("btmd.db", "btmd.db-wal", "btmd.lock")]
    ahead_s = max(written_s) - now_s
    if ahead_s > AHEAD_S:
        what = f"It shows {shown}; the daemon wrote {words.span(ahead_s)} later than that."
        why = "It was set back, so a time may be twice in the history."
        return attention("clock", what, why, "timedatectl")
    return ok("clock", f"It shows {shown}.")


def _written_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def check_synchronised() -> Iterator[Finding]:
    """Whether the clock is kept right, where the system tells."""
    program = shutil.which("timedatectl")
    if program is None:
        return
    command = [program, "show", "--property=NTPSynchronized", "--value"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=ASK_CLOCK_S, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return
    if done.returncode == 0 and done.stdout.strip() == b"no":
        why = "It may drift. Nothing fails because of it; times in the history would be a little wrong."
        yield attention("clock", "It is not kept right over the network.", why, "timedatectl set-ntp true")


def check_limits(known: Known) -> Iterator[Finding]:
    """What a service or a container leaves: as the daemon has it, or this program."""
    of_daemon = known.hardware
    memory_limit = of_daemon["memory"]["limit_bytes"] if of_daemon else read_memory().limit_bytes
    quota = of_daemon["cpu"]["quota_cores"] if of_daemon else read_quota()
    whose = "The daemon" if of_daemon else "This program"
    if memory_limit is not None:
        what = f"{whose} may use {memory_limit / 1024**3:.1f} GB of memory, less than the machine has."
        if memory_limit < LITTLE_MEMORY_BYTES:
            why = "Hardly any model fits into that."
            yield attention("memory limit", what, why, "systemctl --user show btmd -p MemoryMax -p MemoryHigh")
        else:
            yield ok("memory limit", what)
    if quota is not None:
        what = f"{whose} may use {quota:g} cores' worth of time."
        if quota < 1:
            why = "Trainings take very long with that."
            yield attention("processor limit", what, why, "systemctl --user show btmd -p CPUQuotaPerSecUSec")
        else:
            yield ok("processor limit", what)
    if memory_limit is None and quota is None:
        yield ok("limits", "Neither memory nor processor time is limited.")


def check_process_limits() -> Iterator[Finding]:
    """Limits that a login sets, and that a daemon started here would have."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files < ENOUGH_FILES:
        why = "A daemon started here may run out of them when many ask at once."
        yield attention("open files", f"At most {files}.", why, f"ulimit -n {ENOUGH_FILES}")
    for about, limit, option in (
        ("address space", resource.RLIMIT_AS, "-v"),
        ("file size", resource.RLIMIT_FSIZE, "-f"),
    ):
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY:
            why = "A training started here may fail though the machine has enough."
            yield attention(about, f"Limited to {words.size(soft)}.", why, f"ulimit {option} unlimited")
