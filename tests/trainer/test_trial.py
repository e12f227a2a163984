"""Steps on trial: they foretell, they make a run fit, and they change nothing of it."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from btmd.frames import Failed, Finished, MachineRate, Notice, TrialDone
from btmd.job_folder import JobFolder, TrialPlan
from btmd.trainer.cost import Cost, Sample, fitted
from btmd.trainer.trial import settled
from tests.trainer.job import (
    frames_of,
    full_fine_tune,
    kill_at_step,
    log_of,
    losses_of,
    make_job,
    make_plan,
    run_to_end,
)

TRIAL = TrialPlan(
    most_s=60.0,
    memory_factors=(0.8, 0.9, 1.05),
    gpu_memory_factors=(0.95, 1.0, 1.05),
    time_factors=(0.5, 1.5, 2.0),
    disk_bytes=(1.0, 2.0, 3.0),
    row_bytes=1000,
    measures_rates=True,
)


def told(folder: JobFolder, kind: type[Any], attempt: int = 1) -> list[Any]:
    return [frame for frame in frames_of(folder, attempt) if isinstance(frame, kind)]


def tried(**changes: Any) -> TrialPlan:
    return msgspec.structs.replace(TRIAL, **changes)


@pytest.mark.parametrize(
    "changes",
    [{"precision": "bf16"}, {**full_fine_tune(), "gradient_checkpointing": True}],
    ids=["adapter with dropout", "all weights"],
)
def test_a_run_is_the_same_to_the_last_bit_with_and_without_a_trial(tmp_path: Path, changes: dict[str, Any]) -> None:
    plain = make_job(tmp_path, "plain", **changes)
    with_trial = make_job(tmp_path, "trial", trial=TRIAL, **changes)
    for folder in (plain, with_trial):
        assert run_to_end(folder) == 0, log_of(folder)
    assert losses_of(with_trial) == losses_of(plain)
    weights = sorted(path.name for path in plain.result.glob("*.safetensors"))
    assert weights
    for name in weights:
        assert (with_trial.result / name).read_bytes() == (plain.result / name).read_bytes()
    assert not told(plain, TrialDone)
    (found,) = told(with_trial, TrialDone)
    (finished,) = told(with_trial, Finished)
    assert found.shapes_left == 0
    assert found.process_bytes < found.memory_bytes.low < found.memory_bytes.middle
    computed = found.memory_bytes.uncalibrated
    assert 0.7 < finished.peak_memory_bytes / computed < 1.15
    # Beside what it computed stands what earlier outcomes make of it.
    above = computed - found.process_bytes
    assert found.memory_bytes.middle - found.process_bytes == pytest.approx(0.9 * above)
    for time in (found.step_s, found.total_s):
        assert time.middle == pytest.approx(1.5 * time.uncalibrated)
    assert 0 < found.step_s.low < found.step_s.middle < found.total_s.middle
    assert finished.attempt_s > found.seconds
    (rate,) = told(with_trial, MachineRate)
    assert rate.flops > 1e6
    assert rate.copied_bytes_s > 1e6


def test_nothing_is_tried_again_when_a_run_is_taken_up_again(tmp_path: Path) -> None:
    folder = make_job(tmp_path, trial=TRIAL)
    kill_at_step(folder, 1, 5)
    assert run_to_end(folder, 2) == 0, log_of(folder, 2)
    assert len(told(folder, TrialDone, 1)) == 1
    assert not told(folder, TrialDone, 2)


def test_what_would_not_fit_is_computed_in_smaller_pieces_with_the_same_steps(tmp_path: Path) -> None:
    folder = make_job(tmp_path, micro_batch_size=4, trial=tried(row_bytes=10**15))
    plain = make_job(tmp_path, "plain", micro_batch_size=1)
    for one in (folder, plain):
        assert run_to_end(one) == 0, log_of(one)
    (found,) = told(folder, TrialDone)
    assert found.micro_batch_size == 1
    notices = [one.text for one in told(folder, Notice) if one.code == "micro_batch_smaller"]
    assert len(notices) == 2
    assert "a step still learns from 6" in notices[0]
    assert losses_of(folder) == losses_of(plain)


def test_what_cannot_fit_at_all_fails_before_the_first_step(tmp_path: Path) -> None:
    folder = make_job(tmp_path, trial=tried(limit_bytes=1))
    assert run_to_end(folder) == 1
    (failed,) = told(folder, Failed)
    assert (failed.reason, failed.step) == ("out_of_memory", 0)
    assert "gradient_checkpointing" in failed.text


def test_an_attempt_that_died_in_its_trial_is_followed_by_one_with_half_the_rows(tmp_path: Path) -> None:
    folder = make_job(tmp_path, micro_batch_size=4, trial=TRIAL)
    folder.trial_path.write_text(json.dumps({"micro_batch_size": 4, "done": False}))
    assert run_to_end(folder) == 0, log_of(folder)
    (found,) = told(folder, TrialDone)
    assert found.micro_batch_size == 2


def test_the_time_of_a_batch_is_a_line_through_those_that_were_warm() -> None:
    cold = Sample(100, 9.0, warm=False)
    warm = [Sample(100, 1.5, warm=True), Sample(200, 2.5, warm=True), Sample(300, 3.5, warm=True)]
    assert fitted([cold, *warm]) == pytest.approx(Cost(0.5, 0.01))
    assert fitted([cold]).seconds(50) == pytest.approx(4.5)
    # A smaller batch that took longer is chance, not a law.
    assert fitted([Sample(100, 2.0, warm=True), Sample(300, 1.0, warm=True)]).seconds(200) == pytest.approx(1.5)


def test_what_a_trial_settled_holds_for_later_attempts(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, micro_batch_size=4)
    folder = JobFolder(tmp_path / "job")
    folder.create(plan)
    assert settled(folder, plan) == plan
    folder.trial_path.write_text(json.dumps({"micro_batch_size": 2, "done": True}))
    assert settled(folder, plan).micro_batch_size == 2
    folder.trial_path.write_text(json.dumps({"micro_batch_size": 1, "done": False}))
    assert settled(folder, plan).micro_batch_size == 1
    folder.trial_path.write_text('{"micro_batch')
    assert settled(folder, plan) == plan
