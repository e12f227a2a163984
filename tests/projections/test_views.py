"""The views: what they show follows from the log alone, built as it happens or built anew."""

import itertools
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from btmd.domain import dataset, job_events, model, queue, settings
from btmd.domain.event import Actor, Event
from btmd.domain.job_state import WAITS
from btmd.projections import job as view
from btmd.projections.dataset import datasets, referenced_contents, version
from btmd.projections.model import models
from btmd.projections.queue import count_going, places
from btmd.projections.settings import changed_settings
from btmd.projections.spool import spool_position
from btmd.projections.views import ALL_PROJECTIONS
from btmd.store.batch import StreamAppend
from btmd.store.event_log import Store

ACTOR = Actor(1000, 1000, 1, (1000,), "ada")
FACTS = model.ModelFacts(
    "LlamaForCausalLM", "llama", 100, 2, 64, 128, 4, 2, 512, 512, True, "float32", 400, True, True, False, "f" * 64
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    times, ids = itertools.count(1_000_000, 1000), itertools.count(1)
    opened = await Store.open(
        tmp_path / "btmd.db",
        clock=lambda: next(times),
        boot_id="boot",
        new_id=lambda: f"id-{next(ids)}",
        projections=ALL_PROJECTIONS,
    )
    yield opened
    await opened.close()


async def _happen(store: Store, stream: str, *events: Event) -> None:
    await store.append([StreamAppend(stream, tuple(events), expected_version=None)], actor=ACTOR)


def _submitted(job_id: str, priority: int = 0) -> job_events.JobSubmitted:
    plan, frozen = {"total_steps": 10}, {"num_epochs": 2, "rows_sha256": job_id * 8}
    return job_events.JobSubmitted(
        job_id, "name", 1000, "m", "d", "v", "quick_test", plan, frozen, {}, priority=priority
    )


def _tick(job_id: str, number: int, step: int, *losses: float) -> job_events.TrainingProgressed:
    steps = tuple(range(step - len(losses) + 1, step + 1))
    return job_events.TrainingProgressed(
        job_id, 1, number, step, 12, 0, losses[-1], 1e-3, 50.0, float(step), 1000, steps, losses
    )


async def _run_a_job(store: Store, job_id: str) -> None:
    await _happen(store, f"job-{job_id}", _submitted(job_id), job_events.AttemptStarted(job_id, 1, "boot", "first"))
    shape = {"total_steps": 12, "total_epochs": 3}
    await _happen(
        store,
        f"job-{job_id}",
        job_events.TrainingShapeKnown(job_id, 1, 1, shape),
        job_events.TrainingStageEntered(job_id, 1, 2, "training", "Training."),
        job_events.HeldOutLossMeasured(job_id, 1, 3, 0, 3.0, 50, "before", 0.5),
    )
    await _happen(store, f"ticks-{job_id}", _tick(job_id, 4, 2, 2.5, 2.0), _tick(job_id, 6, 3, 2.2))
    await _happen(
        store,
        f"job-{job_id}",
        job_events.CheckpointSaved(job_id, 1, 5, 2, "step-2", 10, 2.0, True),
        job_events.CheckpointSaved(job_id, 1, 7, 3, "step-3", 10, None, False, ("step-2",)),
        job_events.TrainerNoticed(job_id, 1, 8, "left_out", "2 rows were left out."),
    )


async def test_a_job_is_shown_as_it_stands(store: Store) -> None:
    await _run_a_job(store, "a")
    async with store.session() as session:
        row = await view.job(session, "a")
        assert row is not None
        assert (row.state, row.attempt, row.step, row.total_steps) == ("training", 1, 3, 12)
        assert (row.loss, row.best_loss, row.held_out_before, row.ticks) == (2.2, 2.0, 3.0, 2)
        assert [one.name for one in await view.checkpoints(session, "a")] == ["step-3"]
        assert [one.text for one in await view.notices(session, "a")] == ["2 rows were left out."]
        assert await spool_position(session, "a", 1) == 8
        assert await view.count_active(session) == 1
    await _happen(store, "job-a", job_events.JobCompleted("a", 1, "finished", {"best_step": 3, "final_loss": 2.2}))
    async with store.session() as session:
        row = await view.job(session, "a")
        assert row is not None
        assert (row.state, row.ended_by, row.outcome["final_loss"]) == ("completed", "finished", 2.2)
        assert (await view.attempts(session, "a"))[0].ended == "finished"
        assert await view.unfinished_contents(session) == set()


async def test_waiting_jobs_come_in_order(store: Store) -> None:
    for job_id, priority in (("a", 0), ("b", 0), ("c", 5), ("d", 0)):
        await _happen(store, f"job-{job_id}", _submitted(job_id, priority))
    await _happen(
        store,
        "job-d",
        job_events.AttemptStarted("d", 1, "boot", "first"),
        job_events.AttemptLost("d", 1, "crash", "gone"),
    )
    async with store.session() as session:
        assert [one.job_id for one in await places(session)] == ["d", "c", "a", "b"]
    moved = [queue.JobMoved("b", "c", 5, "0"), queue.JobHeld("b")]
    await _happen(store, "job-b", *moved)
    await _happen(store, "job-a", queue.JobPrioritySet("a", 0, 9))
    await _happen(store, "job-d", job_events.JobCancelled("d"))
    async with store.session() as session:
        line = await places(session)
        assert [(one.job_id, one.priority, one.held) for one in line] == [
            ("a", 9, False),
            ("b", 5, True),
            ("c", 5, False),
        ]
        row = await view.job(session, "b")
    assert row is not None
    assert row.priority == 5


@pytest.mark.parametrize(
    ("events", "going"),
    [
        ([], 1),
        ([queue.JobHeld("a")], 0),
        ([queue.JobHeld("a"), queue.JobReleased("a")], 1),
        ([job_events.AttemptStarted("a", 1, "boot", "first"), queue.JobHeld("a")], 1),
        ([job_events.AttemptFailed("a", 1, "hung", "x"), job_events.AnswerAsked("a", 1, "?", "try_again", {}, 9)], 0),
        ([job_events.AttemptFailed("a", 1, "device", "x"), job_events.AnswerAsked("a", 1, "?", WAITS[0], {}, 9)], 1),
        ([job_events.AttemptStarted("a", 1, "boot", "first"), job_events.AttemptLost("a", 1, "reboot", "x")], 1),
        ([job_events.AttemptLost("a", 1, "reboot", "x"), queue.JobHeld("a")], 0),
        ([job_events.JobPaused("a", 0)], 0),
    ],
)
async def test_a_job_that_waits_for_somebody_does_not_go_on_by_itself(
    store: Store, events: Sequence[Event], going: int
) -> None:
    await _happen(store, "job-a", _submitted("a"), *events)
    async with store.session() as session:
        assert await count_going(session) == going


@pytest.mark.parametrize(
    ("events", "state", "asked"),
    [
        ([job_events.PauseRequested("a")], "training", "pause"),
        ([job_events.PauseRequested("a"), job_events.JobPaused("a", 3)], "paused", ""),
        ([job_events.JobPaused("a", 3), job_events.ResumeRequested("a")], "queued", ""),
        ([job_events.JobPaused("a", 3), job_events.StopRequested("a")], "queued", "stop"),
        ([job_events.CancelRequested("a"), job_events.JobCancelled("a")], "cancelled", ""),
        ([job_events.AttemptLost("a", 1, "reboot", "x")], "recovering", ""),
        ([job_events.JobFailed("a", 1, "data", "x")], "failed", ""),
    ],
)
async def test_what_was_asked_and_done(store: Store, events: Sequence[Event], state: str, asked: str) -> None:
    await _run_a_job(store, "a")
    await _happen(store, "job-a", *events)
    async with store.session() as session:
        row = await view.job(session, "a")
    assert row is not None
    assert (row.state, row.asked) == (state, asked)


async def test_models_datasets_and_settings(store: Store) -> None:
    await _happen(store, "model-m", model.ModelAdded("m", "M", 1000, "/m", "/m", False, FACTS))
    await _happen(
        store,
        "dataset-d",
        dataset.DatasetAdded("d", "D", 1000, "d.jsonl"),
        dataset.DatasetVersionAdded("d", "v1", "s1", "r1", 10, 3, {}, {"rows_kept": 3}),
        dataset.ConsentGranted("d", "study", ("train",), 1000),
    )
    await _happen(store, "settings", settings.SettingChanged("training.seed", None, 7, "luck"))
    async with store.session() as session:
        assert [row.facts for row in await models(session)] == [FACTS]
        [row] = await datasets(session)
        assert (row.newest_version, row.scopes, row.purpose) == ("v1", ("train",), "study")
        newest = await version(session, "d", "v1")
        assert newest is not None
        assert newest.facts == {"rows_kept": 3}
        assert await referenced_contents(session) == {"r1"}
        [changed] = await changed_settings(session)
        assert (changed.value_json, changed.changed_by) == ("7", "ada")
    await _happen(store, "dataset-d", dataset.ConsentRevoked("d", 1000), dataset.DatasetRemoved("d"))
    await _happen(store, "model-m", model.ModelRemoved("m"))
    async with store.session() as session:
        assert list(await models(session)) == []
        assert list(await datasets(session)) == []
        assert await referenced_contents(session) == set()


async def test_views_built_anew_are_the_same(store: Store, tmp_path: Path) -> None:
    await _run_a_job(store, "a")
    await _happen(store, "job-a", job_events.JobPaused("a", 3), job_events.ResumeRequested("a"))
    await _happen(store, "model-m", model.ModelAdded("m", "M", 1000, "/m", "/m", False, FACTS))

    def contents() -> dict[str, list[tuple[object, ...]]]:
        with sqlite3.connect(f"file:{tmp_path / 'btmd.db'}?mode=ro", uri=True) as connection:
            tables = [name for projection in ALL_PROJECTIONS for name in projection.tables]
            return {name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=str) for name in tables}

    before = contents()
    assert before["view_jobs"]
    rebuilt = await store.rebuild_projections()
    assert set(rebuilt.values()) == {None}
    assert contents() == before
