"""The process that works on backups, run with the asking user's rights where no daemon can."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from btmctl.errors import FAILED, CommandError

Document = dict[str, Any]
Progress = Callable[[float | None, str], None]


class BackupFailed(CommandError):
    """The process refused; carries the error's own code and exit code."""


def run_backup_process(request: Document, progress: Progress) -> Document:
    """Carry out one request; told its progress, returns its result. Raises BackupFailed."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "btmd.backup"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Read by nobody: a pipe that fills up would hold the process.
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    last: Document = {}
    try:
        # Secrets go this way and not on the command line. Its end tells the process that nobody waits any more.
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        for line in process.stdout:
            last = json.loads(line)
            if "progress" in last:
                progress(last["progress"], last.get("text", ""))
    except (OSError, ValueError):
        last = {}
    finally:
        process.stdin.close()
        process.wait()
    if "result" in last:
        return dict(last["result"])
    raise _failure(last.get("error"), process.returncode)


def _failure(error: Document | None, returncode: int) -> BackupFailed:
    from btmd.errors import ChildFailed, all_errors

    if error is None:
        what = ChildFailed.title + "."
        return BackupFailed(what, f"It ended with code {returncode}.", "", code=ChildFailed.code, exit_code=FAILED)
    kind = all_errors().get(error["code"], ChildFailed)
    return BackupFailed(
        kind.title + ".", error["detail"], error.get("hint", ""), code=error["code"], exit_code=kind.exit_code
    )
