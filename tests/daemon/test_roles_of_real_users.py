"""Roles and owners over the real socket: users made for it ask every operation, each from a process of their own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from benchmarks.results import Figure, Topic, record
from btmd.api.application import OPERATIONS, ROOT
from btmd.domain.access import ROLES
from tests.fixtures.accounts import Account, Person, ServiceDaemon, can_make_users, new_users, own
from tests.fixtures.daemon import ROOT_DIR, Answer, rows
from tests.fixtures.every_operation import THINGS, furnish, may, request_of
from tests.fixtures.harmless_daemon import REACHED
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

pytestmark = pytest.mark.skipif(
    os.environ.get("BTMD_PROOF") != "1" or not can_make_users(), reason="make proof-roles, as root, makes users"
)

WHO = ("owner", "member", "stranger")
DOOR_S = 20.0
FIGURES = 6
PLAN = {"model_id": "tiny", "dataset_id": "facts", "preset_name": "quick_test"}
REFUSED, CLOSED = 403, 0
CRUCIAL: tuple[tuple[str | None, str, str, str, Any, int], ...] = (
    # Without a role nothing, be it one's own.
    (None, "stranger", "GET", "/jobs", None, REFUSED),
    (None, "owner", "POST", "/cancel/JOB", None, REFUSED),
    # Who looks sees what there is, and what is inside of what was shared.
    ("viewer", "stranger", "GET", "/jobs/JOB", None, 200),
    ("viewer", "stranger", "GET", "/jobs/JOB/logs", None, REFUSED),
    ("viewer", "stranger", "POST", "/datasets/facts/preview", {}, REFUSED),
    ("viewer", "member", "POST", "/datasets/facts/preview", {}, 200),
    ("viewer", "owner", "POST", "/cancel/JOB", None, REFUSED),
    ("viewer", "owner", "POST", "/plans", PLAN, REFUSED),
    # Who trains uses what was shared, and changes, gives and ends what is theirs.
    ("trainer", "stranger", "POST", "/start", PLAN, REFUSED),
    ("trainer", "member", "POST", "/plans", PLAN, 200),
    ("trainer", "stranger", "POST", "/cancel/JOB", None, REFUSED),
    ("trainer", "member", "POST", "/cancel/JOB", None, REFUSED),
    ("trainer", "member", "DELETE", "/datasets/facts", None, REFUSED),
    ("trainer", "member", "PUT", "/consents/facts", {"scopes": ["train"]}, REFUSED),
    ("trainer", "stranger", "PUT", "/owners/job", {"thing_id": "JOB", "to": "STRANGER"}, REFUSED),
    ("trainer", "member", "POST", "/owners/dataset/shares", {"thing_id": "facts", "subject": "STRANGER"}, REFUSED),
    ("trainer", "owner", "POST", "/queue/JOB/hold", None, 200),
    # Knowing the hash of a file is not having it.
    (
        "trainer",
        "stranger",
        "POST",
        "/datasets",
        {"content": "CONTENT", "file_name": "my.jsonl", "name": "my"},
        404,
    ),
    # Only admins change how the daemon works, what it runs, who gets in; and see into backups.
    ("trainer", "owner", "PATCH", "/settings", {"changes": {"notify.command": "/bin/true"}}, REFUSED),
    ("trainer", "owner", "PUT", "/access/OWNER", {"role": "admin"}, REFUSED),
    ("trainer", "owner", "POST", "/backup", {}, REFUSED),
    ("trainer", "owner", "GET", "/backups/last/files", None, REFUSED),
    ("trainer", "owner", "POST", "/reset", {"dry_run": True}, REFUSED),
    ("admin", "stranger", "PATCH", "/settings", {"changes": {"training.tick_every_s": 0.5}}, 200),
    ("admin", "stranger", "POST", "/cancel/JOB", None, 200),
)
"""Role, who asks, what, and what they are told: by hand, so that a wrong permission is found that all agrees with."""


class HarmlessDaemon(ServiceDaemon):
    def spawn(self, command: list[str], log: Any) -> "subprocess.Popen[bytes]":
        at = command.index("btmd")
        return super().spawn([*command[:at], "tests.fixtures.harmless_daemon", *command[at + 1 :]], log)


@dataclass
class Place:
    """A daemon's folders, and those who ask it."""

    service: Account
    run: Path
    names: dict[str, str]
    """What the owner, the member, the stranger, the service and the group are called."""
    people: dict[str, Person]
    figures: list[Figure] = field(default_factory=list)

    @property
    def socket(self) -> Path:
        return self.run / "sock"

    def access(self, *arguments: str, must: bool = True) -> None:
        """``btmctl access``, as root types it."""
        subprocess.run(
            [sys.executable, "-P", "-m", "btmctl", "--socket", str(self.socket), "access", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT_DIR)},
            check=must,
            capture_output=True,
        )

    def give(self, role: str | None) -> None:
        """The role to the owner and the stranger themselves, and to the member's group; None takes what they have."""
        # Somebody has one in any case, or the socket would be closed to all.
        self.access("grant", "root", "viewer")
        for subject in (self.names["owner"], self.names["stranger"], f"@{self.names['group']}"):
            if role is None:
                self.access("revoke", subject, must=False)
            else:
                self.access("grant", subject, role)
        end = time.monotonic() + DOOR_S
        while self.people["stranger"].get("/status").status == CLOSED:
            assert time.monotonic() < end, "the socket stays closed"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """A job that waits, a dataset, a model and a preset of the owner, shared with the group."""
    names = {name: f"btmd-{name}-{os.getpid()}" for name in ("service", "group", *WHO)}
    users = [names[name] for name in ("service", *WHO)]
    with short_folder() as folder, new_users(*users, group=names["group"], members=[names["member"]]):
        folder.chmod(0o755)
        service = Account(names["service"], folder / "service", folder / "stage")
        (folder / "run").mkdir()
        own(folder / "run", service.uid)
        model = make_tiny_llama(service.home / "tiny")
        own(service.home, service.uid)
        people = {name: Person(names[name], folder / "run" / "sock") for name in ("service", *WHO)}
        found = Place(service, folder / "run", names, people)
        try:
            with ServiceDaemon(service, found.run):
                furnish(people["service"], model, owner=names["owner"], group=names["group"])
            yield found
        finally:
            for person in people.values():
                person.__exit__()
    if len(found.figures) == FIGURES:
        record(Topic("Roles of real users", "make proof-roles", found.figures, notes=NOTES))


