"""btmctl notify: follows the daemon's events and tells its user of them, on the desktop and by speech."""

import argparse
import json
import os
import time
from collections.abc import Callable

from btmctl import desktop, places
from btmctl.client import Document
from btmctl.desktop import NotShown
from btmctl.errors import DONE, ConnectionLost, Unreachable
from btmctl.parser import Single
from btmctl.session import Session

OLD_S = 600.0
"""What was to be told longer ago is no news."""
AWAY_S = 5.0
SILENCE_S = 60.0
"""Without even a keep-alive the daemon counts as gone."""
TEST_TITLE, TEST_TEXT = "btmd", "This is how you are told of your trainings."
TYPE = "NotificationMade"


def command() -> Single:
    single = Single(
        "notify",
        run,
        "Shows and speaks what the daemon has to tell, until Ctrl-C; btmd-notify.service runs it.",
        ["btmctl notify", "btmctl notify --test", "btmctl config set notify.speech=yes notify.progress=yes"],
    )
    single.parser.add_argument("--test", action="store_true", help="only show one, to see whether it works")
    return single


def run(arguments: argparse.Namespace, session: Session) -> int:
    if arguments.test:
        desktop.show(TEST_TITLE, TEST_TEXT, urgent=False)
        session.output.say("The desktop took it.")
        return DONE
    session.output.say("What the daemon has to tell is shown and spoken from now on, until Ctrl-C.")
    follower = Following(session, os.path.join(places.state_home(session.environment), "btmd-notify"))
    while True:
        try:
            session.use(session.find_client(start_private=False))
            follower.follow()
        except (ConnectionLost, Unreachable):
            time.sleep(AWAY_S)


class Following:
    """Tells what was not told yet. How far it has come is kept in ``folder``, by the daemon's log."""

    def __init__(self, session: Session, folder: str, clock: Callable[[], float] = time.time) -> None:
        self._session, self._clock = session, clock
        self._path = os.path.join(folder, "positions.json")
        self._waiting: list[Document] = []
        self._shown_upto = 0
        self._said = ""

    def follow(self) -> None:
        """Until the connection ends: raises ConnectionLost, Unreachable."""
        health = self._session.client.get("/health")
        store_id, newest = str(health["store_id"]), int(health["store"]["head_seq"])
        position = self._positions().get(store_id)
        if position is None or position > newest:
            # Begun now, or the log was recovered from a backup: what was told before is nobody's news.
            position = newest
            self._keep(store_id, position)
        self._waiting, self._shown_upto = [], position
        for event in self._session.client.events(position, follow=True, timeout_s=SILENCE_S, type=TYPE):
            if event is not None:
                self._waiting.append(event)
            if self._waiting and self._tell(store_id):
                self._waiting = []

    def _tell(self, store_id: str) -> bool:
        """Whether everything that waits was told, or is too old to be."""
        newest = int(self._waiting[-1]["seq"])
        fresh = [one for one in self._waiting if self._clock() - _seconds(one["recorded_at"]) < OLD_S]
        unseen = [one["data"] for one in fresh if int(one["seq"]) > self._shown_upto]
        shown = [one for one in unseen if "desktop" in one["channels"]]
        spoken = [one["data"] for one in fresh if "speech" in one["data"]["channels"]]
        try:
            if shown:
                text = "\n".join(one["title"] for one in shown[:-1])
                last = shown[-1]
                whole = f"{text}\n{last['text']}" if text else last["text"]
                desktop.show(last["title"], whole, urgent=any(one["urgent"] for one in shown))
            # Before it is spoken, which takes a while and may fail: seen twice would be worse than heard never.
            self._shown_upto = newest
            self._keep(store_id, newest)
            if spoken:
                desktop.speak(". ".join(one["title"] for one in spoken))
        except NotShown as problem:
            self._say(f"{problem.what} {problem.why}")
            # Tried again with the next sign of life: a desktop may come up later than this.
            return False
        self._said = ""
        return True

    def _say(self, text: str) -> None:
        if text != self._said:
            self._session.output.say(text)
        self._said = text

    def _positions(self) -> dict[str, int]:
        try:
            with open(self._path, encoding="utf-8") as file:
                found = json.load(file)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _keep(self, store_id: str, seq: int) -> None:
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        aside = f"{self._path}.{os.getpid()}"
        with open(aside, "w", encoding="utf-8") as file:
            json.dump({**self._positions(), store_id: seq}, file)
        os.replace(aside, self._path)


def _seconds(moment: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
