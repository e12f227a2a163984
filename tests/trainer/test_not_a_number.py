"""A loss or a gradient that is not a number: found at once, blamed on its rows, and left behind by the next attempt."""

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from btmd.data.encoding import Encoded, Encoder
from btmd.data.rows import Row
from btmd.data.sequences import Collector, Dataset, rows_of_step
from btmd.frames import Failed, Finished, Notice, Tick
from btmd.job_folder import JobFolder, LoraPlan
from btmd.trainer.failures import TrainingFailed
from btmd.trainer.model import Batch
from btmd.trainer.optimizer import AdamW
from btmd.trainer.preparation import load_material
from btmd.trainer.step import NotANumber, StepResult, optimizer_step
from tests.fixtures.tiny_model import make_tiny_llama
from tests.trainer.here import Never, only, train_here
from tests.trainer.job import frames_of, full_fine_tune, log_of, losses_of, make_job, make_plan, run_to_end

ODD_LETTER = "~"
"""Stands in no other row; the model computes nothing right for it."""
ROW = 16
NO_DROPOUT: dict[str, Any] = {"lora": LoraPlan(r=4, alpha=8, dropout=0.0), "sample_answers": 0}


def poison(root: Path, lines: set[int], **changes: Any) -> JobFolder:
    """A job whose model has no numbers for a letter that stands in the questions of these lines."""
    model = root / "model"
    make_tiny_llama(model, hidden=32, layers=2, heads=2, kv_heads=1, vocab=320, tied=False)
    weights = load_file(model / "model.safetensors")
    (odd,) = Encoder.load(model)._tokenizer.encode(ODD_LETTER, add_special_tokens=False).ids
    weights["model.embed_tokens.weight"][odd] = np.nan
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    plan = make_plan(root, **NO_DROPOUT | changes)
    path = Path(plan.rows_path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        if row["line"] in lines:
            row["messages"][0]["content"] += ODD_LETTER
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = JobFolder(root / "job")
    folder.create(msgspec.structs.replace(plan, rows_sha256=hashlib.sha256(path.read_bytes()).hexdigest()))
    return folder


def dataset_of(folder: JobFolder) -> Dataset:
    return load_material(folder, folder.read_plan(), Never()).dataset


def first_step_with(folder: JobFolder, line: int) -> int:
    """The optimizer step, counted from 1, that sees this line first."""
    plan, rows = folder.read_plan(), dataset_of(folder).train
    for step in range(1000):
        members = rows_of_step(rows, step=step, batch_size=plan.batch_size, seed=plan.seed)
        if line in rows.lines(members):
            return step + 1
    raise AssertionError("the row is not trained on")


def again(folder: JobFolder, **changes: Any) -> None:
    folder.create(msgspec.structs.replace(folder.read_plan(), **changes))


def test_the_row_that_gives_no_number_is_named_and_the_next_attempt_goes_on_without_it(tmp_path: Path) -> None:
    folder = poison(tmp_path, {ROW}, save_every=1, micro_batch_size=3)
    step = first_step_with(folder, ROW)
    assert step > 1
    assert run_to_end(folder) == 1
    failed = frames_of(folder)[-1]
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.rows, failed.step) == ("not_a_number", (ROW,), step)
    assert f"Row {ROW}" in failed.text
    assert "Tell me" not in log_of(folder)

    again(folder, quarantined_rows=failed.rows, resume_before_step=failed.step)
    assert run_to_end(folder, 2) == 0, log_of(folder, 2)
    assert sorted(losses_of(folder, [1])) == list(range(1, step))
    assert sorted(losses_of(folder, [2])) == list(range(step, 11))
    (finished,) = only(Finished, frames_of(folder, 2))
    assert finished.held_out_after < finished.held_out_before
    (notice,) = only(Notice, frames_of(folder, 2), lambda one: one.code == "rows_quarantined")
    assert str(ROW) in notice.text


def test_a_model_that_gives_a_number_for_no_row_blames_none(tmp_path: Path) -> None:
    folder = make_job(tmp_path, **full_fine_tune() | {"learning_rate": 1e18}, max_gradient_norm=0.0, save_every=0)
    with pytest.raises(TrainingFailed) as failed:
        train_here(folder)
    assert (failed.value.reason, failed.value.rows) == ("not_a_number", ())
    ticks = only(Tick, frames_of(folder))
    assert failed.value.step == ticks[-1].step + 1


class Steep:
    """The loss is a number always; its gradient is none for a row of 13."""

    def __init__(self) -> None:
        self.weight = torch.nn.Parameter(torch.tensor([[2.0]]))
        self.seen: list[int] = []

    def loss_sum(self, batch: Batch) -> torch.Tensor:
        number = int(batch.input_ids[0][0])
        self.seen.append(number)
        loss = self.weight.sum()
        if number == 13:
            loss.register_hook(lambda gradient: gradient * float("nan"))
        return loss


