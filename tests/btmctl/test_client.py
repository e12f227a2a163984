"""What btmctl makes of what a server sends: whole, in pieces, refused, cut off."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import btmctl.client as client_module
from btmctl.client import Client
from btmctl.errors import ConnectionLost, ServerRefused, Unreachable, UsageError
from tests.btmctl.small_server import ROOT, Request, SmallServer, chunked, reply


def test_a_document_with_a_length(server: SmallServer) -> None:
    server.answers("GET", "/status", {"status": "operational", "text": "größer"})
    assert Client(server.socket_path).get("/status") == {"status": "operational", "text": "größer"}


def test_a_chunked_document_is_put_together_wherever_it_was_cut(server: SmallServer) -> None:
    content = '{"text": "größer"}'.encode()
    pieces = [content[at : at + 1] for at in range(len(content))]
    server.does("GET", "/status", lambda request: chunked(request, pieces, media_type="application/json"))
    assert Client(server.socket_path).get("/status") == {"text": "größer"}


def test_queries_and_paths_are_quoted(server: SmallServer) -> None:
    seen: list[Request] = []

    def route(request: Request) -> None:
        seen.append(request)
        reply(request, [])

    server.does("GET", "/models/org/a%20b%3F", route)
    Client(server.socket_path).get("/models/org/a b?", stream=["job-1", "ticks-1"], text="a&b=ü", left_out=None)
    assert seen[0].query == {"stream": ["job-1", "ticks-1"], "text": ["a&b=ü"]}


def test_a_refusal_carries_code_sentence_hint_and_the_exit_code_of_its_class(server: SmallServer) -> None:
    problem = {"title": "Nobody has allowed", "detail": "No consent.", "code": "consent_missing", "hint": "--consent"}
    server.answers("POST", "/start", problem, 409)
    with pytest.raises(ServerRefused) as caught:
        Client(server.socket_path).post("/start", {})
    assert (caught.value.code, caught.value.why, caught.value.hint) == ("consent_missing", "No consent.", "--consent")
    assert caught.value.exit_code == 6


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (422, "invalid_value", 2),
        (400, "bad_request", 2),
        (403, "not_permitted", 4),
        (404, "unknown_preset", 5),
        (409, "job_ended", 6),
        (503, "damaged", 7),
        (503, "stopping", 3),
        (413, "a_code_of_a_newer_daemon", 2),
        (500, "internal_error", 1),
    ],
)
def test_exit_codes(server: SmallServer, status: int, code: str, exit_code: int) -> None:
    server.answers("GET", "/status", {"title": "t", "detail": "d", "code": code}, status)
    with pytest.raises(ServerRefused) as caught:
        Client(server.socket_path).get("/status")
    assert caught.value.exit_code == exit_code


def test_work_tells_its_progress_and_returns_its_result(server: SmallServer) -> None:
    lines = [b'{"progress": 0.5, "text": "half"}\n', b'{"result": {"model_', b'id": "m"}}\n']
    server.does("POST", "/models", lambda request: chunked(request, lines, media_type="application/x-ndjson"))
    told: list[tuple[float | None, str]] = []
    result = Client(server.socket_path).run("/models", {}, lambda share, text: told.append((share, text)))
    assert result == {"model_id": "m"}
    assert told == [(0.5, "half")]


def test_an_error_at_the_end_of_work_is_a_refusal(server: SmallServer) -> None:
    line = b'{"error": {"title": "no", "detail": "cut", "code": "model_damaged", "status": 422}}\n'
    server.does("POST", "/models", lambda request: chunked(request, [line], media_type="application/x-ndjson"))
    with pytest.raises(ServerRefused) as caught:
        Client(server.socket_path).run("/models", {}, lambda share, text: None)
    assert caught.value.exit_code == 2


def test_work_without_a_last_line_is_a_lost_connection(server: SmallServer) -> None:
    line = b'{"progress": 0.5, "text": "half"}\n'
    server.does(
        "POST", "/models", lambda request: chunked(request, [line], media_type="application/x-ndjson", complete=False)
    )
    with pytest.raises(ConnectionLost):
        Client(server.socket_path).run("/models", {}, lambda share, text: None)


def test_a_server_sent_event_over_several_pieces(server: SmallServer) -> None:
    pieces = [b": hello\n\nid: 7\nda", b'ta: {"seq": 7}\n', b'\nid: 8\ndata: {"seq": 8}\n\n']
    server.does("GET", "/events", lambda request: chunked(request, pieces, media_type="text/event-stream"))
    seen: list[dict[str, Any] | None] = []
    events = Client(server.socket_path).events(6, follow=True)
    with pytest.raises(ConnectionLost):
        seen.extend(event for event in events)
    assert [event["seq"] for event in seen if event is not None] == [7, 8]
    assert seen[0] is None


def test_pages_of_events_are_read_to_the_end(server: SmallServer) -> None:
    def route(request: Request) -> None:
        after = int(request.query["after"][0])
        reply(request, [{"seq": seq} for seq in range(after + 1, min(after + 3, 6))])

    server.does("GET", "/events", route)
    events = Client(server.socket_path).events(1, follow=False)
    assert [event["seq"] for event in events if event is not None] == [2, 3, 4, 5]


def paged(entries: list[dict[str, Any]], field: str, parameter: str) -> Callable[[Request], None]:
    """As the daemon answers a list: so many entries beyond a position."""

    def answer(request: Request) -> None:
        position = request.query.get(parameter, [None])[0]
        at = next((at + 1 for at, one in enumerate(entries) if str(one[field]) == position), 0)
        reply(request, entries[at : at + int(request.query["limit"][0])])

    return answer


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5])
def test_pages_of_a_list_are_read_to_the_end(server: SmallServer, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(client_module, "PAGE", 2)
    models = [{"number": number} for number in range(count, 0, -1)]
    presets = [{"key": f"preset-{number}"} for number in range(count)]
    server.does("GET", "/models", paged(models, "number", "before"))
    server.does("GET", "/preset-definitions", paged(presets, "key", "after"))
    client = Client(server.socket_path)
    assert client.listed("/models") == models
    assert client.listed("/preset-definitions", origin="own") == presets
    assert all("origin=own" in path for _, path in server.seen if "preset" in path)
    assert client.listed("/models", most=3) == models[:3]
    assert client.listed("/models", most=2) == models[:2]


def test_a_list_that_is_told_whole_is_taken_once(server: SmallServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PAGE", 2)
    for path, entry in (("/old", {"name": "one"}), ("/preset-definitions", {"key": "mine"}), ("/new", {"number": 7})):
        # What does not know of pages answers all of it, whatever is asked.
        server.answers("GET", path, [entry] * 3)
        assert Client(server.socket_path).listed(path) == [entry] * 3


def test_an_upload_that_is_refused_early_says_why(server: SmallServer) -> None:
    sha = "a" * 64
    problem = {"title": "The request is too large", "detail": "Over 1 GB.", "code": "too_large"}
    # The answer comes before the body was read, and the connection closes in the middle of sending it.
    server.answers("PUT", f"/contents/{sha}", problem, 413)
    pieces = (b"x" * 1_000_000 for _ in range(20))
    with pytest.raises((ServerRefused, Unreachable)) as caught:
        Client(server.socket_path).upload(sha, pieces, 0, 20_000_000)
    assert caught.value.why == "Over 1 GB."


def test_a_daemon_that_takes_the_question_but_says_nothing_is_not_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        with pytest.raises(Unreachable) as caught:
            Client(str(tmp_path / "silent")).get("/status", timeout_s=0.2)
    assert caught.value.what == "The daemon does not answer."
    assert "daemon start" not in caught.value.hint


@pytest.mark.parametrize("ask", [lambda client: client.get("/status"), lambda client: client.patch("/settings", {})])
def test_short_requests_have_a_short_limit(
    server: SmallServer, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Client], object]
) -> None:
    asked: list[float | None] = []
    plain = client_module.request

    def watched(*arguments: Any, timeout_s: float | None, **named: Any) -> Any:
        asked.append(timeout_s)
        return plain(*arguments, timeout_s=timeout_s, **named)

    monkeypatch.setattr(client_module, "request", watched)
    server.answers("GET", "/status", {})
    server.answers("PATCH", "/settings", {})
    ask(Client(server.socket_path))
    assert asked[0] is not None
    assert asked[0] <= 60


def test_what_json_has_no_word_for_is_not_sent(server: SmallServer) -> None:
    with pytest.raises(UsageError):
        Client(server.socket_path).post("/start", {"overrides": {"learning_rate": float("nan")}})
    assert server.seen == []


def test_nobody_there() -> None:
    with pytest.raises(Unreachable) as caught:
        Client("/nonexistent/socket").get("/status")
    assert caught.value.exit_code == 3


def test_an_answer_that_is_not_http(server: SmallServer) -> None:
    def route(request: Request) -> None:
        request.handler.wfile.write(b"hello there\r\n\r\n")

    server.does("GET", "/status", route)
    with pytest.raises(Unreachable):
        Client(server.socket_path).get("/status")
    assert server.seen == [("GET", f"{ROOT}/status")]
