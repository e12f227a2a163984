"""The files that make btmd a service: what they hold on this machine, where they go, and whose they are.

Each begins with a line that says who wrote it and has a fingerprint of the rest. A file whose fingerprint fits may be
written anew or removed; any other is a person's, as all drop-ins are, and stays.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from btmctl import places

SERVICE, SOCKET = "btmd.service", "btmd.socket"
TEMPLATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "units")
_MARK = "Written by `btmctl daemon install`; changes belong in a drop-in. Fingerprint: "
_PASSED_ON = ("BTMD_STATE_DIR", "BTMD_CONFIG_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "HF_HOME", "HF_HUB_CACHE")
"""What a user's own environment says of where things lie; the service manager does not know it by itself."""


@dataclass(frozen=True, slots=True)
class UnitFile:
    """A file to be there. ``path`` is where the running system has it, without the folder of ``--root``."""

    path: str
    text: str

    @property
    def name(self) -> str:
        return os.path.basename(self.path)


def system_files(python: str, *, packaged: bool = False) -> list[UnitFile]:
    """The files of the machine's own daemon; ``packaged``: in the folders that a distribution's packages use."""
    units, etc, polkit = "/etc/systemd/system", "/etc", "/etc/polkit-1/rules.d"
    if packaged:
        units, etc, polkit = "/usr/lib/systemd/system", "/usr/lib", "/usr/share/polkit-1/rules.d"
    wanted = [
        (units, SERVICE, SERVICE),
        (units, SOCKET, SOCKET),
        (units, "btmd-devices.service", "btmd-devices.service"),
        (f"{etc}/sysusers.d", "btmd.conf", "btmd.sysusers.conf"),
        (f"{etc}/tmpfiles.d", "btmd.conf", "btmd.tmpfiles.conf"),
        (polkit, "50-btmd-sleep.rules", "50-btmd-sleep.rules"),
    ]
    return [_made(folder, name, _template("system", template), python) for folder, name, template in wanted]


def user_files(python: str, environment: Mapping[str, str], *, packaged: bool = False) -> list[UnitFile]:
    """The files of one user's daemon, with the places that ``environment`` names."""
    folder = "/usr/lib/systemd/user" if packaged else user_units(environment)
    service, socket = _template("user", SERVICE), _template("user", SOCKET)
    if not packaged:
        passed_on = [f"{name}={environment[name]}" for name in _PASSED_ON if environment.get(name)]
        if passed_on:
            lines = "".join(f"Environment={_quoted(one)}\n" for one in passed_on)
            service = service.replace("\nExecStart=", f"\n{lines}ExecStart=", 1)
        named = environment.get("BTMD_SOCKET")
        if named or environment.get("BTMD_STATE_DIR"):
            # btmctl looks there with the same environment, and nowhere else.
            path = os.path.abspath(os.path.expanduser(named)) if named else places.user_sockets(environment)[0]
            socket = socket.replace("ListenStream=%t/btmd/btmd.sock", f"ListenStream={_escaped(path)}")
    made = [(SERVICE, service), (SOCKET, socket), ("btmd-notify.service", _template("user", "btmd-notify.service"))]
    return [_made(folder, name, text, python) for name, text in made]


def user_units(environment: Mapping[str, str]) -> str:
    """The folder of a user's own units."""
    given = environment.get("XDG_CONFIG_HOME", "")
    base = given if os.path.isabs(given) else os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(base, "systemd", "user")


def drop_ins(files: Sequence[UnitFile], root: str = "") -> list[str]:
    """What people have added to these units, which is theirs."""
    found = []
    for one in files:
        folder = f"{root}{one.path}.d"
        if os.path.isdir(folder):
            found += [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
    return found


def whose(path: str) -> str:
    """``none`` for no file, ``ours`` as this program wrote it, else ``changed``."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            first, _, rest = file.read().partition("\n")
    except FileNotFoundError:
        return "none"
    return "ours" if first.endswith(_MARK + _fingerprint(rest)) else "changed"


def write(path: str, text: str) -> None:
    """Put it there whole or not at all, readable by everybody. Raises OSError."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    aside = f"{path}.new-{os.getpid()}"
    try:
        with open(aside, "w", encoding="utf-8", opener=lambda at, flags: os.open(at, flags | os.O_EXCL, 0o644)) as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError:
        if os.path.lexists(aside):
            os.unlink(aside)
        raise


def _made(folder: str, name: str, template: str, python: str) -> UnitFile:
    text = template.replace("@PYTHON@", _command_word(python))
    comment = "//" if name.endswith(".rules") else "#"
    return UnitFile(os.path.join(folder, name), f"{comment} {_MARK}{_fingerprint(text)}\n{text}")


def _template(scope: str, name: str) -> str:
    with open(os.path.join(TEMPLATES, scope, name), encoding="utf-8") as file:
        return file.read()


def _fingerprint(text: str) -> str:
    from hashlib import sha256

    return sha256(text.encode()).hexdigest()[:16]


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """A word of a unit file, whatever is in it."""
    return '"' + _escaped(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _command_word(path: str) -> str:
    """The program of a command line, in which variables are not looked for."""
    plain = path.isascii() and not set(path) & set(" \"'\\%;")
    return path if plain else _quoted(path)
