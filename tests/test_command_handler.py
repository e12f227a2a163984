"""Load, decide, append."""

import asyncio
from pathlib import Path

import pytest

from btmd import command_handler
from btmd.command_handler import CommandHandler
from btmd.domain.commands import DECIDERS, MACHINE, SETTINGS
from btmd.domain.dataset import DatasetAdded, RemoveDataset
from btmd.domain.machine import MachineState, RefuseOperation, StartDaemon
from btmd.domain.settings import ChangeSettings, SettingChanged
from btmd.errors import DatasetNotFound, IdempotencyMismatch, UnknownKey
from btmd.store import state_version
from btmd.store.event_log import IdempotencyKey, Recorded, Store
from tests.store.given import ACTOR, append, opened, refused

START = StartDaemon("1.0", "boot", 1)


async def handled(store: Store, count: int) -> CommandHandler:
    handler = CommandHandler(store, DECIDERS)
    for _ in range(count):
        await handler.handle(START, actor=ACTOR)
    return handler


async def test_a_command_becomes_events_and_a_state(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        handler = CommandHandler(store, DECIDERS)
        result = await handler.handle(START, actor=ACTOR, correlation_id="request")
        assert [(row.type, row.stream, row.version) for row in result.events] == [("DaemonStarted", "machine", 1)]
        assert (result.events[0].actor, result.events[0].correlation_id) == (ACTOR, "request")
        assert (result.state, result.version) == (MachineState(1, "boot"), 1)
        assert await handler.state("machine") == (MachineState(1, "boot"), 1)
        assert await handler.state("job-none") == (None, 0)


async def test_what_decide_refuses_leaves_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        handler = CommandHandler(store, DECIDERS)
        with pytest.raises(UnknownKey):
            await handler.handle(ChangeSettings({"no.such.key": 1}), actor=ACTOR)
        assert store.head.seq == 0
        assert (await handler.handle(ChangeSettings({}), actor=ACTOR)).events == []


async def test_commands_for_one_stream_each_see_what_the_one_before_did(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        handler = CommandHandler(store, DECIDERS)
        results = await asyncio.gather(*(handler.handle(START, actor=ACTOR) for _ in range(50)))
        assert sorted(result.state.starts for result in results) == list(range(1, 51))
        assert [row.version for row in await store.read_stream("machine")] == list(range(1, 51))
        assert handler._locks == {}


async def test_events_appended_past_the_handler_are_seen(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        handler, other = await handled(store, 1), await handled(store, 1)
        await asyncio.gather(
            *(one.handle(START, actor=ACTOR) for one in (handler, other) for _ in range(20)),
            *(append(store, "machine", refused()) for _ in range(20)),
        )
        assert (await handler.state("machine"))[0].starts == 42
        assert (await other.state("machine")) == (MachineState(42, "boot"), 62)


async def test_a_refusal_rests_on_the_newest_state(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        handler = CommandHandler(store, DECIDERS)
        added, removed = DatasetAdded("faq", "FAQ", 1000, "faq.jsonl"), RemoveDataset("faq")
        await append(store, "dataset-faq", added)
        await handler.handle(removed, actor=ACTOR)
        with pytest.raises(DatasetNotFound):
            await handler.handle(removed, actor=ACTOR)
        # As a restore does: past the handler.
        await append(store, "dataset-faq", added)
        assert [row.type for row in (await handler.handle(removed, actor=ACTOR)).events] == ["DatasetRemoved"]
        await handler.handle(ChangeSettings({"training.seed": 7}), actor=ACTOR)
        await append(store, "settings", SettingChanged("training.seed", 7, None, "restored"))
        assert len((await handler.handle(ChangeSettings({"training.seed": 7}), actor=ACTOR)).events) == 1


async def test_a_request_that_was_given_up_does_not_leave_a_stale_state(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        handler = await handled(store, 1)
        given_up = asyncio.ensure_future(handler.handle(START, actor=ACTOR))
        await asyncio.sleep(0)
        given_up.cancel()
        await store.round_trip()
        result = await handler.handle(START, actor=ACTOR)
        assert result.state.starts == store.head.seq


async def test_the_same_request_again_gets_the_same_answer_and_is_not_decided_again(tmp_path: Path) -> None:
    key = IdempotencyKey(1000, "key", "request")

    def respond(state: MachineState, rows: list[Recorded]) -> bytes:
        return f"start {state.starts}, {len(rows)} rows".encode()

    async with opened(tmp_path) as store:
        handler = CommandHandler(store, DECIDERS)
        first = await handler.handle(START, actor=ACTOR, idempotency=key, respond=respond)
        await handler.handle(START, actor=ACTOR)
        again = await handler.handle(START, actor=ACTOR, idempotency=key, respond=respond)
        assert (first.response, first.repeated) == (b"start 1, 1 rows", False)
        assert (again.response, again.repeated) == (first.response, True)
        assert [row.seq for row in again.events] == [row.seq for row in first.events]
        assert again.version == 2
        assert store.head.seq == 2
        with pytest.raises(IdempotencyMismatch):
            await handler.handle(START, actor=ACTOR, idempotency=IdempotencyKey(1000, "key", "other"))


async def test_a_state_is_made_from_its_snapshot_and_the_rows_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_handler, "SNAPSHOT_VERSIONS", 10)
    folded: list[object] = []

    def counting(state: MachineState | None, happened: object) -> MachineState:
        folded.append(happened)
        return MACHINE.evolve(state, happened)  # type: ignore[arg-type, no-any-return]

    async with opened(tmp_path) as store:
        await handled(store, 23)
        snapshots = await store._read(
            lambda connection: connection.execute("SELECT stream, version, seq FROM snapshots").fetchall()
        )
        assert snapshots == [("machine", 10, 10), ("machine", 20, 20)]
        handler = CommandHandler(store, DECIDERS)
        counted = type(MACHINE)("machine", MACHINE.stream, MACHINE.decide, counting, MACHINE.state_type)
        handler._state_versions["machine"] = command_handler.state_version(MACHINE)
        assert await handler.state("machine", counted) == (MachineState(23, "boot"), 23)
        assert len(folded) == 3


async def test_a_snapshot_of_other_code_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_handler, "SNAPSHOT_VERSIONS", 10)
    async with opened(tmp_path) as store:
        await handled(store, 12)
        monkeypatch.setattr(state_version, "__version__", "0.0.0")
        handler = CommandHandler(store, DECIDERS)
        assert await store.load("machine", handler._state_versions["machine"]) != (None, [])
        assert (await store.load("machine", handler._state_versions["machine"]))[0] is None
        assert await handler.state("machine") == (MachineState(12, "boot"), 12)


async def test_only_so_many_states_are_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_handler, "MAX_STATES", 2)
    async with opened(tmp_path) as store:
        handler = CommandHandler(store, DECIDERS)
        for stream in ("job-a", "job-b", "job-c", "machine"):
            await handler.state(stream)
        assert list(handler._states) == ["job-c", "machine"]
        await handler.handle(RefuseOperation("operation", "code"), actor=ACTOR)
        assert (await handler.state("settings", SETTINGS)) == (None, 0)
