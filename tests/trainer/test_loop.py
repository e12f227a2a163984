"""A run from plan to result, as its spool tells it."""

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from btmd.data.encoding import Encoder
from btmd.frames import (
    CheckpointRejected,
    CheckpointSaved,
    Finished,
    HeldOutEvaluated,
    Notice,
    StageEntered,
    Stopped,
    Tick,
    TrainingShape,
)
from btmd.job_folder import LoraPlan
from btmd.trainer.checkpoint import Checkpoints
from btmd.trainer.data import load_dataset
from btmd.trainer.evaluate import held_out_loss
from btmd.trainer.model import load_trainable
from tests.trainer.here import crash_here, only, train_here
from tests.trainer.job import frames_of, full_fine_tune, losses_of, make_job

OVERFIT: dict[str, Any] = {"learning_rate": 0.05, "num_epochs": 12, "lora": LoraPlan(r=8, alpha=16, dropout=0.0)}


@pytest.mark.parametrize("kind", [{}, full_fine_tune()], ids=["lora", "full"])
def test_the_result_has_the_held_out_loss_that_was_told(kind: dict[str, Any], tmp_path: Path) -> None:
    folder = make_job(tmp_path, **kind, eval_every=3, num_epochs=3)
    train_here(folder)
    plan, frames = folder.read_plan(), frames_of(folder)

    [finished] = only(Finished, frames)
    assert frames[-1] is finished
    assert finished.ended_by == "finished"
    assert finished.held_out_after is not None
    assert finished.held_out_before is not None
    assert finished.held_out_after < finished.held_out_before
    before, *during, after = only(HeldOutEvaluated, frames)
    assert (before.when, before.step, before.loss) == ("before", 0, finished.held_out_before)
    assert [(each.when, each.step) for each in during] == [("during", step) for step in (3, 6, 9, 12, 15)]
    assert (after.when, after.step, after.loss) == ("after", finished.best_step, finished.held_out_after)

    encoder = Encoder.load(Path(plan.model_folder))
    dataset = load_dataset(
        Path(plan.rows_path),
        encoder,
        sha256=plan.rows_sha256,
        max_length=plan.max_length,
        held_out_fraction=0.1,
        held_out_limit=0,
        seed=plan.seed,
        between_rows=lambda: None,
    )
    is_full = plan.training_type == "fine_tuning"
    model = load_trainable(
        folder.result if is_full else Path(plan.model_folder),
        training_type="fine_tuning" if is_full else "lora_adaptation",
        precision="fp32",
        lora=None,
        gradient_checkpointing=False,
        seed=0,
        device=torch.device("cpu"),
        adapter_folder=None if is_full else folder.result,
    )
    found = held_out_loss(model, dataset.held_out, micro_batch_size=2, before_each=lambda: None)
    # A full result is rounded to bf16, an adapter is not.
    assert found.loss == pytest.approx(finished.held_out_after, rel=3e-3 if is_full else 1e-6)


def test_the_frames_tell_the_whole_story_in_order(tmp_path: Path) -> None:
    folder = make_job(tmp_path)
    train_here(folder)
    frames = frames_of(folder)
    stages = [frame.stage for frame in only(StageEntered, frames)]
    assert stages == ["preparing", "evaluating", "training", "evaluating", "evaluating"]
    [shape] = only(TrainingShape, frames)
    assert (shape.total_steps, shape.train_rows, shape.held_out_rows) == (10, 30, 6)
    assert shape.total_parameters > shape.trainable_parameters > 0
    ticks = only(Tick, frames)
    assert [tick.steps for tick in ticks] == [(step,) for step in range(1, 11)]
    assert [tick.epoch for tick in ticks] == [0] * 5 + [1] * 5
    assert all(tick.memory_bytes > 50_000_000 and tick.tokens_per_s > 0 for tick in ticks)
    assert ticks[0].learning_rate == pytest.approx(2.5e-3)
    assert [saved.step for saved in only(CheckpointSaved, frames)] == [4, 8]
    for saved in only(CheckpointSaved, frames):
        told_before = [tick.step for tick in ticks if frames.index(tick) < frames.index(saved)]
        assert told_before == list(range(1, saved.step + 1))


