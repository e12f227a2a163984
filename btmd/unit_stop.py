"""What the units run to stop the daemon (ExecStop=): ``python -m btmd.unit_stop UNIT [--user]``.

On a stop, the trainings save a checkpoint and end before the daemon does. On a restart nothing is asked: the signal
that follows ends the daemon alone, and the next one finds the trainers again.
"""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

ASK_S = 10
"""How long the service manager may take to say what it is doing."""


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Always 0: systemd itself then ends what is still there."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    pid = environment.get("MAINPID", "")
    # Without one the daemon has ended by itself, and its trainers wait for the next.
    if not given or not pid.isdigit() or int(pid) <= 1:
        return 0
    if is_restart(given[0], user="--user" in given):
        return 0
    try:
        daemon = os.pidfd_open(int(pid))
    except ProcessLookupError:
        return 0
    try:
        signal.pidfd_send_signal(daemon, signal.SIGUSR1)
        ended = select.poll()
        ended.register(daemon, select.POLLIN)
        # As long as the unit allows (TimeoutStopSec=).
        ended.poll()
    except ProcessLookupError:
        pass
    finally:
        os.close(daemon)
    return 0


def is_restart(unit: str, *, user: bool) -> bool:
    """Whether the service manager is restarting the unit; when it cannot be asked, it counts as a stop: safe."""
    command = ["systemctl", *(["--user"] if user else []), "list-jobs", "--no-legend", "--no-pager"]
    command += ["--plain", "--full"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    # Job number, unit, type, state.
    jobs = [line.split() for line in said.splitlines()]
    return any(job[1] == unit and "restart" in job[2] for job in jobs if len(job) > 2)


if __name__ == "__main__":
    sys.exit(main())
