"""Keeping the machine awake: inhibitor locks of logind, held by open descriptors."""

import os
from typing import Any

from msgspec import Struct, field

BUS_S = 5.0
BLOCKED = ("sleep", "idle")
"""One lock each: of a lock on both, logind asks polkit whether the lid switch may be blocked (seen with 252)."""
_MISSING = (
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.Spawn.",
    "org.freedesktop.systemd1.",
)
"""Beginnings of errors that mean that there is no logind here."""


class SleepLock(Struct):
    """What came of asking: what is blocked, each while its descriptor is open; ``problem`` where some was refused.

    Without a bus or a logind there is neither: nothing sends such a machine to sleep.
    """

    descriptors: dict[str, int] = field(default_factory=dict)
    problem: str = ""

    @property
    def whole(self) -> bool:
        return len(self.descriptors) == len(BLOCKED)

    def release(self) -> None:
        """Let the machine sleep again."""
        while self.descriptors:
            os.close(self.descriptors.popitem()[1])


def take_sleep_lock(why: str) -> SleepLock:
    """Ask for sleep and idle to be blocked. Blocks for some milliseconds."""
    # Only a daemon with a training needs D-Bus.
    try:
        from jeepney import DBusErrorResponse
        from jeepney.io.blocking import open_dbus_connection
    except ImportError:
        return SleepLock(problem="jeepney is not installed")
    taken = SleepLock()
    try:
        with open_dbus_connection("SYSTEM", enable_fds=True) as bus:
            for what in BLOCKED:
                try:
                    taken.descriptors[what] = _inhibit(bus, what, why)
                except DBusErrorResponse as refused:
                    if refused.name.startswith(_MISSING):
                        break
                    taken.problem = refused.name.rpartition(".")[2]
    except (FileNotFoundError, ConnectionRefusedError, KeyError):
        pass
    except (OSError, ValueError, EOFError) as problem:
        # A bus that does not let us in, or does not answer.
        taken.problem = str(problem) or type(problem).__name__
    return taken


def _inhibit(bus: Any, what: str, why: str) -> int:
    from jeepney import DBusAddress, new_method_call
    from jeepney.wrappers import unwrap_msg

    manager = DBusAddress("/org/freedesktop/login1", "org.freedesktop.login1", "org.freedesktop.login1.Manager")
    call = new_method_call(manager, "Inhibit", "ssss", (what, "btmd", why, "block"))
    (descriptor,) = unwrap_msg(bus.send_and_get_reply(call, timeout=BUS_S))
    return int(descriptor.to_raw_fd())
