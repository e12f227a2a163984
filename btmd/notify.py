"""Telling the service manager how we are: READY, STATUS, WATCHDOG, STOPPING (sd_notify's protocol)."""

import socket


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
        message = "\n".join(f"{name}={value}" for name, value in states.items())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.connect(self._address)
            sender.sendall(message.encode())
