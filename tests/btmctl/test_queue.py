"""btmctl queue, jobs set, and what status and jobs show tell of waiting."""

import json
from typing import Any

from tests.btmctl.conftest import Btmctl
from tests.btmctl.small_server import Request, SmallServer, reply

WAITS = "Waits for the training aaaaaaaaaa to end; it has the CPU."


def entry(job_id: str, **values: Any) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "name": "",
        "state": "queued",
        "priority": 0,
        "held": False,
        "position": 1,
        "waits_for": WAITS,
        "wait": "training",
        "device": "",
        "model_id": "smol",
        "dataset_id": "facts",
        **values,
    }


def test_the_queue_is_listed_in_order_with_the_reason_for_waiting(btmctl: Btmctl, server: SmallServer) -> None:
    working = entry("aaaaaaaaaa", state="training", position=0, waits_for="", device="cuda:1")
    found = {"running": [working], "waiting": [entry("bbbbbbbbbb", priority=7), entry("cccccccccc", waits_for="")]}
    server.answers("GET", "/queue", found)
    code, out, _ = btmctl("queue", "list")
    assert code == 0
    assert out.index("GPU 1") < out.index("bbbbbbbbbb") < out.index("cccccccccc")
    assert "to end; it has the CPU" in " ".join(out.split())
    assert "It starts now." in out
    assert json.loads(btmctl("queue", "list", "--json")[1]) == found


def test_an_empty_queue_says_so(btmctl: Btmctl, server: SmallServer) -> None:
    server.answers("GET", "/queue", {"running": [], "waiting": []})
    assert "No training waits." in btmctl("queue", "list")[2]


def test_holding_releasing_moving_and_priority_are_sent_and_answered(btmctl: Btmctl, server: SmallServer) -> None:
    sent: list[Any] = []

    def answer(request: Request) -> None:
        sent.append((request.path.rpartition("/")[2], request.json()))
        reply(request, {"message": "It is done."})

    for method, path in (
        ("POST", "/queue/b/hold"),
        ("POST", "/queue/b/release"),
        ("POST", "/queue/b/move"),
        ("PATCH", "/jobs/b"),
    ):
        server.does(method, path, answer)
    for arguments in (
        ("queue", "hold", "b"),
        ("queue", "release", "b"),
        ("queue", "move", "b", "--before", "a"),
        ("queue", "move", "b", "--first"),
        ("queue", "move", "b", "--last"),
        ("jobs", "set", "b", "priority=5"),
    ):
        assert "It is done." in btmctl(*arguments)[2]
    assert sent == [
        ("hold", {}),
        ("release", {}),
        ("move", {"before": "a"}),
        ("move", {"to": "first"}),
        ("move", {"to": "last"}),
        ("b", {"priority": 5}),
    ]


def test_what_cannot_be_meant_is_refused_before_anything_is_sent(btmctl: Btmctl, server: SmallServer) -> None:
    for arguments, words in (
        (("queue", "move", "b"), "--first"),
        (("queue", "move", "b", "--first", "--last"), "--help"),
        (("jobs", "set", "b", "learning_rate=1"), "priority"),
        (("jobs", "set", "b", "priority"), "priority=5"),
    ):
        code, _, err = btmctl(*arguments)
        assert (code, words in err) == (2, True), err
    assert not server.seen


def test_status_tells_how_many_wait_and_why_the_first_does(btmctl: Btmctl, server: SmallServer) -> None:
    body = {"status": "operational", "system_backups": 0}
    server.answers("GET", "/status", {**body, "queue": {"waiting": 3, "job_id": "bbbbbbbbbb", "waits_for": WAITS}})
    out = " ".join(btmctl("status")[1].split())
    assert f"3; bbbbbbbbbb: {WAITS}" in out
    server.answers("GET", "/status", {**body, "queue": {"waiting": 0, "job_id": None, "waits_for": ""}})
    assert "waiting" not in btmctl("status")[1]
