"""What a job needs of the machine: from its plan, its forecast, and what recoveries have changed."""

import json
from pathlib import Path
from typing import Any

from btmd.domain import job_events
from btmd.domain.forecast import Forecast, ForecastMade, Range
from btmd.domain.job_state import JobState
from btmd.domain.units import GIB
from btmd.jobs.needs import Needs
from btmd.jobs.turns import Candidate
from btmd.planning.forecast import GPU_HOST_BYTES
from btmd.projections.queue import places
from btmd.store.batch import StreamAppend
from btmd.store.event_log import Store
from tests.projections.test_views import ACTOR
from tests.projections.test_views import store as store

PLANNED = 10 * GIB


def around(middle: float) -> Range:
    return Range(0.8 * middle, middle, 1.5 * middle)


async def needed(
    store: Store,
    folder: Path,
    *,
    device: str = "cpu",
    basis: str = "formula",
    foretold: float = 12 * GIB,
    overrides: dict[str, Any] | None = None,
    state: JobState | None = None,
) -> Candidate:
    plan = {"memory": {"total_bytes": PLANNED}, "disk": {"total_bytes": 3 * GIB}}
    trainer_plan = {"device": device, "rows_sha256": "r"}
    submitted = job_events.JobSubmitted("j", "", 0, "m", "d", "v", "p", plan, trainer_plan, overrides or {})
    gpu = around(foretold) if device != "cpu" else None
    forecast = Forecast(basis, around(foretold), GIB, around(GIB), around(1), around(60), gpu)
    await store.append([StreamAppend("job-j", (submitted, ForecastMade("j", forecast)))], actor=ACTOR)
    async with store.session() as session:
        states = {} if state is None else {"j": state}
        (found,) = await Needs(folder).candidates(session, await places(session), states)
    return found


async def test_alone_a_job_needs_no_more_than_it_was_accepted_with(store: Store, tmp_path: Path) -> None:
    found = await needed(store, tmp_path)
    assert (found.memory_bytes, found.memory_beside_bytes, found.gpu_memory_bytes) == (PLANNED, 18 * GIB, 0)
    assert found.disk_bytes == 3 * GIB


async def test_what_was_measured_counts_more_than_the_plan(store: Store, tmp_path: Path) -> None:
    assert (await needed(store, tmp_path, basis="trial")).memory_bytes == 12 * GIB


async def test_on_a_gpu_its_memory_counts_and_that_of_the_process(store: Store, tmp_path: Path) -> None:
    found = await needed(store, tmp_path, device="cuda:1", overrides={"device": "cuda:1"})
    assert (found.gpu_memory_bytes, found.memory_bytes) == (PLANNED, GPU_HOST_BYTES)
    assert (found.device, found.pinned) == ("cuda:1", True)


async def test_a_job_that_recovery_made_smaller_is_not_kept_waiting_for_what_it_took_before(
    store: Store, tmp_path: Path
) -> None:
    smaller = JobState("j", "recovering", attempt=1, changes={"micro_batch_size": 1})
    found = await needed(store, tmp_path, state=smaller)
    assert (found.memory_bytes, found.memory_beside_bytes) == (0, 18 * GIB)


async def test_a_job_that_was_at_work_needs_only_the_room_that_its_folder_has_not_taken(
    store: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "j"
    folder.mkdir()
    (folder / "plan.json").write_text(json.dumps({}))
    (folder / "checkpoint").write_bytes(b"x" * 1000)
    found = await needed(store, tmp_path, state=JobState("j", "recovering", attempt=1))
    assert found.disk_bytes == 3 * GIB - 1002


async def test_the_device_that_recovery_chose_and_a_wait_after_a_failure_are_known(
    store: Store, tmp_path: Path
) -> None:
    state = JobState("j", "recovering", attempt=1, changes={"device": "cpu"}, not_before_us=7)
    found = await needed(store, tmp_path, device="cuda:0", state=state)
    assert (found.device, found.postponed, found.not_before_us) == ("cpu", True, 7)
