"""What is measured beside the held-out loss: row by row, general knowledge, and answers by their words."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from btmd.data.encoding import Encoder
from btmd.data.general_knowledge import general_questions, general_rows
from btmd.frames import Finished, HeldOutEvaluated
from btmd.job_folder import JobFolder, LoraPlan
from btmd.planning import scoring, time_estimate
from btmd.trainer import answers
from btmd.trainer.model import llama_shape
from btmd.trainer.row_losses import read_held_out
from tests.fixtures.tiny_model import make_tiny_llama
from tests.trainer.here import crash_here, only, train_here
from tests.trainer.job import frames_of, full_fine_tune, make_job

MEASURED: dict[str, Any] = {"general_questions": 20, "scored_answers": 6}


def finished_of(folder: JobFolder, attempt: int = 1) -> Finished:
    (found,) = only(Finished, frames_of(folder, attempt))
    assert isinstance(found, Finished)
    return found


@pytest.mark.parametrize("kind", [{}, full_fine_tune()], ids=["lora", "full"])
def test_a_run_that_learns_its_answers_shows_it_in_every_figure(
    kind: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tiny model's tokens are hardly more than letters.
    monkeypatch.setattr("btmd.trainer.answers.SHORT_TOKENS", 90)
    folder = make_job(tmp_path, **kind, **MEASURED, num_epochs=25, save_every=0, sample_tokens=90)
    train_here(folder)
    found = finished_of(folder)
    assert found.held_out_before is not None
    assert found.held_out_after is not None
    improvement = 100 * (1 - found.held_out_after / found.held_out_before)
    assert found.held_out_low is not None
    assert found.held_out_high is not None
    assert 0 < found.held_out_low <= improvement <= found.held_out_high
    assert found.held_out_rows == 6
    assert found.general_before is not None
    assert found.general_after is not None
    assert found.general_before != found.general_after
    assert found.general_questions == 20
    assert found.overlap_before is not None
    assert found.overlap_after is not None
    assert found.overlap_before < 0.2 < found.overlap_after
    assert found.scored_answers >= 5

    kept = read_held_out(folder.held_out_path)
    assert kept.before is not None
    assert kept.after is not None
    assert kept.before.lines == (1, 7, 13, 19, 25, 31)
    assert kept.before.mean == pytest.approx(found.held_out_before)
    assert kept.after.mean == pytest.approx(found.held_out_after)
    scores = msgspec.json.decode((folder.result / "training.json").read_bytes())["scores"]
    assert scores["held_out_low"] == found.held_out_low


def test_texts_are_in_no_frame_and_not_beside_the_losses(tmp_path: Path) -> None:
    folder = make_job(tmp_path, **MEASURED)
    train_here(folder)
    told = folder.spool_path(1).read_bytes() + folder.held_out_path.read_bytes()
    for word in (b"harbour", b"stands", b"Where", b"honey"):
        assert word not in told
    samples = json.loads(folder.answers_path.read_bytes())["samples"]
    assert len(samples) == 1  # those that a person asked to see; the others leave only their scores


def test_the_figures_survive_a_crash_and_belong_to_the_best_state(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        **MEASURED,
        "learning_rate": 0.05,
        "num_epochs": 8,
        "lora": LoraPlan(r=8, alpha=16, dropout=0.0),
        "eval_every": 2,
        "save_every": 2,
    }
    whole = make_job(tmp_path, "whole", **settings)
    train_here(whole)
    folder = make_job(tmp_path, **settings)
    crash_here(folder, 1, step=33)
    train_here(folder, 2)
    expected, found = finished_of(whole), finished_of(folder, 2)
    assert found.best_step < found.steps
    during = [one for one in only(HeldOutEvaluated, frames_of(whole)) if one.when == "during"]
    assert found.best_step == min(during, key=lambda one: one.loss).step
    names = ("held_out_low", "held_out_high", "general_before", "general_after", "overlap_before", "overlap_after")
    assert [getattr(found, name) for name in names] == [getattr(expected, name) for name in names]


def test_rows_put_in_quarantine_later_are_compared_neither_before_nor_after(tmp_path: Path) -> None:
    folder = make_job(tmp_path, save_every=2)
    crash_here(folder, 1, step=5)
    (before,) = only(HeldOutEvaluated, frames_of(folder, 1))
    folder.create(msgspec.structs.replace(folder.read_plan(), quarantined_rows=(7,)))
    train_here(folder, 2)
    found, kept = finished_of(folder, 2), read_held_out(folder.held_out_path)
    assert found.held_out_rows == 5
    assert kept.before is not None
    assert kept.before.lines == (1, 13, 19, 25, 31)
    assert found.held_out_before == pytest.approx(kept.before.mean)
    assert found.held_out_before != before.loss


def test_nothing_is_scored_that_cannot_be(tmp_path: Path) -> None:
    folder = make_job(tmp_path, scored_answers=6, sample_tokens=2, held_out_fraction=0.0)
    train_here(folder)
    found = finished_of(folder)
    assert (found.scored_answers, found.overlap_after) == (0, None)
    assert (found.general_before, found.general_after, found.general_questions) == (None, None, 0)


def test_the_everyday_questions_are_many_short_and_all_different(tmp_path: Path) -> None:
    rows = general_questions()
    assert len(rows) >= 60
    assert len({row["messages"][0]["content"] for row in rows}) == len(rows)
    assert all(len(turn["content"]) < 90 for row in rows for turn in row["messages"])
    with_template = Encoder.load(make_tiny_llama(tmp_path / "chat"))
    without = Encoder.load(make_tiny_llama(tmp_path / "base", chat_template=None))
    chat, plain = general_rows(with_template, 60), general_rows(without, 60)
    assert len(chat) == len(plain) == 60
    # Of a conversation the answer is measured, of a plain text all of it.
    assert chat.learned_counts.sum() < plain.learned_counts.sum()
    assert len(general_rows(with_template, 20)) == 20


def test_the_plan_counts_on_what_the_trainer_does() -> None:
    assert (answers.MOST_TOGETHER, answers.SHORT_TOKENS, answers.FEWEST_SCORED) == (
        time_estimate.TOGETHER,
        time_estimate.SCORED_TOKENS,
        scoring.FEWEST_SCORED,
    )
    assert llama_shape.ARCHITECTURES == time_estimate.TOGETHER_ARCHITECTURES