def test_ticks_gather_the_losses_of_all_steps_since_the_last(tmp_path: Path) -> None:
    folder = make_job(tmp_path, tick_every_s=3600.0, save_every=0)
    train_here(folder)
    ticks = only(Tick, frames_of(folder))
    assert [tick.steps for tick in ticks] == [(1,), tuple(range(2, 11))]
    assert len(ticks[1].losses) == 9


def test_max_steps_shortens_the_run(tmp_path: Path) -> None:
    folder = make_job(tmp_path, max_steps=3)
    train_here(folder)
    [finished] = only(Finished, frames_of(folder))
    assert (finished.steps, sorted(losses_of(folder))) == (3, [1, 2, 3])


def test_stop_and_keep_ends_with_a_result_and_drops_the_half_step(tmp_path: Path) -> None:
    folder = make_job(tmp_path)
    train_here(folder, control="stop", step=5, looks=3)
    [finished] = only(Finished, frames_of(folder))
    assert (finished.ended_by, finished.steps, finished.best_step) == ("stopped", 5, 5)
    assert finished.held_out_after is not None
    assert (folder.result / "adapter_model.safetensors").is_file()


def test_cancel_ends_at_once_without_checkpoint_and_result(tmp_path: Path) -> None:
    folder = make_job(tmp_path, save_every=0)
    train_here(folder, control="cancel", step=5, looks=3)
    frames = frames_of(folder)
    assert isinstance(frames[-1], Stopped)
    assert frames[-1].reason == "cancel"
    assert only(CheckpointSaved, frames) == []
    assert not folder.result.exists()


def test_over_fitting_stops_early_and_the_result_is_the_best_state(tmp_path: Path) -> None:
    folder = make_job(tmp_path, **OVERFIT, eval_every=2, patience=2, save_every=0, keep_checkpoints=1)
    train_here(folder)
    frames = frames_of(folder)
    [finished] = only(Finished, frames)
    during = {frame.step: frame.loss for frame in only(HeldOutEvaluated, frames) if frame.when == "during"}
    assert finished.ended_by == "early_stopping"
    assert finished.best_step == min(during, key=lambda step: during[step]) < finished.steps
    assert finished.held_out_after == during[finished.best_step]
    best = load_file(folder.checkpoints / f"step-{finished.best_step:08d}" / "weights.safetensors")
    kept = load_file(folder.result / "adapter_model.safetensors")
    assert sorted(float(tensor.sum()) for tensor in best.values()) == sorted(float(t.sum()) for t in kept.values())


def test_the_best_and_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    folder = make_job(tmp_path, **OVERFIT, eval_every=2, save_every=3, keep_checkpoints=2)
    train_here(folder)
    frames = frames_of(folder)
    [finished] = only(Finished, frames)
    names = Checkpoints(folder.checkpoints).names()
    assert len(names) == 3
    assert names[0] == f"step-{finished.best_step:08d}"
    saved = only(CheckpointSaved, frames)
    assert [name for frame in saved if frame.best for name in [frame.name]][-1] == names[0]
    assert set(names) == {frame.name for frame in saved} - {name for frame in saved for name in frame.pruned}


def test_a_damaged_best_checkpoint_gives_the_last_state_and_is_told_of(tmp_path: Path) -> None:
    folder = make_job(tmp_path, **OVERFIT, eval_every=2, save_every=0)
    train_here(folder, control="pause", step=58)
    best = next(frame for frame in reversed(only(CheckpointSaved, frames_of(folder))) if frame.best)
    (folder.checkpoints / best.name / "weights.safetensors").write_bytes(b"")
    train_here(folder, 2)
    frames = frames_of(folder, 2)
    assert [frame.name for frame in only(CheckpointRejected, frames)] == [best.name]
    [finished] = only(Finished, frames)
    assert finished.best_step == finished.steps


