"""A trainer as the daemon sees it: a process with a group of its own, known by its pidfd, ours or found again."""

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress

import anyio

from btmd.job_folder import JobFolder
from btmd.own_program import own_command, own_environment


def open_log(folder: JobFolder, attempt: int) -> int:
    """A descriptor for what an attempt's trainer writes. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(folder.log_path(attempt), flags, 0o600)


class RunningTrainer:
    """One trainer. ``child`` is set when this daemon started it; another daemon's is only watched."""

    def __init__(self, pid: int, pidfd: int, child: "subprocess.Popen[bytes] | None" = None) -> None:
        self.pid = pid
        self._pidfd = pidfd
        self._child = child
        self._gone = False

    @classmethod
    def spawn(cls, folder: JobFolder, attempt: int, *, locks: Sequence[int], log: int) -> "RunningTrainer":
        """Start a trainer that inherits ``locks`` and writes to ``log``. Raises OSError."""
        command = own_command("btmd.trainer", str(folder.path), "--attempt", str(attempt))
        # The trainer starts with SIGTERM blocked and takes it once it can handle it, so that a pause asked in its
        # first milliseconds is a pause and not a death.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder.path,
                env=own_environment(),
                pass_fds=tuple(locks),
                start_new_session=True,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return cls(child.pid, os.pidfd_open(child.pid), child)

    @classmethod
    def find(cls, folder: JobFolder) -> "RunningTrainer | None":
        """The living trainer that wrote this folder's pid file, if there is one."""
        written = folder.read_pid()
        if written is None:
            return None
        try:
            pidfd = os.pidfd_open(written.pid)
        except ProcessLookupError:
            return None
        # Looked at again now that the descriptor holds the process: its number cannot change hands any more.
        if folder.read_pid() != written:
            os.close(pidfd)
            return None
        return cls(written.pid, pidfd)

    @property
    def is_found_again(self) -> bool:
        """Whether another daemon started it."""
        return self._child is None

    async def gone(self) -> None:
        """Return once the process has ended; a child is reaped."""
        if not self._gone:
            await anyio.wait_readable(self._pidfd)
            self._gone = True
            if self._child is not None:
                self._child.wait()

    @property
    def ended_by_signal(self) -> int | None:
        """The signal that ended it; None for none, and for a process that was not our child."""
        code = self._exit()
        return -code if code is not None and code < 0 else None

    @property
    def exit_code(self) -> int | None:
        """What it ended with by itself; None when a signal ended it, and for a process that was not our child."""
        code = self._exit()
        return code if code is not None and code >= 0 else None

    def _exit(self) -> int | None:
        return None if self._child is None else self._child.poll()

    def terminate(self) -> None:
        """Ask it to do what the control file says; one that was stopped goes on for that."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)
            signal.pidfd_send_signal(self._pidfd, signal.SIGCONT)

    def kill_group(self) -> None:
        """End it and everything it started."""
        if self._gone:
            return
        # While the process is there, or not reaped, its number names nobody else's group.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def close(self) -> None:
        anyio.notify_closing(self._pidfd)
        os.close(self._pidfd)
