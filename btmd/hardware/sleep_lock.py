"""Keeping the machine awake: an inhibitor lock of logind, held by an open descriptor."""

import os
from dataclasses import dataclass
from typing import Any

BUS_S = 5.0
SLEEP_AND_IDLE, IDLE = "sleep:idle", "idle"
_MISSING = (
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.Spawn.",
    "org.freedesktop.systemd1.",
)
"""Beginnings of errors that mean that there is no logind here."""


@dataclass(slots=True)
class SleepLock:
    """What came of asking: a lock on ``what`` while ``descriptor`` is open; ``problem`` where more was refused.

    Without a bus or a logind there is neither: nothing sends such a machine to sleep.
    """

    descriptor: int | None = None
    what: str = ""
    problem: str = ""

    def release(self) -> None:
        """Let the machine sleep again."""
        if self.descriptor is not None:
            os.close(self.descriptor)
        self.descriptor, self.what = None, ""


def take_sleep_lock(why: str) -> SleepLock:
    """Ask for sleep and idle to be blocked, and for idle alone where that is refused. Blocks for some milliseconds."""
    # Only a daemon with a training needs D-Bus.
    try:
        from jeepney import DBusErrorResponse
        from jeepney.io.blocking import open_dbus_connection
    except ImportError:
        return SleepLock(problem="jeepney is not installed")
    try:
        with open_dbus_connection("SYSTEM", enable_fds=True) as bus:
            try:
                return SleepLock(_inhibit(bus, SLEEP_AND_IDLE, why), SLEEP_AND_IDLE)
            except DBusErrorResponse as refused:
                if refused.name.startswith(_MISSING):
                    return SleepLock()
                problem = refused.name.rpartition(".")[2]
            try:
                return SleepLock(_inhibit(bus, IDLE, why), IDLE, problem)
            except DBusErrorResponse:
                return SleepLock(problem=problem)
    except (FileNotFoundError, ConnectionRefusedError, KeyError):
        return SleepLock()
    except (OSError, ValueError, EOFError) as problem:
        # A bus that does not let us in, or does not answer.
        return SleepLock(problem=str(problem) or type(problem).__name__)


def _inhibit(bus: Any, what: str, why: str) -> int:
    from jeepney import DBusAddress, new_method_call
    from jeepney.wrappers import unwrap_msg

    manager = DBusAddress("/org/freedesktop/login1", "org.freedesktop.login1", "org.freedesktop.login1.Manager")
    call = new_method_call(manager, "Inhibit", "ssss", (what, "btmd", why, "block"))
    (descriptor,) = unwrap_msg(bus.send_and_get_reply(call, timeout=BUS_S))
    return int(descriptor.to_raw_fd())
