"""Whether a service can reach the program that its unit names: the interpreter, its packages, and ours among them."""

import os
import stat
from collections.abc import Iterable, Mapping

from btmctl.errors import Refused
from btmctl.own_installation import own_installation

HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")
"""What the sandbox of the system's unit shows as empty (ProtectHome=, PrivateTmp=)."""
PASSING = ("/tmp", "/var/tmp", "/dev/shm", "/run")
"""What is emptied by the next start of the machine, if not before."""
_PROBE = """
import json, os, sys
import btmd, btmctl
found = [sys.executable, sys.prefix, sys.base_prefix, *sys.path, btmd.__path__[0], btmctl.__path__[0]]
print(json.dumps([one for one in found if one and os.path.exists(one)]))
"""


def require_reachable(python: str, environment: Mapping[str, str], *, system: bool) -> None:
    """Raises Refused, with the remedy, where the unit's user would not find or not be let to the program."""
    installation = own_installation()
    own = "btmctl daemon install --user"
    if system:
        commands = f"{installation.for_everybody} && sudo /opt/btmd/bin/btmctl daemon install --system"
        remedy = f"Install it where everybody may read: {commands}. Or have it for yourself alone: {own}."
    else:
        remedy = f"Install it to stay: {installation.to_stay}, then {own}."
    for path in [python, *_used_by(python, environment, remedy)]:
        why = closed_to_others(path) if system else passing(path, environment)
        if why:
            raise Refused("The service could not reach its program.", why, remedy, code="program_unreachable")


def _used_by(python: str, environment: Mapping[str, str], remedy: str) -> list[str]:
    """Files and folders that the interpreter takes part of the program from, as a service starts it."""
    import json
    import subprocess

    clean = {name: value for name, value in environment.items() if not name.startswith("PYTHON")}
    try:
        done = subprocess.run(
            [python, "-P", "-c", _PROBE], env=clean, cwd="/", capture_output=True, text=True, timeout=60, check=True
        )
        return [str(one) for one in json.loads(done.stdout)]
    except subprocess.CalledProcessError as error:
        lines = str(error.stderr).strip().splitlines()
        why = f"{python} does not find btmd by itself: {lines[-1] if lines else error}."
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        why = f"{python} cannot be run: {error}."
    raise Refused("The service could not reach its program.", why, remedy, code="program_unreachable")


def closed_to_others(path: str, hidden: Iterable[str] | None = None) -> str:
    """Why a user without rights of their own cannot read this in the sandbox of the system's unit; empty: they can."""
    for place in (os.path.abspath(path), os.path.realpath(path)):
        for home in HIDDEN if hidden is None else hidden:
            if place == home or place.startswith(home + "/"):
                return f"{place} lies in {home}, which the service does not see."
        for folder in _above(place):
            mode = os.stat(folder).st_mode
            if not mode & stat.S_IXOTH:
                return f"{place} lies in {folder}, which is closed to other users (mode {stat.S_IMODE(mode):04o})."
        mode = os.stat(place).st_mode
        if not mode & stat.S_IROTH or (stat.S_ISDIR(mode) and not mode & stat.S_IXOTH):
            return f"{place} is closed to other users (mode {stat.S_IMODE(mode):04o})."
    return ""


def passing(path: str, environment: Mapping[str, str]) -> str:
    """Why this will not be there for long; empty: it will."""
    from btmctl.places import cache_home

    place = os.path.abspath(path)
    for folder in (*PASSING, cache_home(environment)):
        if place.startswith(folder + "/"):
            return f"{place} lies in {folder}, which is emptied now and then."
    return ""


def _above(path: str) -> list[str]:
    found = []
    while (path := os.path.dirname(path)) != "/":
        found.append(path)
    return found[::-1]
