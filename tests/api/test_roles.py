"""Roles and owners: every operation, asked by everybody."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from starlette.responses import Response

from btmd.api import application, guard
from btmd.api.operation import Operation
from btmd.api.permission import Permission
from btmd.domain.access import ROLES, rank
from tests.fixtures.daemon import Client, ThreadedDaemon, config_of
from tests.fixtures.every_operation import furnish, may, put, request_of
from tests.fixtures.peers import Peers
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

ALLOWED = 299
"""What the operation answers where it is reached: none answers so by itself."""
USERS = {"owner": Peers.OWNER, "member": Peers.MEMBER, "stranger": Peers.STRANGER}


async def reached(**arguments: Any) -> Response:
    return Response(status_code=ALLOWED)


@pytest.fixture(scope="module")
def client(peers: Peers) -> Iterator[Client]:
    """A daemon with a job, a dataset, a model and a preset of OWNER, shared with MEMBER's group; it does nothing."""
    with short_folder() as folder:
        with ThreadedDaemon(config_of(folder)) as daemon:
            furnish(daemon.client, make_tiny_llama(folder / "tiny"), owner="daemon", group="daemon")
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(application, "OPERATIONS", tuple(map(harmless, application.OPERATIONS)))
            # More than anybody types.
            patched.setattr(guard, "BURST", 1_000_000)
            with ThreadedDaemon(config_of(folder)) as daemon:
                yield daemon.client


def harmless(one: Operation) -> Operation:
    """The operation as it is asked for and permitted, without what it does; what tests set up with still works."""
    return one if one.path.startswith("/access") else msgspec.structs.replace(one, handler=reached)


def ask(client: Client, one: Operation) -> int:
    return client.send(*request_of(one), content_type="application/json").status


@pytest.mark.parametrize("role", [None, *ROLES])
def test_every_operation_asked_by_everybody(role: str | None, client: Client, peers: Peers) -> None:
    for actor in USERS.values():
        if role is not None:
            put(client, f"/access/{actor.name}", {"role": role})
    wrong = []
    for one in application.OPERATIONS:
        if one.path.startswith("/access"):
            continue
        for who, actor in USERS.items():
            with peers.as_(actor):
                status = ask(client, one)
            if status != (ALLOWED if may(role, who, one) else 403):
                wrong.append((one.method, one.path, who, status))
    assert wrong == []


@pytest.mark.parametrize("role", [None, *ROLES])
def test_only_admins_change_who_may_what(role: str | None, client: Client, peers: Peers) -> None:
    actor = Peers.STRANGER
    if role is None:
        client.send("DELETE", f"/access/{actor.name}")
    else:
        put(client, f"/access/{actor.name}", {"role": role})
    body = json.dumps({"role": "admin"}).encode()
    with peers.as_(actor):
        assert (client.get("/access").status == 200) is (rank(role) > 0)
        for path, sent in ((f"/access/{actor.name}", body), (f"/access/{actor.name}/limits", b'{"limits": {}}')):
            answer = client.send("PUT", path, sent, content_type="application/json")
            assert (answer.status != 403) is (role == "admin")
    client.send("DELETE", f"/access/{actor.name}")


def test_every_thing_that_an_address_names_is_asked_after(client: Client) -> None:
    """What changes, ends or shows the inside of a thing names it as one; what only tells of it does not."""
    names = {"job_id", "dataset_id", "dataset", "model_id", "key"}
    for one in application.OPERATIONS:
        fields = () if one.arguments.path is None else one.arguments.path.__struct_fields__
        of_things = names & set(fields) and not one.path.startswith(("/settings", "/presets"))
        if of_things and one.method not in ("GET", "HEAD") and one.permission is not Permission.ADMIN:
            assert one.things, (one.method, one.path)


def test_root_and_the_daemons_user_need_no_role(monkeypatch: pytest.MonkeyPatch) -> None:
    from btmd.domain.access import role_of

    for uid, role in ((1000, "admin"), (0, "admin"), (1001, None), (65534, None)):
        assert role_of(uid, (), None, own_uid=1000) == role
