"""btmctl daemon: run it here, or see how it is doing."""

import argparse
import os
import sys

from btmctl.errors import DONE
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
    noun.verb("status", show, "Show whether a daemon answers, and its health.", ["btmctl daemon status --json"])
    return noun


def run_daemon(arguments: argparse.Namespace, session: Session) -> int:
    socket = ["--socket", session.socket_option] if session.socket_option else []
    sys.stdout.flush()
    # The daemon takes this process's place, so that signals reach it directly.
    os.execv(sys.executable, [sys.executable, "-m", "btmd", *socket, *arguments.flags])


def show(arguments: argparse.Namespace, session: Session) -> int:
    client, output = session.find_client(start_private=False), session.output
    health = client.get("/health")
    if output.as_json:
        output.document({**health, "socket": client.socket_path})
        return DONE
    output.fields([("daemon", client.socket_path), *_flat(health)])
    return DONE


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
