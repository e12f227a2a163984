"""Making the daemon a service, and taking that back: which files, in which order, and what is told."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from btmctl import daemon_units, places, state_removal, words
from btmctl.daemon_reach import require_reachable
from btmctl.daemon_systemd import Systemd
from btmctl.daemon_units import SERVICE, SOCKET, UnitFile
from btmctl.errors import NOT_PERMITTED, CommandError, Refused
from btmctl.session import Session
from btmctl.unix_http import probe

SYSTEM_STATE, SYSTEM_CONFIG = "/var/lib/btmd", "/etc/btmd"
LINGER = (
    "Without lingering, logging out ends the daemon, and trainings with it: they save a checkpoint and go on at the "
    "next login."
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for. ``root``: a folder to write below, in which nothing is started; empty for this system."""

    user: bool
    python: str
    root: str = ""
    packaged: bool = False
    start: bool = True
    dry_run: bool = False
    replace: bool = False
    linger: bool | None = None


def install(wish: Wish, session: Session) -> dict[str, Any]:
    """Write what is to be there, and start it. Raises Refused, CommandError; before that, nothing was changed."""
    systemd = Systemd(session.environment, user=wish.user)
    files = _files(wish, session)
    here = not wish.root
    if here and not wish.dry_run:
        systemd.require()
        _require_rights(wish)
    # A package names the interpreter of the machines that it goes to: the one here need not have btmd.
    if here or (not wish.packaged and os.path.exists(wish.python)):
        require_reachable(wish.python, session.environment, system=not wish.user)
    kept = _kept(files, wish)
    commands = _commands(files, wish, systemd) if here else []
    told: dict[str, object] = {
        "scope": "user" if wish.user else "system",
        "files": [{"path": wish.root + one.path, "text": one.text} for one in files],
        "commands": [" ".join(one) for one in commands],
        "drop_ins": daemon_units.drop_ins(files, wish.root),
        "kept": [f"{path}.before" for path in kept],
        "dry_run": wish.dry_run,
    }
    if wish.dry_run:
        return told
    if here:
        _require_no_other(wish, systemd, session)
    for path in kept:
        os.replace(path, f"{path}.before")
    for one in files:
        try:
            daemon_units.write(wish.root + one.path, one.text)
        except OSError as problem:
            raise Refused(
                f"{wish.root}{one.path} cannot be written.",
                str(problem.strerror),
                "Nothing was started.",
                code="refused",
            ) from None
    for command in commands:
        session.output.progress_text(" ".join(command))
        systemd.run(command)
    session.output.end_progress()
    if here and wish.user:
        told["linger"] = _offer_lingering(wish, systemd, session)
    return told


def uninstall(wish: Wish, session: Session, *, delete_state: bool) -> dict[str, Any]:
    """Stop it and remove what ``install`` has written. Drop-ins, changed files and, unless told, the state stay.

    Raises Refused, CommandError, OSError.
    """
    systemd = Systemd(session.environment, user=wish.user)
    files = _files(wish, session)
    owned = {one.path: daemon_units.whose(wish.root + one.path) for one in files}
    ours = [one for one in files if owned[one.path] == "ours"]
    here = not wish.root
    state = [path for path in _state(wish, session) if os.path.isdir(path)]
    told: dict[str, object] = {
        "scope": "user" if wish.user else "system",
        "removed": [wish.root + one.path for one in ours],
        "changed_by_hand": [wish.root + path for path, whose in owned.items() if whose == "changed"],
        "drop_ins": daemon_units.drop_ins(files, wish.root),
        "state": state,
        "state_deleted": False,
        "still_answers": "",
        "dry_run": wish.dry_run,
    }
    if delete_state:
        state_removal.require_ours(state)
    if wish.dry_run:
        return told
    if here:
        _require_rights(wish)
    is_service = here and systemd.is_there() and systemd.has_unit()
    if delete_state:
        if not is_service:
            state_removal.require_unused(state)
        _confirm_deletion(state, session)
    if is_service:
        session.output.progress_text("Stopping the daemon; its trainings save a checkpoint first...")
        systemd.run([*systemd.systemctl, "disable", "--now", SOCKET, SERVICE])
        session.output.end_progress()
    for one in ours:
        os.unlink(wish.root + one.path)
    if here and systemd.is_there():
        systemd.run([*systemd.systemctl, "daemon-reload"])
    if here and not delete_state and probe(_socket(wish, session)) is None:
        told["still_answers"] = _socket(wish, session)
    if delete_state:
        # A trainer whose checkpoint takes longer than the service manager waits, say, or a daemon started by hand.
        state_removal.require_unused(state)
        state_removal.delete(state)
        told["state_deleted"] = True
    return told


