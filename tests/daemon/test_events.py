"""The event stream: gapless across restarts, resumed by id, closed when the daemon stops."""

import json
from collections.abc import Iterator
from http.client import HTTPResponse

import pytest

from benchmarks.event_restarts import followed_through
from tests.fixtures.daemon import DaemonProcess, config_of
from tests.fixtures.short_folder import short_folder


@pytest.fixture
def daemon() -> Iterator[DaemonProcess]:
    with short_folder() as folder, DaemonProcess(config_of(folder)) as running:
        yield running


def _take(response: HTTPResponse, count: int) -> list[dict[str, object]]:
    """The next ``count`` events of a stream, each checked against its id line."""
    found: list[dict[str, object]] = []
    number = 0
    while len(found) < count:
        line = response.readline()
        assert line, "the stream ended"
        if line.startswith(b"id: "):
            number = int(line[4:])
        elif line.startswith(b"data: "):
            event = json.loads(line[6:])
            assert event["seq"] == number
            found.append(event)
    return found


def test_a_stream_goes_on_after_a_restart_without_a_gap(daemon: DaemonProcess) -> None:
    client = daemon.client
    with client.stream("/events?after=0&follow=true") as response:
        assert response.getheader("content-type", "").startswith("text/event-stream")
        for seed in range(5):
            client.patch("/settings", {"changes": {"training.seed": seed}}).ok()
        seen = _take(response, 6)
        assert seen[0]["type"] == "DaemonStarted"
        code, seconds = daemon.stop()
        assert code == 0
        assert seconds < 5
        assert response.read().count(b"DaemonStarted") == 0
    daemon.start()
    client.patch("/settings", {"changes": {"training.seed": 9}}).ok()
    with client.stream("/events?follow=true", last_event_id=str(seen[-1]["seq"])) as response:
        seen += _take(response, 3)
    assert [event["type"] for event in seen[-3:]] == ["DaemonStopped", "DaemonStarted", "SettingChanged"]
    assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))
    assert client.events() == seen


def test_followers_of_every_kind_see_each_event_once_through_restarts() -> None:
    """The long form, with a training and fifty restarts: make proof-events."""
    found = followed_through(1, seed=3, limit_s=120, training=False, askers=1)
    assert found.ended_by.total() >= 1
    assert found.events > 10
    assert found.acknowledged > 0
    assert found.took_s
    assert found.wrong == []


def test_a_page_is_filtered_and_limited(daemon: DaemonProcess) -> None:
    client = daemon.client
    for seed in range(4):
        client.patch("/settings", {"changes": {"training.seed": seed}}).ok()
    assert [event["seq"] for event in client.events(1, type="SettingChanged")] == [2, 3, 4, 5]
    page = client.get("/events?after=1&limit=2", accept="application/json").ok()
    assert [event["seq"] for event in page] == [2, 3]
    assert client.events(stream="machine")[0]["type"] == "DaemonStarted"
    client.get("/events", last_event_id="x", accept="text/event-stream").refused(422, "invalid_value")
