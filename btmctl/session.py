"""One run of btmctl: what was asked for everywhere, and the daemon once it is needed."""

import os
import sys
import time
from collections.abc import Callable, Mapping

from btmctl import places
from btmctl.client import Client, Document
from btmctl.errors import Refused, Unreachable
from btmctl.output import Output
from btmctl.unix_http import probe

RECONNECT_S = 120.0
STAND_IN = "Your own daemon does not run: this is the quickstart's. `btmctl daemon start` starts yours."
AWAY = "The daemon is away; waiting for it. A training goes on meanwhile."


class Session:
    """Holds the output and finds the daemon when a command first needs it."""

    def __init__(
        self, output: Output, *, socket: str | None, yes: bool, environment: Mapping[str, str] = os.environ
    ) -> None:
        self.output = output
        self.environment = environment
        self.socket_option = socket
        self.yes = yes
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The daemon. Raises Unreachable."""
        if self._client is None:
            self._client = self.find_client()
        return self._client

    @property
    def daemon_version(self) -> str:
        """Of the daemon that answered; empty if none was asked."""
        return "" if self._client is None else self._client.daemon_version

    def use(self, client: Client) -> None:
        """Talk to this daemon from now on."""
        self._client = client

    def find_client(self, *, start_private: bool = True) -> Client:
        """The first daemon that answers, in the order of the documentation.

        The quickstart's private daemon ends when idle; when no other answers, it is started again. Raises Unreachable.
        """
        tried = places.candidates(self.socket_option, self.environment)
        problems: list[str] = []
        for path in tried:
            problem = probe(path)
            if problem is None:
                self._tell_whose(path)
                return Client(path, self.output.waiting)
            problems.append(f"{path} ({problem})")
        named = places.named_socket(self.socket_option, self.environment)
        if start_private and not named:
            from btmctl import private_daemon

            if private_daemon.has_state(self.environment):
                client = private_daemon.start(self.environment, self.output.progress_text)
                self.output.end_progress()
                self._tell_whose(client.socket_path)
                return client
        raise Unreachable(
            "The daemon cannot be reached.",
            f"Nothing answers at {', '.join(problems)}.",
            "btmctl daemon start starts one in the background; btmctl quickstart brings its own.",
        )

    def _tell_whose(self, socket_path: str) -> None:
        """Say so where the quickstart's daemon stands in for one that has been used here and does not run now."""
        if places.named_socket(self.socket_option, self.environment):
            return
        used = os.path.exists(os.path.join(places.own_state(self.environment), "btmd.db"))
        if used and socket_path == places.quickstart_socket(self.environment):
            self.output.say(STAND_IN, "yellow")

    def reconnect(self, announce: Callable[[str], None], patience_s: float = RECONNECT_S) -> None:
        """Wait until the daemon answers again after it went away; the quickstart's own is started again.

        What it was doing goes on without it. Raises Unreachable after ``patience_s``.
        """
        path = self.client.socket_path
        is_private = path == places.quickstart_socket(self.environment)
        deadline = time.monotonic() + patience_s
        pause_s = 0.1
        # A daemon that is just ending still takes connections: without a pause we would ask it again and again.
        time.sleep(pause_s)
        while (problem := probe(path)) is not None:
            if is_private:
                from btmctl import private_daemon

                private_daemon.start(self.environment, announce)
                return
            if time.monotonic() > deadline:
                raise Unreachable(
                    "The daemon went away and did not come back.",
                    f"Nothing answers at {path} ({problem}). A training goes on without it.",
                    "btmctl daemon start starts it again; it finds its jobs.",
                )
            announce(AWAY)
            time.sleep(pause_s)
            pause_s = min(1.0, pause_s * 1.5)

    def work(self, path: str, body: Document) -> Document:
        """What the daemon answers once it has done something that takes its time; progress is shown meanwhile."""
        done = self.client.run(path, body, self.output.progress)
        self.output.end_progress()
        return done

    # --- questions ------------------------------------------------------------------------------

    @property
    def can_ask(self) -> bool:
        return sys.stdin.isatty() and self.output.messages_at_terminal

    def confirm(self, question: str, *, otherwise: str) -> bool:
        """A question with yes or no. Without a terminal, raises Refused: ``otherwise`` says which option answers it."""
        if self.yes:
            return True
        if not self.can_ask:
            raise Refused(
                "This needs an answer, and there is no terminal to ask at.", question, otherwise, code="needs_answer"
            )
        return self.ask(f"{question} [y/N] ").lower() in ("y", "yes")

    def ask(self, question: str) -> str:
        """A line from the person; nothing when they just press Enter or end the input."""
        self.output.question(question)
        return sys.stdin.readline().strip()
