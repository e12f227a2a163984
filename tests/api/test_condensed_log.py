"""What the socket answers is the same before and after ticks were condensed."""

import anyio.from_thread
import pytest

from btmd.store import condensing
from btmd.store.condensing import CondenseRule
from btmd.store.event_log import StreamAppend
from tests.fixtures.daemon import Client, ThreadedDaemon
from tests.store.given import ACTOR, tick


def test_events_streams_and_the_audit_do_not_show_what_was_condensed(
    daemon: ThreadedDaemon, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(condensing, "SLICE_ROWS", 20)
    monkeypatch.setattr(condensing, "MIN_ROWS", 5)
    store = daemon.daemon.store

    async def record() -> None:
        for first in range(0, 50, 10):
            ticks = tuple(tick(number) for number in range(first, first + 10))
            await store.append([StreamAppend("ticks-aaaaaaaaaa", ticks)], actor=ACTOR)

    async def condense() -> None:
        while await store.condense(CondenseRule(before_us=2**62, max_bytes=0)) is not None:
            pass

    def resumed(after: int) -> bytes:
        """The next thousand bytes or so of the stream after an event."""
        with client.stream("/events", Accept="text/event-stream", Last_Event_ID=str(after)) as answer:
            return b"".join(answer.readline() for _ in range(40))

    anyio.from_thread.run(record, token=daemon._token)
    before = client.events()
    assert client.get("/status").ok()["log"]["ticks"] == 50
    middle = next(one["seq"] for one in before if one["type"] == "TrainingProgressed") + 17
    stream = resumed(middle)
    anyio.from_thread.run(condense, token=daemon._token)
    # What is kept in memory would answer for the database.
    store._recent.clear()
    sizes = client.get("/health").ok()["log"]
    assert (sizes["ticks"], sizes["condensed_ticks"], sizes["segments"]) == (0, 50, 3)
    after = client.events()
    assert after[: len(before)] == before
    assert [one["type"] for one in after[len(before) :]] == ["TicksCondensed"] * 3
    assert resumed(middle) == stream
    assert client.events(stream="ticks-aaaaaaaaaa", after=middle) == [
        one for one in before if one["stream"] == "ticks-aaaaaaaaaa" and one["seq"] > middle
    ]
    found = client.get("/audit/verification").ok()
    assert (found["verdict"], found["checked"]) == ("ok", found["head_seq"])