def _confirm_deletion(state: Sequence[str], session: Session) -> None:
    """Raises Refused unless it was answered with yes."""
    for text in state_removal.warnings(state):
        session.output.say(text, "yellow")
    size = words.size(state_removal.size_bytes(state))
    question = f"Delete {' and '.join(state)} ({size}), with every dataset copy, result and the whole history?"
    if state and not session.confirm(question, otherwise="--yes deletes them."):
        raise Refused(
            "Nothing was changed.", "The question was answered with no.", "btmctl daemon uninstall keeps the state."
        )


def _files(wish: Wish, session: Session) -> list[UnitFile]:
    if wish.user:
        return daemon_units.user_files(wish.python, session.environment, packaged=wish.packaged)
    return daemon_units.system_files(wish.python, packaged=wish.packaged)


def _state(wish: Wish, session: Session) -> list[str]:
    if not wish.user:
        return [wish.root + SYSTEM_STATE, wish.root + SYSTEM_CONFIG]
    found = session.environment
    base = found.get("XDG_CONFIG_HOME", "")
    base = base if os.path.isabs(base) else os.path.join(os.path.expanduser("~"), ".config")
    config = os.path.abspath(found.get("BTMD_CONFIG_DIR") or os.path.join(base, "btmd"))
    return [places.own_state(found), config, places.quickstart_state(found)]


def _require_rights(wish: Wish) -> None:
    if not wish.user and os.geteuid() != 0:
        raise CommandError(
            "The system's service takes root's rights.",
            "It writes below /etc and makes a user called btmd.",
            f"sudo {_own_command()} daemon install --system; or for yourself alone: btmctl daemon install --user.",
            code="not_permitted",
            exit_code=NOT_PERMITTED,
        )


def _own_command() -> str:
    own = os.path.abspath(sys.argv[0])
    return own if os.path.basename(own) == "btmctl" else "btmctl"


def _kept(files: Sequence[UnitFile], wish: Wish) -> list[str]:
    """The files that somebody changed; with ``replace`` they are moved aside. Raises Refused."""
    changed = [wish.root + one.path for one in files if daemon_units.whose(wish.root + one.path) == "changed"]
    if changed and not wish.replace:
        raise Refused(
            "What is there was written or changed by somebody else.",
            f"{', '.join(changed)}: writing it anew would lose that.",
            "Move the changes to a drop-in (systemctl edit btmd); then --replace writes it anew (old: .before).",
            code="changed_by_hand",
        )
    return changed


def _require_no_other(wish: Wish, systemd: Systemd, session: Session) -> None:
    """A daemon that somebody started by hand has the socket and the state folder."""
    path = _socket(wish, session)
    if not wish.start or probe(path) is not None:
        return
    if any(systemd.show(unit).get("ActiveState") == "active" for unit in (SERVICE, SOCKET)):
        return
    raise Refused(
        "A daemon runs already, started by hand.",
        f"It answers at {path}.",
        "btmctl daemon stop ends it with its trainings saved; they go on under the service.",
        code="already_running",
    )


def _socket(wish: Wish, session: Session) -> str:
    return places.user_sockets(session.environment)[0] if wish.user else places.SYSTEM_SOCKET


def _commands(files: Sequence[UnitFile], wish: Wish, systemd: Systemd) -> list[list[str]]:
    """What has to be run, in order, once the files are there."""
    own = systemd.systemctl
    by_folder = {os.path.basename(os.path.dirname(one.path)): one.path for one in files}
    found = []
    if not wish.user:
        found += [
            ["systemd-sysusers", by_folder["sysusers.d"]],
            ["systemd-tmpfiles", "--create", by_folder["tmpfiles.d"]],
        ]
    found.append([*own, "daemon-reload"])
    if not wish.start:
        return found
    found.append([*own, "enable", SOCKET, SERVICE])
    # A service that runs without its socket, as one of an earlier version, would keep the socket from being made.
    if systemd.show(SERVICE).get("ActiveState") == "active" and systemd.show(SOCKET).get("ActiveState") != "active":
        found.append([*own, "stop", SERVICE])
    # A restart also starts; trainings go on meanwhile.
    return [*found, [*own, "start", SOCKET], [*own, "restart", SERVICE]]


def _offer_lingering(wish: Wish, systemd: Systemd, session: Session) -> bool:
    if systemd.lingers():
        return True
    wanted = wish.linger
    if wanted is None and (session.can_ask or session.yes):
        session.output.say(LINGER)
        wanted = session.confirm("Let it go on when you log out?", otherwise="--linger")
    if not wanted:
        session.output.say(f"{LINGER} `loginctl enable-linger` lets them go on.", "yellow")
        return False
    systemd.enable_linger()
    return True
