"""btmctl version: of this program and of the daemon."""

import argparse

from btmctl.errors import DONE, CommandError
from btmctl.parser import Single
from btmctl.session import Session


def command() -> Single:
    return Single(
        "version", run, "Shows the versions of btmctl and of the daemon, if one runs.", ["btmctl version --json"]
    )


def run(arguments: argparse.Namespace, session: Session) -> int:
    from btmd import __version__

    versions: dict[str, str | None] = {"btmctl": __version__, "daemon": None, "socket": None}
    try:
        client = session.find_client(start_private=False)
        versions["socket"] = client.socket_path
        versions["daemon"] = client.get("/health").get("version")
    except CommandError:
        # A version can be told without a daemon.
        pass
    if session.output.as_json:
        session.output.document(versions)
    else:
        session.output.fields([("btmctl", versions["btmctl"]), ("daemon", versions["daemon"] or "not running")])
    return DONE
