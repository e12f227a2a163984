"""btmctl models pull: the one command that may use the network, in this person's own process, when they agree."""

import argparse
import http.client
import os
import urllib.parse
from pathlib import Path

from btmctl import sources, words
from btmctl.client import Document
from btmctl.errors import DONE, Refused, UsageError
from btmctl.hub import Hub, HubModel, choose_files
from btmctl.hub_download import Download, unreachable
from btmctl.places import data_home
from btmctl.session import Session
from btmd.hub_cache import is_hub_id


def pull(arguments: argparse.Namespace, session: Session) -> int:
    """Fetch a model, check every file, add it. Raises CommandError."""
    hub_id = arguments.model
    if not is_hub_id(hub_id):
        raise UsageError(
            f"{hub_id!r} is no id of a model hub.", "It has the form ORG/NAME.", "btmctl models pull --help"
        )
    folder = _folder(arguments.to, hub_id, session)
    hub = Hub(session.environment)
    host = urllib.parse.urlsplit(hub.endpoint).netloc
    # Before a large download: without a daemon the model could not be added.
    client = session.client
    _agree(f"Fetch {hub_id} from {host} over the network into {folder}?", session)
    output = session.output
    output.progress(None, f"Asking {host} what the model consists of")
    found = _ask(hub, hub_id)
    files = choose_files(found, arguments.file)
    download = Download(hub, found, files, folder, output.progress)
    download.check_room()
    output.end_progress()
    if not session.yes:
        _agree(f"It is {words.size(download.total_bytes)} in {len(files)} files. Go on?", session)
    download.run()
    output.end_progress()
    added = sources.add_model(str(folder / arguments.file if arguments.file else folder), session, name=hub_id)
    # Every byte was just compared with the hub's hashes: this is what later verifications go by.
    client.run(f"/models/{added['model_id']}/verify", {}, output.progress)
    output.end_progress()
    _tell(added, found, folder, session)
    return DONE


def _agree(question: str, session: Session) -> None:
    if not session.confirm(question, otherwise="Add --yes to agree."):
        raise Refused("Nothing was fetched.", "Nobody agreed to it.", "--yes agrees.", code="needs_answer")


def _ask(hub: Hub, hub_id: str) -> HubModel:
    try:
        return hub.model(hub_id)
    except (OSError, http.client.HTTPException) as error:
        raise unreachable(hub.endpoint, error, hub_id) from None


def _folder(given: str | None, hub_id: str, session: Session) -> Path:
    if given:
        return Path(os.path.abspath(os.path.expanduser(given)))
    return Path(data_home(session.environment), "btmd", "models", *hub_id.split("/"))


def _tell(added: Document, found: HubModel, folder: Path, session: Session) -> None:
    if session.output.as_json:
        pulled = {"hub_id": found.hub_id, "revision": found.revision, "folder": str(folder)}
        session.output.document({**added, "pulled": pulled})
        return
    session.output.say(f"Fetched, checked and added {added['model_id']}.", "green")
    session.output.say(f"btmctl train {added['model_id']} DATASET trains it.")
