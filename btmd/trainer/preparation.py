"""From a plan to a model, data and state that are ready for the first step."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from btmd.data.encoding import Encoder
from btmd.data.general_knowledge import general_rows
from btmd.data.sequences import Dataset, Rows
from btmd.job_folder import JobFolder, TrainerPlan
from btmd.model_fingerprint import fingerprint_now
from btmd.trainer.data import load_dataset, prompt_date
from btmd.trainer.failures import TrainingFailed, blamed_on
from btmd.trainer.reporter import Reporter
from btmd.trainer.stop import Stop

_LISTED = 20


@dataclass(frozen=True, slots=True)
class Material:
    """What there is to train on. No torch in it."""

    encoder: Encoder
    dataset: Dataset
    general: Rows | None = None
    """Everyday questions, to notice what is forgotten."""


def load_material(folder: JobFolder, plan: TrainerPlan, stop: Stop) -> Material:
    """Tokenise the rows; raises TrainingFailed, or StopRequested between two rows."""
    _require_same_model(plan)
    submitted_us = plan.submitted_us or int(folder.plan_path.stat().st_mtime * 1e6)
    with blamed_on("model", "The model's tokenizer cannot be used"):
        encoder = Encoder.load(Path(plan.model_folder), now=prompt_date(submitted_us))
    with blamed_on("data", "The dataset cannot be read"):
        dataset = load_dataset(
            Path(plan.rows_path),
            encoder,
            sha256=plan.rows_sha256,
            training_type=plan.training_type,
            packing=plan.packing,
            max_length=plan.max_length,
            held_out_fraction=plan.held_out_fraction,
            held_out_limit=plan.held_out_limit,
            seed=plan.seed,
            split_rule=plan.split_rule,
            between_rows=stop.leave_if_asked,
        )
        dataset = _without_quarantined(dataset, plan.quarantined_rows)
    general = general_rows(encoder, plan.general_questions) if plan.general_questions else None
    return Material(encoder, dataset, general)


def _without_quarantined(dataset: Dataset, lines: tuple[int, ...]) -> Dataset:
    train, held_out = dataset.train.without_lines(lines), dataset.held_out.without_lines(lines)
    if len(train.taking_part(np.arange(len(train)))) == 0:
        raise TrainingFailed("data", "No row is left to train on: all of them are in quarantine.")
    return replace(dataset, train=train, held_out=held_out)


def _require_same_model(plan: TrainerPlan) -> None:
    """The plan was made for the model as it was registered: with another one it would train something else."""
    folder = Path(plan.model_folder)
    try:
        if plan.model_fingerprint in ("", fingerprint_now(folder)):
            return
        what = "is not the one that was added: its configuration, tokenizer or weights were changed since"
    except FileNotFoundError as error:
        what = f"is not whole any more: {Path(error.filename).name} is gone"
    except (OSError, ValueError) as error:
        what = f"cannot be read any more ({type(error).__name__})"
    raise TrainingFailed("model_changed", f"The model in {folder} {what}.")


def load_material_beside_imports(folder: JobFolder, plan: TrainerPlan, stop: Stop) -> Material:
    """`load_material` on a second thread while this one imports torch, which takes about as long."""
    with ThreadPoolExecutor(1, thread_name_prefix="tokenise") as pool:
        material = pool.submit(load_material, folder, plan, stop)
        import btmd.trainer.loaded
        import btmd.trainer.step  # noqa: F401

        return material.result()


def tell_left_out(dataset: Dataset, plan: TrainerPlan, reporter: Reporter) -> None:
    """Say which rows take no part: never silently."""
    max_length, quarantined = plan.max_length, plan.quarantined_rows
    if quarantined:
        listed = ", ".join(map(str, quarantined[:_LISTED])) + (", ..." if len(quarantined) > _LISTED else "")
        text = f"Rows in quarantine, which take no part any more: {listed}."
        reporter.notice("rows_quarantined", text)
    if dataset.over_long_rows:
        text = f"{dataset.over_long_rows} rows are longer than {max_length} tokens and are left out whole."
        reporter.notice("rows_over_long", text)
    if dataset.unlearned_rows:
        reporter.notice("rows_unlearned", f"{dataset.unlearned_rows} rows have no token to learn and are left out.")
    if dataset.untemplated_rows:
        text = f"{dataset.untemplated_rows} rows do not fit the model's chat template and are left out."
        reporter.notice("rows_untemplated", text)
    if len(dataset.held_out) < dataset.held_out_total:
        text = f"Of {dataset.held_out_total} held-out rows {len(dataset.held_out)} are evaluated, the same each time."
        reporter.notice("held_out_limited", text)
    if len(dataset.held_out) == 0:
        text = "There is no held-out row, so nothing can tell over-fitting from learning; the last state is the result."
        reporter.notice("no_held_out", text)
