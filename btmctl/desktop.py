"""Showing a notification on the desktop and speaking it: D-Bus's session bus, and speech programs that are there."""

import shutil
import subprocess

from btmctl.errors import Refused

SHOWN_MS = 15_000
SHOWN_URGENT_MS = 0
"""Until somebody closes it."""
NORMAL, CRITICAL = 1, 2
BUS_S = 5.0
SPEECH_S = 60.0
SPEAKERS = (("spd-say", "--wait", "--"), ("espeak-ng", "--"), ("espeak", "--"))


class NotShown(Refused):
    """It could not be shown or spoken; ``why`` says what is missing."""


def show(title: str, text: str, *, urgent: bool) -> None:
    """Hand a notification to the desktop. Raises NotShown."""
    # Only who shows something needs D-Bus.
    from jeepney import DBusAddress, DBusErrorResponse, new_method_call
    from jeepney.io.blocking import open_dbus_connection
    from jeepney.wrappers import unwrap_msg

    service = DBusAddress(
        "/org/freedesktop/Notifications", "org.freedesktop.Notifications", "org.freedesktop.Notifications"
    )
    hints = {"urgency": ("y", CRITICAL if urgent else NORMAL), "category": ("s", "transfer")}
    shown_ms = SHOWN_URGENT_MS if urgent else SHOWN_MS
    body: tuple[object, ...] = ("btmd", 0, "", title, _plain(text), [], hints, shown_ms)
    try:
        with open_dbus_connection("SESSION") as bus:
            call = new_method_call(service, "Notify", "susssasa{sv}i", body)
            unwrap_msg(bus.send_and_get_reply(call, timeout=BUS_S))
    except DBusErrorResponse as refused:
        raise NotShown("The desktop shows no notification.", f"{refused.name} ({refused.data}).", HINT) from None
    except (OSError, KeyError, ValueError, EOFError) as problem:
        why = "There is no session bus" if isinstance(problem, KeyError) else str(problem) or type(problem).__name__
        raise NotShown("The desktop cannot be reached.", f"{why.rstrip('.')}.", HINT) from None


HINT = "btmctl config set notify.desktop=no leaves the desktop out; notify.command=PROGRAM tells a program instead."


def speak(text: str) -> None:
    """Say it with the first speech program there is. Raises NotShown."""
    for name, *options in SPEAKERS:
        found = shutil.which(name)
        if found is None:
            continue
        try:
            done = subprocess.run([found, *options, text], stdin=subprocess.DEVNULL, timeout=SPEECH_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise NotShown("It cannot be spoken.", f"{name}: {problem}.", SPEECH_HINT) from None
        if done.returncode:
            raise NotShown("It cannot be spoken.", f"{name} ended with code {done.returncode}.", SPEECH_HINT)
        return
    raise NotShown("It cannot be spoken.", "Neither spd-say nor espeak-ng nor espeak is installed.", SPEECH_HINT)


SPEECH_HINT = "Install speech-dispatcher or espeak-ng, or: btmctl config set notify.speech=no"


def _plain(text: str) -> str:
    """Text for a body that desktops read as markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
