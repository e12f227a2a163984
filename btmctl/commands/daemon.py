"""btmctl daemon: run it here, make it a service, start, stop and restart it, or see how it is doing."""

import argparse
import os
import sys

from btmctl.errors import DONE, Refused, Unreachable
from btmctl.parser import Noun
from btmctl.session import Session


def command() -> Noun:
    noun = Noun("daemon", "The daemon keeps the log, runs the trainings and answers btmctl.")
    noun.verb(
        "run",
        run_daemon,
        "Run the daemon in this terminal until Ctrl-C; trainings go on without it.",
        ["btmctl daemon run", "btmctl daemon run -- --log-level debug"],
    ).add_argument("flags", nargs="*", metavar="FLAG", help="flags for btmd, after --")
    _installing(noun)
    noun.verb(
        "start",
        start,
        "Start the service; without systemd, a daemon in the background.",
        ["btmctl daemon start"],
    )
    noun.verb(
        "stop",
        stop,
        "Stop it. Its trainings save a checkpoint and end; they go on by themselves when it starts again.",
        ["btmctl daemon stop"],
    )
    noun.verb("restart", restart, "Restart it; trainings go on meanwhile.", ["btmctl daemon restart"])
    noun.verb(
        "status", show, "Show whether a daemon answers, its service, and its health.", ["btmctl daemon status --json"]
    )
    return noun


def _installing(noun: Noun) -> None:
    installing = noun.verb(
        "install",
        install,
        "Make the daemon a service of systemd: yours, or with root's rights the machine's.",
        [
            "btmctl daemon install --user --dry-run",
            "sudo /opt/btmd/bin/btmctl daemon install --system",
            "btmctl daemon install --system --root /tmp/package --packaged --python /usr/bin/python3",
        ],
    )
    removing = noun.verb(
        "uninstall",
        uninstall,
        "Stop the service and remove its files; drop-ins and the state stay unless told otherwise.",
        ["btmctl daemon uninstall --user", "sudo btmctl daemon uninstall --system --delete-state"],
    )
    for parser in (installing, removing):
        scope = parser.add_mutually_exclusive_group()
        scope.add_argument("--user", action="store_true", help="your own daemon (the default, except for root)")
        scope.add_argument("--system", action="store_true", help="the machine's daemon, under a user of its own")
        parser.add_argument("--dry-run", action="store_true", help="show what would be done, and change nothing")
        parser.add_argument("--root", metavar="DIR", help="write below DIR and start nothing: for packages and images")
        parser.add_argument("--packaged", action="store_true", help="use /usr/lib/systemd, as packages do")
    installing.add_argument("--python", metavar="PATH", help="the interpreter of the service (default: this one)")
    installing.add_argument("--no-start", action="store_true", help="write the files, enable and start nothing")
    installing.add_argument("--replace", action="store_true", help="write changed files anew; the old stay as .before")
    lingering = installing.add_mutually_exclusive_group()
    lingering.add_argument("--linger", action="store_true", help="let it go on when you log out, without asking")
    lingering.add_argument("--no-linger", action="store_true", help="let it end when you log out, without asking")
    removing.add_argument("--delete-state", action="store_true", help="data, results, history and settings go too")


def run_daemon(arguments: argparse.Namespace, session: Session) -> int:
    socket = ["--socket", session.socket_option] if session.socket_option else []
    session.output.say("Starting a daemon here; Ctrl-C ends it, and trainings go on.")
    # The daemon takes this process's place, so that signals reach it directly.
    os.execv(sys.executable, [sys.executable, "-m", "btmd", *socket, *arguments.flags])


