"""What does not fit as it was asked for is asked about at a terminal, and sent again with the permission."""

import io
import json
from typing import Any

import pytest

from btmctl.session import Session
from tests.btmctl.conftest import Btmctl
from tests.btmctl.small_server import Request, SmallServer, reply
from tests.btmctl.test_data import DATASET, MODEL

PLAN = {"values": {}, "notes": ["An adapter it is."], "total_steps": 3, "train_rows": 1, "held_out_rows": 0}
NEEDS = {"lora": ["lora"], "cpu": ["lora", "cpu"]}


@pytest.fixture
def bodies(server: SmallServer) -> list[dict[str, Any]]:
    """What the server was asked, one after another: it wants first an adapter, then the CPU as well."""
    seen: list[dict[str, Any]] = []

    def plans(request: Request) -> None:
        body = request.json()
        seen.append(body)
        allowed = set(body.get("allow", ()))
        missing = next((need for need in NEEDS if not allowed >= set(NEEDS[need])), None)
        if missing is None:
            answer = {"plan": PLAN, "job_id": "abc", "message": "Getting ready..."}
            reply(request, PLAN if request.path.endswith("plans") else answer)
            return
        refusal = {"title": "Not enough memory", "detail": f"It does not fit ({missing}).", "hint": "Add --allow."}
        reply(request, {**refusal, "code": "not_enough_memory", "allow": NEEDS[missing], "status": 409}, 409)

    server.answers("GET", "/models/tiny", MODEL)
    server.answers("GET", "/datasets/rows", DATASET)
    server.does("POST", "/plans", plans)
    server.does("POST", "/start", plans)
    return seen


@pytest.mark.parametrize("command", [("plan",), ("train", "--dry-run"), ("train",)])
def test_at_a_terminal_each_change_is_asked_about(
    btmctl: Btmctl, bodies: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr(Session, "can_ask", True)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\ny\n"))
    code, _, err = btmctl(command[0], "tiny", "rows", *command[1:])
    assert code == 0
    assert "It does not fit (lora)." in err
    assert "Train a small adapter instead of all weights?" in err
    assert "Use the processor instead of the GPU?" in err
    assert [body.get("allow") for body in bodies] == [None, ["lora"], ["lora", "cpu"]]


def test_who_says_no_gets_the_refusal(
    btmctl: Btmctl, bodies: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "can_ask", True)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\nn\n"))
    code, _, err = btmctl("train", "tiny", "rows")
    assert code == 6
    assert "Not enough memory" in err
    assert len(bodies) == 2


def test_without_a_terminal_nothing_is_changed_unless_it_was_permitted(
    btmctl: Btmctl, bodies: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "can_ask", False)
    code, out, _ = btmctl("plan", "tiny", "rows", "--json")
    assert code == 6
    assert json.loads(out)["allow"] == ["lora"]
    assert btmctl("plan", "tiny", "rows", "--allow", "lora,cpu")[0] == 0
    assert btmctl("plan", "tiny", "rows", "--yes")[0] == 0
    monkeypatch.setattr(Session, "can_ask", True)
    bodies.clear()
    assert btmctl("plan", "tiny", "rows", "--allow", "none")[0] == 6
    assert len(bodies) == 1
