"""What the checks look at: where everything lies, and what the daemon says if one answers."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from btmctl import places
from btmctl.client import Client, Document
from btmctl.errors import CommandError
from btmctl.session import Session
from btmd.errors import NotPermitted

SYSTEM_STATE, SYSTEM_CONFIG = "/var/lib/btmd", "/etc/btmd"


class Known(NamedTuple):
    """``daemon_uid`` owns what the daemon keeps: the user of one that answers, otherwise who asks."""

    environment: Mapping[str, str]
    named_socket: str | None
    sockets: list[str]
    """Those that would be tried, in order; with a daemon that answers, its own alone."""
    client: Client | None
    refusal: CommandError | None
    """Why none answers."""
    health: Document
    status: Document
    hardware: Document
    settings: dict[str, Document]
    state_dir: Path
    config_dir: Path
    daemon_uid: int

    @property
    def is_ours(self) -> bool:
        """Whether the daemon's files are those of who asks."""
        return self.daemon_uid == os.getuid()


def look(session: Session) -> Known:
    """Find the daemon and ask it; without one, the usual places of one's own."""
    environment = session.environment
    client: Client | None = None
    refusal: CommandError | None = None
    health: Document = {}
    try:
        client = session.find_client(start_private=False)
        health = client.get("/health")
    except CommandError as error:
        refusal = error
        # A viewer's role is needed to ask; that one answers is known all the same.
        client = client if error.code == NotPermitted.code else None
    state_dir = str(health.get("state_dir") or places.own_state(environment))
    named = places.named_socket(session.socket_option, environment)
    socket = client.socket_path if client is not None else None
    answers = client if refusal is None else None
    return Known(
        environment=environment,
        named_socket=named,
        sockets=[socket] if socket else places.candidates(session.socket_option, environment),
        client=client,
        refusal=refusal,
        health=health,
        status=_asked(answers, "/status"),
        hardware=_asked(answers, "/hardware"),
        settings={str(one["key"]): one for one in _asked(answers, "/settings") or ()},
        state_dir=Path(state_dir),
        config_dir=Path(_config_dir(state_dir, environment)),
        daemon_uid=_owner(socket) if socket else os.getuid(),
    )


def _asked(client: Client | None, path: str) -> Any:
    """The daemon's answer; an empty one where it refuses or goes away, which another check tells of."""
    try:
        return client.get(path) if client is not None else {}
    except CommandError:
        return {}


def _config_dir(state_dir: str, environment: Mapping[str, str]) -> str:
    if state_dir == SYSTEM_STATE:
        return SYSTEM_CONFIG
    if state_dir == places.quickstart_state(environment):
        return os.path.join(state_dir, "config")
    given = environment.get("BTMD_CONFIG_DIR")
    if given:
        return os.path.abspath(os.path.expanduser(given))
    home = environment.get("XDG_CONFIG_HOME", "")
    return os.path.join(home if os.path.isabs(home) else os.path.expanduser("~/.config"), "btmd")


def _owner(path: str) -> int:
    try:
        return os.stat(path).st_uid
    except OSError:
        return os.getuid()
