"""An attempt may go on with other values than the one before it, or from earlier than it got."""

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from btmd.data.sequences import Rows, rows_of_step
from btmd.frames import CheckpointRejected, CheckpointSaved, Finished, Notice, Stopped, TrainingShape
from btmd.job_folder import JobFolder, LoraPlan
from tests.trainer.here import crash_here, only, train_here
from tests.trainer.job import frames_of, full_fine_tune, losses_of, make_job

NO_DROPOUT: dict[str, Any] = {"lora": LoraPlan(r=4, alpha=8, dropout=0.0), "sample_answers": 0}


def change(folder: JobFolder, **changes: Any) -> None:
    folder.create(msgspec.structs.replace(folder.read_plan(), **changes))


def notices(folder: JobFolder, attempt: int, code: str) -> list[str]:
    return [one.text for one in only(Notice, frames_of(folder, attempt)) if one.code == code]


def lines_learned(monkeypatch: pytest.MonkeyPatch) -> dict[int, tuple[int, ...]]:
    """By step, the lines of the rows that it learned from when it was last begun."""
    found: dict[int, tuple[int, ...]] = {}

    def noted(rows: Rows, *, step: int, **values: Any) -> Any:
        members = rows_of_step(rows, step=step, **values)
        found[step] = rows.lines(members)
        return members

    monkeypatch.setattr("btmd.trainer.loop.rows_of_step", noted)
    return found


