"""Where btmctl looks for a daemon, and where the private one of the quickstart lives."""

import os
from collections.abc import Mapping

SYSTEM_SOCKET = "/run/btmd/btmd.sock"


def state_home(environment: Mapping[str, str]) -> str:
    """The folder for state that outlives a session, after the XDG rules (a relative path there counts as unset)."""
    given = environment.get("XDG_STATE_HOME", "")
    return given if os.path.isabs(given) else os.path.join(os.path.expanduser("~"), ".local", "state")


def cache_home(environment: Mapping[str, str]) -> str:
    """The folder for what can be fetched again, after the XDG rules."""
    given = environment.get("XDG_CACHE_HOME", "")
    return given if os.path.isabs(given) else os.path.join(os.path.expanduser("~"), ".cache")


def data_home(environment: Mapping[str, str]) -> str:
    """The folder for a person's data, after the XDG rules."""
    given = environment.get("XDG_DATA_HOME", "")
    return given if os.path.isabs(given) else os.path.join(os.path.expanduser("~"), ".local", "share")


def own_state(environment: Mapping[str, str]) -> str:
    """The state folder of the user's own daemon."""
    given = environment.get("BTMD_STATE_DIR")
    return os.path.abspath(os.path.expanduser(given)) if given else os.path.join(state_home(environment), "btmd")


def user_sockets(environment: Mapping[str, str]) -> list[str]:
    """Where the user's own daemon may have its socket: the run-time folder, else its state folder.

    A daemon with a state folder of its own choosing has its socket there and nowhere else.
    """
    own_state = environment.get("BTMD_STATE_DIR")
    if own_state:
        return [os.path.join(os.path.abspath(os.path.expanduser(own_state)), "btmd.sock")]
    found = [os.path.join(state_home(environment), "btmd", "btmd.sock")]
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime):
        found.insert(0, os.path.join(runtime, "btmd", "btmd.sock"))
    return found


def quickstart_state(environment: Mapping[str, str]) -> str:
    """The fixed state folder of the quickstart's private daemon."""
    return os.path.join(state_home(environment), "btmd-quickstart")


def quickstart_socket(environment: Mapping[str, str]) -> str:
    """The private daemon's socket; in the run-time folder where there is one, since those paths are short."""
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime):
        return os.path.join(runtime, "btmd-quickstart", "btmd.sock")
    return os.path.join(quickstart_state(environment), "btmd.sock")


def named_socket(option: str | None, environment: Mapping[str, str]) -> str | None:
    """The socket somebody named, by ``--socket`` or ``BTMD_SOCKET``; then no other is tried.

    Falling back to another daemon than the named one would carry out a command in the wrong place.
    """
    return option or environment.get("BTMD_SOCKET") or None


def candidates(option: str | None, environment: Mapping[str, str]) -> list[str]:
    """The sockets to try, in order."""
    named = named_socket(option, environment)
    if named:
        return [named]
    return [*user_sockets(environment), SYSTEM_SOCKET, quickstart_socket(environment)]
