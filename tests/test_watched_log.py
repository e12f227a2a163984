"""Samples and warnings in a real log: condensed, shown, backed up and watched again like everything else in it."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from benchmarks.condensing import row_bytes
from btmd.backup.components import COMPONENTS
from btmd.command_handler import CommandHandler
from btmd.domain.commands import DECIDERS
from btmd.domain.event import Event
from btmd.domain.job_events import TrainingProgressed
from btmd.domain.warning import Finding, MachineSampled, ReportFindings, samples_stream, stream_name
from btmd.monitoring.watch import Watch
from btmd.projections.views import ALL_PROJECTIONS
from btmd.projections.warning import jobs_with_open_warnings, newest_sample, warnings
from btmd.store import condensing as slices
from btmd.store.batch import StreamAppend
from btmd.store.condensing import CondenseRule, log_sizes
from btmd.store.event_log import Store
from tests.fixtures.simulated_training import JOB, Simulation
from tests.fixtures.training_histories import COARSE, CPU, QUICK
from tests.store.given import ACTOR, Clocks, append, opened

EVERYTHING = CondenseRule(before_us=2**62, max_bytes=0)


@pytest.fixture
async def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    monkeypatch.setattr(slices, "MIN_ROWS", 5)
    async with opened(tmp_path, Clocks(), projections=ALL_PROJECTIONS) as made:
        yield made


def _stream(event: Event) -> str:
    if isinstance(event, MachineSampled):
        return samples_stream(JOB)
    return f"ticks-{JOB}" if isinstance(event, TrainingProgressed) else f"job-{JOB}"


async def test_a_training_can_be_watched_again_from_a_log_whose_ticks_were_condensed(store: Store) -> None:
    failing = replace(COARSE, failure="memory_machine", memory_bytes=7 * 2**30, steps=250, seed=51)
    history = list(Simulation(failing).events())[:-2]
    live = Watch()
    for at_us, happened in history:
        live.see(happened, at_us)
    await store.append([StreamAppend(_stream(happened), (happened,)) for _, happened in history], actor=ACTOR)
    while await store.condense(EVERYTHING) is not None:
        continue
    assert (await store.query(log_sizes)).condensed_ticks > 200
    streams = (f"job-{JOB}", f"ticks-{JOB}", samples_stream(JOB))
    read = await store.read(0, limit=10_000, streams=streams)
    again = Watch()
    for (at_us, _), recorded in zip(history, read, strict=True):
        again.see(recorded.event, at_us)
    found = again.look(history[-1][0])
    assert [one.kind for one in found] == ["memory_machine"]
    assert found == live.look(history[-1][0])
    assert (await store.verify()).ok


async def test_warnings_are_shown_while_they_hold_and_kept_with_their_times(store: Store) -> None:
    handler = CommandHandler(store, DECIDERS)
    slow = Finding("slow", "warning", {"step_s": 3.0, "usual_s": 1.0})
    for findings in ((slow,), (slow,), ()):
        await handler.handle(ReportFindings(JOB, 1, findings, {"slow": {"step_s": 1.1}}), actor=ACTOR)
    assert [row.type for row in await store.read_stream(stream_name(JOB))] == ["WarningRaised", "WarningWithdrawn"]
    async with store.session() as session:
        (row,) = await warnings(session, JOB)
        assert (row.kind, row.severity, row.evidence, row.holds) == ("slow", "warning", slow.evidence, False)
        assert row.withdrawn_us is not None
        assert row.withdrawn_us > row.raised_us
        assert await jobs_with_open_warnings(session) == {}
    await handler.handle(ReportFindings(JOB, 2, (slow,)), actor=ACTOR)
    async with store.session() as session:
        assert await jobs_with_open_warnings(session) == {JOB: 2}


async def test_the_newest_sample_is_at_hand(store: Store) -> None:
    samples = [one for _, one in Simulation(replace(CPU, steps=100)).events() if isinstance(one, MachineSampled)]
    await append(store, samples_stream(JOB), *samples)
    async with store.session() as session:
        assert await newest_sample(session, JOB) == samples[-1]
        assert await newest_sample(session, "another") is None


def test_backups_of_jobs_hold_warnings_and_samples() -> None:
    starts = COMPONENTS["jobs"].streams
    assert stream_name(JOB).startswith(starts)
    assert samples_stream(JOB).startswith(starts)


async def test_what_is_recorded_is_small(store: Store) -> None:
    figures = {"learning_rate": 0.00019876543210987, "tokens_per_s": 5481.1694187, "elapsed_s": 86_029.55573500003}
    ticks = [
        TrainingProgressed(
            JOB, 1, number, 100_000, 200_000, 2, 2.2888725881865, memory_bytes=3_108_945_920, gradient_norm=0.793976783,
            steps=tuple(range(100_000, 100_000 + steps)), losses=(2.228872588186553,) * steps, **figures,
        )
        for number, steps in ((1000, 1), (1001, 51))
    ]  # fmt: skip
    one, many = await append(store, f"ticks-{JOB}", *ticks)
    assert row_bytes(one) < 700
    assert (row_bytes(many) - row_bytes(one)) / 50 < 30
    samples = [
        one for _, one in Simulation(replace(CPU, steps=40, gpu=True)).events() if isinstance(one, MachineSampled)
    ]
    (sample,) = await append(store, samples_stream(JOB), samples[-1])
    assert row_bytes(sample) < 1200


def test_watching_takes_less_than_a_hundredth_of_what_is_watched() -> None:
    events = list(Simulation(replace(QUICK, steps=6000, cores=1)).events())
    watch = Watch()
    began_s = time.process_time()
    for at_us, happened in events:
        watch.see(happened, at_us)
        watch.look(at_us)
    assert time.process_time() - began_s < 0.01 * (events[-1][0] - events[0][0]) / 1e6
