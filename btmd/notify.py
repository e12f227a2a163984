"""Telling the service manager how we are: READY, STATUS, WATCHDOG, RELOADING, STOPPING (sd_notify's protocol)."""

import re
import socket

PATIENCE_S = 1.0
_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class Notifier:
    """Sends states to the service manager's socket; does nothing where there is none."""

    def __init__(self, address: str) -> None:
        # An address with @ lies in the abstract namespace, whose names start with a zero byte.
        self._address = "\0" + address[1:] if address.startswith("@") else address

    @property
    def present(self) -> bool:
        return bool(self._address)

    def send(self, **states: str | int) -> None:
        """Send ``READY=1`` and the like. Raises OSError when the manager's socket is gone."""
        if not self._address:
            return
        # A line end within a value, as in the name of a job, would begin a state of its own.
        message = "\n".join(f"{name}={_STEERING.sub(' ', str(value))}" for name, value in states.items())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            # Whoever does not read must not hold us up; how we are will be told again.
            sender.settimeout(0 if states.keys() == {"STATUS"} else PATIENCE_S)
            sender.connect(self._address)
            sender.sendall(message.encode())
