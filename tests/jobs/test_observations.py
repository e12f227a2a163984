"""What a trainer tells becomes events, and nothing that it says is lost on the way."""

import math
from pathlib import Path

import pytest

from btmd.command_handler import CommandHandler
from btmd.domain.commands import DECIDERS
from btmd.domain.event import Event
from btmd.domain.forecast import ForecastRevised, ForecastScored
from btmd.domain.job import RecordEnd, RecordFrames, stream_name
from btmd.frames import FrameWriter, Spread, TrialDone, read_frames
from btmd.jobs.observations import observe
from tests.fixtures import job_histories as history
from tests.store.given import ACTOR, opened

TRIAL = TrialDone(
    at_us=1,
    memory_bytes=Spread(80, 90, 100, 70),
    process_bytes=20,
    disk_bytes=Spread(8, 10, 12, 5),
    step_s=Spread(1, 2, 3, 4),
    total_s=Spread(40, 60, 80, 50),
    gpu_memory_bytes=Spread(300, 400, 500, 200),
    seconds=7.0,
    micro_batches=3,
    micro_batch_size=2,
    largest_tokens=64,
    shapes=4,
    shapes_left=1,
)
OUTCOME = {
    "ended_by": "finished",
    "peak_memory_bytes": 120,
    "peak_gpu_memory_bytes": 400,
    "folder_bytes": 10,
    "attempt_s": 100.0,
}


async def test_what_a_trial_computed_is_what_the_outcome_is_compared_with(tmp_path: Path) -> None:
    """By way of the spool and the log. Compared with what earlier outcomes made of it, half of an error would stay."""
    spool = FrameWriter(tmp_path / "0001.spool")
    spool.append(TRIAL)
    spool.close()
    (found,) = read_frames(spool.path)
    revised = observe("aa", 1, found)
    assert isinstance(revised, ForecastRevised)
    async with opened(tmp_path) as store:
        await history.write(store, "aa", history.submitted("aa"), history.started("aa")[0])
        for command in (RecordFrames("aa", 1, (revised,)), RecordEnd("aa", 1, "finished", OUTCOME)):
            # Each reads the log anew.
            await CommandHandler(store, DECIDERS).handle(command, actor=ACTOR)
        events: list[Event] = [one.event for one in await store.read_stream(stream_name("aa"))]
    (recorded,) = (one.forecast for one in events if isinstance(one, ForecastRevised))
    ranges = (recorded.memory_bytes, recorded.disk_bytes, recorded.step_s, recorded.total_s, recorded.gpu_memory_bytes)
    assert [one and one.uncalibrated for one in ranges] == [70, 5, 4, 50, 200]
    (scored,) = (one for one in events if isinstance(one, ForecastScored))
    assert {one.quantity: one.log_ratio for one in scored.scores} == pytest.approx(
        {"memory": math.log(2), "gpu_memory": math.log(2), "disk": math.log(2), "time": math.log(2)}
    )
    # Whether it lay in the range is of what was said.
    assert {one.quantity: one.inside for one in scored.scores} == {
        "memory": False,
        "gpu_memory": True,
        "disk": True,
        "time": False,
    }