def test_a_gradient_that_is_no_number_is_noticed_in_its_own_micro_batch() -> None:
    model: Any = Steep()
    batches = (Batch([torch.tensor([number])], [torch.tensor([True])]) for number in (5, 13, 7))
    with pytest.raises(NotANumber) as failed:
        optimizer_step(
            model, AdamW([model.weight], weight_decay=0.0), batches, divisor=3, learning_rate=0.1, max_gradient_norm=0.0
        )
    assert (failed.value.first, failed.value.count) == (1, 1)
    assert model.seen == [5, 13]
    assert model.weight.item() == 2.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_look_at_the_smallest_gradients_finds_what_is_no_number(value: float) -> None:
    parameters = [torch.nn.Parameter(torch.zeros(size)) for size in (70_000, 64, 100)]
    optimizer = AdamW(parameters, weight_decay=0.0)
    assert optimizer.looks_finite()
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    assert optimizer.looks_finite()
    parameters[1].grad[3] = value  # type: ignore[index]
    assert not optimizer.looks_finite()


def test_a_gradient_that_only_the_whole_norm_finds_is_blamed_by_computing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = poison(tmp_path, {ROW}, micro_batch_size=3)
    step = first_step_with(folder, ROW)

    def unsaid(*arguments: Any, **values: Any) -> StepResult:
        try:
            return optimizer_step(*arguments, **values)
        except NotANumber:
            raise NotANumber("A gradient") from None

    monkeypatch.setattr("btmd.trainer.loop.optimizer_step", unsaid)
    with pytest.raises(TrainingFailed) as failed:
        train_here(folder)
    assert (failed.value.rows, failed.value.step) == ((ROW,), step)


def test_rows_in_quarantine_leave_their_places_empty_and_the_order_as_it_was(tmp_path: Path) -> None:
    plain = make_job(tmp_path, "plain")
    folder = make_job(tmp_path, quarantined_rows=(3, ROW, 24))
    plan, before, after = plain.read_plan(), dataset_of(plain).train, dataset_of(folder).train
    for step in range(10):
        was = before.lines(rows_of_step(before, step=step, batch_size=plan.batch_size, seed=plan.seed))
        members = rows_of_step(after, step=step, batch_size=plan.batch_size, seed=plan.seed)
        assert after.lines(members) == tuple(line for line in was if line not in (3, ROW, 24))


def test_a_step_learns_from_the_mean_over_the_rows_that_are_left(tmp_path: Path) -> None:
    """The loss of a step without its row in quarantine is the one that these rows alone would have had."""
    undisturbed = make_job(tmp_path, "undisturbed", **NO_DROPOUT)
    train_here(undisturbed)
    step = first_step_with(undisturbed, ROW)
    folder = make_job(tmp_path, **NO_DROPOUT, quarantined_rows=(ROW,))
    train_here(folder)
    expected, found = losses_of(undisturbed), losses_of(folder)
    assert {n: found[n] for n in range(1, step)} == {n: expected[n] for n in range(1, step)}
    assert found[step] != expected[step]

    plan, rows = folder.read_plan(), dataset_of(folder).train
    members = rows_of_step(rows, step=step - 1, batch_size=plan.batch_size, seed=plan.seed)
    assert len(members) == plan.batch_size - 1
    # One micro-batch for each row: how the step is cut must not matter, and neither must who is missing.
    single = make_job(tmp_path, "single", **NO_DROPOUT, quarantined_rows=(ROW,), micro_batch_size=1)
    train_here(single)
    assert losses_of(single) == pytest.approx(found, abs=1e-5, rel=0)


def test_a_step_with_no_row_left_passes_without_changing_anything(tmp_path: Path) -> None:
    plain = make_job(tmp_path, "plain", **NO_DROPOUT)
    plan, rows = plain.read_plan(), dataset_of(plain).train
    gone = rows.lines(rows_of_step(rows, step=3, batch_size=plan.batch_size, seed=plan.seed))
    folder = make_job(tmp_path, **NO_DROPOUT, quarantined_rows=gone, num_epochs=1)
    train_here(folder)
    assert sorted(losses_of(folder)) == [1, 2, 3, 5]
    (finished,) = only(Finished, frames_of(folder))
    assert finished.steps == 5


def test_when_no_row_is_left_the_data_is_at_fault(tmp_path: Path) -> None:
    folder = make_job(tmp_path, quarantined_rows=tuple(range(1, 37)))
    with pytest.raises(TrainingFailed) as failed:
        train_here(folder)
    assert failed.value.reason == "data"


def test_a_block_of_several_texts_is_in_quarantine_when_one_of_them_is() -> None:
    collected = Collector(10)
    for line in (10, 11, 12, 13):
        collected.take(Row(line=line, text="x"), [Encoded([1, 2, 3, 4, 5], [False] + [True] * 4)], line)
    rows = collected.dataset(
        training_type="continued_pretraining", packing=True, held_out_fraction=0.0, held_out_limit=0, seed=0
    ).train
    assert [rows.lines([block]) for block in range(len(rows))] == [(10, 11), (12, 13)]
    assert rows.without_lines({11, 99}).taking_part(np.arange(2)).tolist() == [1]
    assert rows.without_lines(()).taking_part(np.arange(2)).tolist() == [0, 1]
