"""From plan and material to a run that is ready for its next step, the first or the one after a checkpoint."""

import os
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from accelerate import PartialState

from btmd.data.sequences import count_steps
from btmd.frames import TrainingShape
from btmd.job_folder import JobFolder, TrainerPlan
from btmd.trainer import result
from btmd.trainer.checkpoint import Checkpoints
from btmd.trainer.failures import TrainingFailed, blamed_on
from btmd.trainer.model import LoraSettings, Precision, TrainableModel, TrainingType, load_trainable
from btmd.trainer.objective import objective_of
from btmd.trainer.optimizer import AdamW
from btmd.trainer.preparation import Material, tell_left_out
from btmd.trainer.references import with_references
from btmd.trainer.reporter import Reporter
from btmd.trainer.resuming import conditions_of, resume
from btmd.trainer.row_losses import HeldOutRows, read_held_out
from btmd.trainer.run import Run
from btmd.trainer.state import TrainingState, seed_everything
from btmd.trainer.stop import Stop


def open_run(folder: JobFolder, plan: TrainerPlan, stop: Stop, reporter: Reporter, material: Material) -> Run:
    """Load the model, take up the newest whole checkpoint, and tell what the run turned out to be."""
    reporter.stage("preparing", "Loading the model.")
    stop.leave_if_asked()
    model = _load_model(plan)
    optimizer = AdamW(model.trainable_parameters(), weight_decay=plan.weight_decay)
    state = TrainingState(model, optimizer, conditions_of(plan, model.implementation))
    seed_everything(plan.seed)
    checkpoints = Checkpoints(folder.checkpoints)
    checkpoints.remove_left_overs()
    result.remove_left_overs(folder)
    per_epoch = count_steps(len(material.dataset.train), plan.batch_size)
    all_steps = per_epoch * plan.num_epochs
    total_steps = min(all_steps, plan.max_steps) if plan.max_steps else all_steps
    objective = objective_of(plan.training_type, dpo_beta=plan.dpo_beta)
    if objective.compares:
        reporter.stage("preparing", "Measuring how likely the answers are before training.")
        dataset = with_references(folder.path, plan, model, material.dataset, stop.leave_if_asked)
        material = replace(material, dataset=dataset)
    run = Run(
        folder,
        plan,
        stop,
        reporter,
        material,
        objective,
        state,
        checkpoints,
        total_steps,
        per_epoch,
        planned_steps=total_steps,
        planned_eval_every=plan.eval_every,
    )
    resume(run)
    if (timed := state.progress.timed) is not None and plan.time_limit_s > 0:
        run.take_time(timed)
    _take_kept_rows(run)
    if torch.cuda.is_available() and model.device.type == "cuda":
        reporter.gpu_memory = lambda: int(torch.cuda.memory_reserved(model.device))
    _tell_shape(run)
    return run


def _load_model(plan: TrainerPlan) -> TrainableModel:
    torch.set_num_threads(plan.threads)
    if plan.device != "cpu" and not torch.cuda.is_available():
        raise TrainingFailed("device", f"The device {plan.device} was asked for, but no GPU can be used here.")
    os.environ["ACCELERATE_TORCH_DEVICE"] = plan.device
    device = PartialState(cpu=plan.device == "cpu").device
    if device.type == "cuda":
        torch.cuda.set_device(device)
    lora = None
    if plan.lora is not None:
        lora = LoraSettings(plan.lora.r, plan.lora.alpha, plan.lora.dropout, plan.lora.target_modules)
    with blamed_on("model", "The model cannot be loaded"):
        return load_trainable(
            Path(plan.model_folder),
            training_type=cast(TrainingType, plan.training_type),
            precision=cast(Precision, plan.precision),
            lora=lora,
            gradient_checkpointing=plan.gradient_checkpointing,
            seed=plan.seed,
            device=device,
            adapter_folder=Path(plan.adapter_folder) if plan.adapter_folder else None,
            compile=plan.compile,
        )


def _take_kept_rows(run: Run) -> None:
    """What was measured row by row; where other rows are held out by now, only what is still there is compared."""
    progress, held_out = run.state.progress, run.material.dataset.held_out
    if progress.step == 0 and progress.accumulation.rows_done == 0:
        return
    run.held_out = read_held_out(run.folder.held_out_path)
    before = run.held_out.before
    present = set(held_out.lines(held_out.taking_part(np.arange(len(held_out)))))
    if before is None or set(before.lines) == present:
        return
    kept = before.only(present)
    run.held_out = HeldOutRows(before=kept)
    progress.held_out_before = kept.mean if kept.lines else None
    # Losses on other rows say nothing of which state is the best.
    progress.best, progress.evaluations_without_gain = None, 0


def _tell_shape(run: Run) -> None:
    plan, dataset, model = run.plan, run.material.dataset, run.state.model
    trainable, total = model.count_parameters()
    tell_left_out(dataset, plan, run.reporter)
    run.reporter.shape(
        lambda at_us: TrainingShape(
            at_us,
            total_steps=run.total_steps,
            total_epochs=plan.num_epochs,
            train_rows=len(dataset.train),
            held_out_rows=len(dataset.held_out),
            left_out_rows=dataset.over_long_rows,
            learned_tokens_per_epoch=int(dataset.train.learned_counts.sum()),
            trainable_parameters=trainable,
            total_parameters=total,
            device=str(model.device),
            precision=plan.precision,
            threads=plan.threads,
            implementation=model.implementation,
            resumed_from_step=run.state.progress.step,
        )
    )
