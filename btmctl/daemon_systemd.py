"""Asking systemd, and having it do things: ``systemctl`` and its like, for the system or for one user."""

import os
from collections.abc import Mapping, Sequence

from btmctl.daemon_units import SERVICE, SOCKET
from btmctl.errors import FAILED, CommandError, Refused

BOOTED = "/run/systemd/system"
LINGER = "/var/lib/systemd/linger"
_SHOWN = (
    "LoadState", "ActiveState", "SubState", "UnitFileState", "StatusText", "MainPID", "NRestarts", "Result",
    "FragmentPath", "DropInPaths",
)  # fmt: skip


class Systemd:
    """The service manager of the machine, or with ``user`` that of the user who asks."""

    def __init__(self, environment: Mapping[str, str], *, user: bool) -> None:
        self._environment, self.user = environment, user

    @property
    def systemctl(self) -> list[str]:
        return ["systemctl", "--user"] if self.user else ["systemctl"]

    def is_there(self) -> bool:
        """Whether it runs and, for a user, can be reached from here."""
        if not os.path.isdir(BOOTED):
            return False
        return not self.user or os.path.exists(os.path.join(self._runtime(), "systemd"))

    def require(self) -> None:
        """Raises Refused, with the way on, where there is none."""
        if not os.path.isdir(BOOTED):
            raise Refused(
                "There is no systemd here.",
                "This machine was not started by it, as in most containers.",
                "btmctl daemon start runs the daemon in the background, btmctl daemon run in this terminal.",
                code="no_systemd",
            )
        if not self.is_there():
            raise Refused(
                "Your service manager cannot be reached.",
                "XDG_RUNTIME_DIR is not set or holds none: su and sudo do not begin a login of their own.",
                "Log in as this user (ssh, or machinectl shell USER@), then again.",
                code="no_systemd",
            )

    def run(self, command: Sequence[str]) -> str:
        """What it says. Raises CommandError in its own words."""
        import subprocess

        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        except OSError as problem:
            raise CommandError(
                f"{command[0]} cannot be run.",
                str(problem.strerror),
                f"{' '.join(command)} shows more.",
                code="systemd_failed",
                exit_code=FAILED,
            ) from None
        if done.returncode != 0:
            said = " ".join(done.stderr.split()) or f"It ended with exit code {done.returncode}."
            journal = "journalctl --user -u btmd -n 30" if self.user else "journalctl -u btmd -n 30"
            raise CommandError(
                f"{' '.join(command)} failed.", said, f"{journal} shows why.", code="systemd_failed", exit_code=FAILED
            )
        return done.stdout

    def show(self, unit: str = SERVICE) -> dict[str, str]:
        """The unit's properties; empty where systemd cannot be asked."""
        if not self.is_there():
            return {}
        try:
            said = self.run([*self.systemctl, "show", unit, "--no-pager", *(f"--property={name}" for name in _SHOWN)])
        except CommandError:
            return {}
        return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)

    def has_unit(self) -> bool:
        return self.show().get("LoadState") == "loaded"

    def start(self) -> None:
        """The socket first, so that nothing is missed; both may run already."""
        self.run([*self.systemctl, "start", SOCKET, SERVICE])

    def stop(self) -> None:
        """Both: with the socket alone, the next request would start it again."""
        self.run([*self.systemctl, "stop", SOCKET, SERVICE])

    def restart(self) -> None:
        self.run([*self.systemctl, "restart", SERVICE])

    def lingers(self) -> bool:
        """Whether the user's services outlive their logins; those of the system always do."""
        return not self.user or os.path.exists(os.path.join(LINGER, user_name()))

    def enable_linger(self) -> None:
        self.run(["loginctl", "enable-linger"])

    def _runtime(self) -> str:
        return self._environment.get("XDG_RUNTIME_DIR", "") or "/nonexistent"


def installed(environment: Mapping[str, str]) -> Systemd | None:
    """The service manager that has our unit, the user's own first; None where neither has it."""
    for user in (True, False):
        manager = Systemd(environment, user=user)
        if manager.has_unit():
            return manager
    return None


def user_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