def install(arguments: argparse.Namespace, session: Session) -> int:
    from btmctl import daemon_install
    from btmctl.daemon_install import Wish

    wish = Wish(
        user=_is_for_user(arguments),
        python=os.path.abspath(arguments.python or sys.executable),
        root=_root(arguments),
        packaged=arguments.packaged,
        start=not arguments.no_start,
        dry_run=arguments.dry_run,
        replace=arguments.replace,
        linger=True if arguments.linger else False if arguments.no_linger else None,
    )
    told, output = daemon_install.install(wish, session), session.output
    if output.as_json:
        output.document(told)
        return DONE
    for file in told["files"]:
        if wish.dry_run:
            output.line(file["path"], "bold")
            output.raw(file["text"] + "\n")
        else:
            output.line(f"written  {file['path']}")
    if wish.dry_run:
        _list(session, "would run", told["commands"])
    _list(session, "kept", [*_words(told["kept"]), *_words(told["drop_ins"])])
    if not wish.dry_run and not wish.root:
        output.say(
            "The daemon runs. `btmctl daemon status` shows how it is doing."
            if wish.start
            else "`btmctl daemon start` starts it."
        )
    return DONE


def uninstall(arguments: argparse.Namespace, session: Session) -> int:
    from btmctl import daemon_install
    from btmctl.daemon_install import Wish

    wish = Wish(
        user=_is_for_user(arguments),
        python=sys.executable,
        root=_root(arguments),
        packaged=arguments.packaged,
        dry_run=arguments.dry_run,
    )
    told, output = daemon_install.uninstall(wish, session, delete_state=arguments.delete_state), session.output
    if output.as_json:
        output.document(told)
        return DONE
    _list(session, "would remove" if wish.dry_run else "removed", told["removed"])
    _list(session, "changed by hand, stays", told["changed_by_hand"])
    _list(session, "drop-in, stays", told["drop_ins"])
    if not told["removed"]:
        output.say("There was nothing of ours to remove.")
    if told["state_deleted"]:
        _list(session, "deleted", told["state"])
        return DONE
    if told["still_answers"]:
        text = f"A daemon that was started by hand goes on and answers at {told['still_answers']}"
        output.say(f"{text}: btmctl daemon stop ends it.", "yellow")
    _list(session, "would delete" if arguments.delete_state else "state, stays", told["state"])
    if told["state"] and not arguments.delete_state:
        scope = "--user" if wish.user else "--system"
        output.say(f"btmctl daemon uninstall {scope} --delete-state deletes it, after a question.")
    return DONE


def start(arguments: argparse.Namespace, session: Session) -> int:
    from btmctl.daemon_systemd import installed

    systemd = None if _is_named(session) else installed(session.environment)
    if systemd is not None:
        session.output.progress_text("Starting the service...")
        systemd.start()
        session.output.end_progress()
        return _done(session, "The service runs.", {"started": "btmd.service"})
    from btmctl import daemon_alone

    socket_path, log_path = daemon_alone.start(session)
    session.output.end_progress()
    text = f"A daemon runs in the background and listens at {socket_path}; its log is {log_path}."
    return _done(
        session,
        f"{text} `btmctl daemon install` makes it a service that comes back by itself.",
        {"started": "process", "socket": socket_path, "log": log_path},
    )


def stop(arguments: argparse.Namespace, session: Session) -> int:
    from btmctl.daemon_systemd import installed

    systemd = None if _is_named(session) else installed(session.environment)
    if systemd is not None and systemd.show().get("ActiveState") in ("active", "activating", "reloading"):
        session.output.progress_text("Stopping the service; its trainings save a checkpoint first...")
        systemd.stop()
        session.output.end_progress()
        stopped: dict[str, object] = {"stopped": "btmd.service"}
    else:
        from btmctl import daemon_alone

        stopped = {"stopped": "process", "socket": daemon_alone.stop(session, save=True)}
    return _done(session, "The daemon has ended. Its trainings go on by themselves when it starts again.", stopped)