def test_without_held_out_rows_the_last_state_is_the_result_and_it_says_so(tmp_path: Path) -> None:
    folder = make_job(tmp_path, held_out_every=0, held_out_fraction=0.0)
    train_here(folder)
    frames = frames_of(folder)
    [finished] = only(Finished, frames)
    assert (finished.held_out_before, finished.held_out_after, finished.best_step) == (None, None, 12)
    assert [notice.code for notice in only(Notice, frames)] == ["no_held_out"]


def test_left_out_rows_are_told_of(tmp_path: Path) -> None:
    folder = make_job(tmp_path, max_length=70)
    train_here(folder)
    frames = frames_of(folder)
    [shape] = only(TrainingShape, frames)
    assert shape.left_out_rows > 0
    assert shape.left_out_rows + shape.train_rows + shape.held_out_rows == 36
    assert "rows_over_long" in [notice.code for notice in only(Notice, frames)]


@pytest.mark.parametrize("kind", [{}, full_fine_tune()], ids=["lora", "full"])
def test_held_out_questions_are_answered_before_and_after(kind: dict[str, Any], tmp_path: Path) -> None:
    folder = make_job(tmp_path, **kind, num_epochs=25, sample_answers=4, sample_tokens=40, save_every=0)
    train_here(folder)
    samples = json.loads(folder.answers_path.read_bytes())["samples"]
    assert [sample["line"] for sample in samples] == [1, 13, 19, 31]
    assert all(sample["base"] != sample["tuned"] for sample in samples)
    assert any(sample["tuned"].startswith("The ") for sample in samples)
    assert folder.answers_path.stat().st_mode & 0o777 == 0o600
    spool = folder.spool_path(1).read_bytes()
    assert all(sample["prompt_text"].encode() not in spool for sample in samples)


def test_a_full_fine_tunes_first_answers_survive_a_pause(tmp_path: Path) -> None:
    folder = make_job(tmp_path, **full_fine_tune())
    train_here(folder, control="pause", step=5)
    before = json.loads(folder.answers_path.read_bytes())["samples"][0]
    train_here(folder, 2)
    after = json.loads(folder.answers_path.read_bytes())["samples"][0]
    assert before["tuned"] is None
    assert after["base"] == before["base"] is not None
    assert after["tuned"] is not None


def test_the_record_says_how_the_result_came_about(tmp_path: Path) -> None:
    folder = make_job(tmp_path)
    train_here(folder)
    plan = folder.read_plan()
    record = msgspec.json.decode((folder.result / "training.json").read_bytes())
    assert record["dataset_sha256"] == plan.rows_sha256
    assert record["seed"] == plan.seed
    assert record["settings"]["learning_rate"] == plan.learning_rate
    assert {"torch", "python"} <= record["versions"].keys()
    assert math.isfinite(record["held_out_after"])
    assert str(tmp_path) not in (folder.result / "training.json").read_text()


def test_patience_goes_on_where_it_was_when_an_attempt_is_taken_up_again(tmp_path: Path) -> None:
    settings: dict[str, Any] = {**OVERFIT, "eval_every": 2, "patience": 2, "save_every": 2, "sample_answers": 0}
    whole = make_job(tmp_path, "whole", **settings)
    train_here(whole)
    [expected] = only(Finished, frames_of(whole))
    assert expected.ended_by == "early_stopping"
    folder = make_job(tmp_path, **settings)
    # One measurement without gain is behind it, and the next one ends the training.
    crash_here(folder, 1, step=expected.steps - 1)
    train_here(folder, 2)
    [finished] = only(Finished, frames_of(folder, 2))
    named = ("ended_by", "steps", "best_step", "held_out_after")
    assert [getattr(finished, name) for name in named] == [getattr(expected, name) for name in named]
