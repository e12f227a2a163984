"""A trainer as the daemon sees it: a process with a group of its own, known by its pidfd, ours or found again."""

import os
import signal
import subprocess
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
    def spawn(cls, folder: JobFolder, attempt: int, *, lock: int, log: int) -> "RunningTrainer":
        """Start a trainer that inherits ``lock`` and writes to ``log``. Raises OSError."""
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
                pass_fds=(lock,),
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

    async def gone(self) -> None:
        """Return once the process has ended; a child is reaped."""
        if not self._gone:
            await anyio.wait_readable(self._pidfd)
            self._gone = True
            if self._child is not None:
                self._child.wait()

    @property
    def exit_text(self) -> str:
        """How it ended, in words; empty for a process that was not our child."""
        code = None if self._child is None else self._child.poll()
        if code is None:
            return ""
        if code == -signal.SIGKILL:
            return "The training process was killed (signal 9), as the system does when memory runs out."
        if code < 0:
            return f"The training process was ended by signal {-code}."
        return f"The training process ended with code {code} without a word."

    def terminate(self) -> None:
        """Ask it to do what the control file says."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)

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