def restart(arguments: argparse.Namespace, session: Session) -> int:
    from btmctl.daemon_systemd import installed

    systemd = None if _is_named(session) else installed(session.environment)
    if systemd is not None:
        session.output.progress_text("Restarting the service...")
        systemd.restart()
        session.output.end_progress()
        return _done(session, "The service was restarted; trainings went on.", {"restarted": "btmd.service"})
    from btmctl import daemon_alone

    daemon_alone.stop(session, save=False)
    socket_path, log_path = daemon_alone.start(session)
    session.output.end_progress()
    document: dict[str, object] = {"restarted": "process", "socket": socket_path, "log": log_path}
    return _done(session, f"The daemon was restarted; trainings went on. Its log is {log_path}.", document)


def show(arguments: argparse.Namespace, session: Session) -> int:
    try:
        client, output = session.find_client(start_private=False), session.output
    except Unreachable as error:
        unit = _unit(session)
        if not unit:
            raise
        raise Unreachable(
            error.what,
            f"{error.why} The {unit['scope']}'s service is {unit['state']}: {unit['result']}.",
            "btmctl daemon start starts it.",
        ) from None
    health = client.get("/health")
    # Afterwards: the question itself may have started it.
    unit = _unit(session)
    if output.as_json:
        output.document({**health, "socket": client.socket_path, "unit": unit or None})
        return DONE
    output.fields([("daemon", client.socket_path), *_flat({"service": unit} if unit else {}), *_flat(health)])
    if unit.get("lingers") is False:
        from btmctl.daemon_install import LINGER

        output.say(f"{LINGER} `loginctl enable-linger` lets them go on.", "yellow")
    return DONE


def _unit(session: Session) -> dict[str, object]:
    """How the service stands; empty where there is none, or another daemon was named."""
    from btmctl.daemon_systemd import installed

    systemd = None if _is_named(session) else installed(session.environment)
    if systemd is None:
        return {}
    shown = systemd.show()
    return {
        "scope": "user" if systemd.user else "system",
        "state": f"{shown.get('ActiveState')} ({shown.get('SubState')})",
        "at start-up": shown.get("UnitFileState", ""),
        "says": shown.get("StatusText", ""),
        "process": int(shown.get("MainPID") or 0),
        "restarts": int(shown.get("NRestarts") or 0),
        "result": shown.get("Result", ""),
        "file": shown.get("FragmentPath", ""),
        "drop-ins": shown.get("DropInPaths", "").split(),
        **({"lingers": systemd.lingers()} if systemd.user else {}),
    }


def _is_for_user(arguments: argparse.Namespace) -> bool:
    return bool(arguments.user) or (not arguments.system and os.geteuid() != 0)


def _root(arguments: argparse.Namespace) -> str:
    if arguments.packaged and not arguments.root:
        raise Refused(
            "--packaged is for packages.",
            "Without --root it would write where the system's package manager does.",
            "btmctl daemon install --packaged --root DIR",
        )
    return os.path.abspath(arguments.root).rstrip("/") if arguments.root else ""


def _is_named(session: Session) -> bool:
    """Whether a daemon was named that need not be the service's."""
    from btmctl import places

    return places.named_socket(session.socket_option, session.environment) is not None


def _done(session: Session, text: str, document: dict[str, object]) -> int:
    if session.output.as_json:
        session.output.document(document)
    else:
        session.output.line(text)
    return DONE


def _list(session: Session, label: str, lines: object) -> None:
    for line in _words(lines):
        session.output.line(f"{label}  {line}")


def _words(lines: object) -> list[str]:
    return [str(one) for one in lines] if isinstance(lines, list) else []


def _flat(document: dict[str, object], prefix: str = "") -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for name, value in document.items():
        label = f"{prefix}{name}".replace("_", " ")
        if isinstance(value, dict):
            found += _flat(value, f"{label} ")
        elif isinstance(value, list):
            found.append((label, ", ".join(_word(one) for one in value)))
        else:
            found.append((label, value))
    return found


def _word(value: object) -> str:
    if not isinstance(value, dict):
        return str(value)
    error = f" ({value['error']})" if value.get("error") else ""
    return f"{value.get('name', value)}{error}"
