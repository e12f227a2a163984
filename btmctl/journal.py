"""What the system's journal kept of the event log: where it ended whenever the daemon started."""

import re
import subprocess

_LINE = re.compile(r"the event log (\S+) ends with event (\d{1,18}) of epoch (\d{1,9}), hash ([0-9a-f]{64})")
_COMMAND = ("journalctl", "--no-pager", "--quiet", "--output=cat", "--identifier=btmd", "--grep=the event log .* ends")
NEWEST = 50
TIMEOUT_S = 20


def heads_in_journal() -> list[tuple[str, int, int, str]]:
    """Store id, epoch, event and hash of the newest starts; none where there is no journal or it cannot be read."""
    try:
        found = subprocess.run(
            [*_COMMAND, f"--lines={NEWEST}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    text = found.stdout.decode("utf-8", "replace")
    return list(dict.fromkeys((match[1], int(match[3]), int(match[2]), match[4]) for match in _LINE.finditer(text)))