@pytest.mark.parametrize(
    "changes",
    [{"micro_batch_size": 1}, {"micro_batch_size": 3, "gradient_checkpointing": True}],
    ids=["smaller micro-batch", "checkpointing"],
)
def test_from_smaller_pieces_on_the_losses_are_those_of_a_run_that_always_had_them(
    tmp_path: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    always = make_job(tmp_path, "always", **NO_DROPOUT | changes, num_epochs=4)
    train_here(always)
    folder = make_job(tmp_path, **NO_DROPOUT, micro_batch_size=6, num_epochs=4)
    learned = lines_learned(monkeypatch)
    crash_here(folder, 1, step=10)
    change(folder, **changes)
    train_here(folder, 2)
    found = losses_of(folder, [1, 2])
    assert sorted(found) == list(range(1, 21))
    assert found == pytest.approx(losses_of(always), abs=1e-5, rel=0)
    (text,) = notices(folder, 2, "resume_not_exact")
    assert f"micro_batch_size: 6 -> {changes['micro_batch_size']}" in text
    # Every row as often as was planned, however often its step was begun.
    times = Counter(line for lines in learned.values() for line in lines)
    assert sorted(times) == [line for line in range(1, 37) if line % 6 != 1]
    assert set(times.values()) == {4}


def test_it_goes_back_to_before_a_step_once_and_later_goes_on_from_there(tmp_path: Path) -> None:
    undisturbed = make_job(tmp_path, "undisturbed", **NO_DROPOUT, save_every=2)
    train_here(undisturbed)
    folder = make_job(tmp_path, **NO_DROPOUT, save_every=2, keep_checkpoints=9)
    train_here(folder, 1, control="pause", step=6, looks=3)
    assert only(CheckpointSaved, frames_of(folder, 1))[-1].name == "step-00000006-row-00002"

    change(folder, resume_before_step=6)
    crash_here(folder, 2, step=9)
    assert min(losses_of(folder, [2])) == 5
    assert notices(folder, 2, "resume_earlier")
    train_here(folder, 3)
    assert min(losses_of(folder, [3])) == 9
    assert not notices(folder, 3, "resume_earlier")
    assert losses_of(folder, [1, 2, 3]) == losses_of(undisturbed)
    assert not only(CheckpointRejected, [*frames_of(folder, 2), *frames_of(folder, 3)])
    assert not list(folder.checkpoints.glob("passed-over-*"))


def test_the_same_step_with_another_rate_is_another_going_back(tmp_path: Path) -> None:
    folder = make_job(tmp_path, **NO_DROPOUT, save_every=2, keep_checkpoints=9)
    crash_here(folder, 1, step=7)
    change(folder, resume_before_step=3, learning_rate=2e-3)
    crash_here(folder, 2, step=7)
    assert min(losses_of(folder, [2])) == 3
    assert "learning_rate: 0.005 -> 0.002" in notices(folder, 2, "resume_not_exact")[0]
    change(folder, learning_rate=1e-3)
    train_here(folder, 3)
    assert min(losses_of(folder, [3])) == 3


def test_before_the_first_checkpoint_it_begins_anew(tmp_path: Path) -> None:
    undisturbed = make_job(tmp_path, "undisturbed", **NO_DROPOUT)
    train_here(undisturbed)
    folder = make_job(tmp_path, **NO_DROPOUT)
    crash_here(folder, 1, step=6)
    change(folder, resume_before_step=2)
    train_here(folder, 2)
    assert losses_of(folder, [2]) == losses_of(undisturbed)
    assert only(TrainingShape, frames_of(folder, 2))[0].resumed_from_step == 0


@pytest.mark.parametrize("precisions", [("bf16", "fp32"), ("fp32", "fp16"), ("fp16", "bf16")], ids="-".join)
def test_another_precision_goes_on_in_the_middle_of_a_step(tmp_path: Path, precisions: tuple[str, str]) -> None:
    before, after = precisions
    always = make_job(tmp_path, "always", **NO_DROPOUT)
    train_here(always)
    folder = make_job(tmp_path, **NO_DROPOUT, precision=before)
    train_here(folder, 1, control="pause", step=5, looks=4)
    change(folder, precision=after)
    train_here(folder, 2)
    assert f"precision: {before} -> {after}" in notices(folder, 2, "resume_not_exact")[0]
    # A partial gradient under another loss scale would throw the sixth step, and all after it, far off.
    assert losses_of(folder, [1, 2]) == pytest.approx(losses_of(always), rel=0.03)


def test_rows_newly_in_quarantine_make_a_half_step_begin_again(tmp_path: Path) -> None:
    always = make_job(tmp_path, "always", **NO_DROPOUT, quarantined_rows=(6,))
    train_here(always)
    folder = make_job(tmp_path, **NO_DROPOUT, quarantined_rows=(6,))
    train_here(folder, 1, control="pause", step=5, looks=4)
    change(folder, quarantined_rows=(6, 16))
    train_here(folder, 2)
    assert "rows in quarantine: 1 -> 2" in notices(folder, 2, "resume_not_exact")[0]
    found, expected = losses_of(folder, [1, 2]), losses_of(always)
    assert {step: found[step] for step in range(1, 6)} == {step: expected[step] for step in range(1, 6)}
    assert found == pytest.approx(expected, rel=0.2)


def test_another_training_type_begins_anew_and_says_so(tmp_path: Path) -> None:
    always = make_job(tmp_path, "always", **full_fine_tune(), sample_answers=0)
    train_here(always)
    folder = make_job(tmp_path, **NO_DROPOUT)
    crash_here(folder, 1, step=6)
    change(folder, **full_fine_tune())
    train_here(folder, 2)
    assert losses_of(folder, [2]) == losses_of(always)
    assert "fine_tuning" in notices(folder, 2, "resume_unfit")[0]
    assert not only(CheckpointRejected, frames_of(folder, 2))
    assert only(Finished, frames_of(folder, 2))


def test_asked_to_leave_it_ends_at_once_without_a_checkpoint(tmp_path: Path) -> None:
    folder = make_job(tmp_path, **NO_DROPOUT)
    train_here(folder, 1, control="leave", step=6, looks=2)
    last = frames_of(folder, 1)[-1]
    assert isinstance(last, Stopped)
    assert (last.reason, last.step) == ("leave", 6)
    assert [one.step for one in only(CheckpointSaved, frames_of(folder, 1))] == [4]
    train_here(folder, 2)
    assert min(losses_of(folder, [2])) == 5