NOTES = (
    "Accounts made by useradd for the run and removed after it; each asks from a process of its own over the daemon's"
    " Unix socket. The daemon runs as an account of its own; roles are given with `btmctl access grant`, the member's"
    " to a group.",
    "Expected is what the one permission of each operation says, and a table of cases written by hand.",
    "What must be refused is refused by the daemon as it is. What is let through is looked at with a daemon whose"
    " operations do nothing, and, where it only reads, with the daemon as it is.",
)


def asked(person: Person, method: str, path: str, body: bytes | None) -> Answer:
    """The answer; who asks too much waits, as they are told to."""
    while True:
        answer = person.send(method, path, body, content_type="application/json")
        if answer.status != 429:
            return answer
        time.sleep(int(answer.headers["retry-after"]))


def is_refusal(answer: Answer, method: str) -> bool:
    return answer.status == REFUSED and (method == "HEAD" or answer.json["code"] == "not_permitted")


def test_the_door_is_closed_until_somebody_has_a_role(place: Place) -> None:
    with ServiceDaemon(place.service, place.run):
        assert [place.people[who].get("/status").status for who in WHO] == [CLOSED] * len(WHO)
        assert place.people["service"].get("/status").status == 200
        place.access("grant", "root", "viewer")
        end = time.monotonic() + DOOR_S
        while place.people["owner"].get("/status").status == CLOSED and time.monotonic() < end:
            time.sleep(0.05)
        place.people["owner"].get("/status").refused(REFUSED, "not_permitted")


def test_every_operation_asked_by_every_user_in_every_role(place: Place) -> None:
    wrong, count = [], 0
    with HarmlessDaemon(place.service, place.run):
        # The door is opened a moment after the daemon answers its own user.
        place.give(None)
        described = json.loads(place.people["owner"].send("GET", "/openapi.json").body)["paths"]
        told = {(method.upper(), path) for path, methods in described.items() for method in methods}
        assert told == {(one.method, ROOT + one.path.replace(":path", "")) for one in OPERATIONS}
        for role in (None, *ROLES):
            place.give(role)
            for one in OPERATIONS:
                for who in WHO:
                    answer = asked(place.people[who], *request_of(one))
                    count += 1
                    right = answer.status == REACHED if may(role, who, one) else is_refusal(answer, one.method)
                    if not right:
                        wrong.append((role, who, one.method, one.path, answer.status))
        place.give(None)
        left = [place.people[who].get("/jobs").status for who in WHO]
    assert (wrong, left) == ([], [REFUSED] * len(WHO))
    place.figures += [
        Figure("operations", [len(OPERATIONS)], digits=0),
        Figure("requests, each with role and relation", [count], "", f">= {len(OPERATIONS) * 12}", digits=0),
        Figure("- answered otherwise than the permission says", [len(wrong)], "", "<= 0", digits=0),
    ]


def test_the_daemon_as_it_is_refuses_the_same_and_lets_the_same_be_read(place: Place) -> None:
    wrong, refused, read = [], 0, 0
    with ServiceDaemon(place.service, place.run):
        for role in (None, *ROLES):
            place.give(role)
            for one in OPERATIONS:
                for who in WHO:
                    allowed = may(role, who, one)
                    if allowed and one.method not in ("GET", "HEAD"):
                        continue
                    answer = asked(place.people[who], *request_of(one))
                    refused, read = refused + (not allowed), read + allowed
                    if is_refusal(answer, one.method) is allowed or answer.status >= 500:
                        wrong.append((role, who, one.method, one.path, answer.status, answer.body[:200]))
    assert wrong == []
    place.figures += [
        Figure("refused by the daemon as it is", [refused], digits=0),
        Figure("let through by the daemon as it is, reading", [read], digits=0),
    ]


def test_what_must_hold_whatever_the_permissions_say(place: Place) -> None:
    content = subprocess.run(["sha256sum"], input=rows(), capture_output=True, check=True).stdout.decode().split()[0]
    words = {"JOB": THINGS["job"], "CONTENT": content} | {who.upper(): place.names[who] for who in WHO}
    wrong = []
    with ServiceDaemon(place.service, place.run):
        for role in (None, *ROLES):
            place.give(role)
            for needed, who, method, path, body, expected in CRUCIAL:
                if needed != role:
                    continue
                text = json.dumps(body)
                for word, value in words.items():
                    path, text = path.replace(word, value), text.replace(word, value)
                answer = asked(place.people[who], method, path, None if body is None else text.encode())
                if answer.status != expected or (expected == REFUSED and not is_refusal(answer, method)):
                    wrong.append((role, who, method, path, answer.status, answer.body[:200]))
    assert wrong == []
    place.figures.append(Figure("cases written by hand, as they must be", [len(CRUCIAL)], digits=0))
