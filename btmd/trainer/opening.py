"""From plan and material to a run that is ready for its next step, the first or the one after a checkpoint."""

import os
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from accelerate import PartialState

from btmd.data.sequences import count_steps
from btmd.errors import Damaged
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
from btmd.trainer.run import Run
from btmd.trainer.state import Conditions, TrainingState, seed_everything
from btmd.trainer.stop import Stop

_FIRST_FP16_LOSS_SCALE = 2.0**16


def open_run(folder: JobFolder, plan: TrainerPlan, stop: Stop, reporter: Reporter, material: Material) -> Run:
    """Load the model, take up the newest whole checkpoint, and tell what the run turned out to be."""
    reporter.stage("preparing", "Loading the model.")
    stop.leave_if_asked()
    model = _load_model(plan)
    optimizer = AdamW(model.trainable_parameters(), weight_decay=plan.weight_decay)
    state = TrainingState(model, optimizer, _conditions(plan, model))
    if plan.precision == "fp16":
        state.progress.loss_scale = _FIRST_FP16_LOSS_SCALE
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
    run = Run(folder, plan, stop, reporter, material, objective, state, checkpoints, total_steps, per_epoch)
    _resume(run)
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


def _conditions(plan: TrainerPlan, model: TrainableModel) -> Conditions:
    return Conditions(
        threads=plan.threads,
        precision=plan.precision,
        device=plan.device,
        compile=plan.compile,
        micro_batch_size=plan.micro_batch_size,
        gradient_checkpointing=plan.gradient_checkpointing,
        implementation=model.implementation,
        torch=str(torch.__version__),
    )


def _resume(run: Run) -> None:
    """Take up the newest checkpoint that is whole; tell of each that is not."""
    names = run.checkpoints.names()[::-1]
    rejected: list[tuple[str, str]] = []
    for name in names:
        try:
            before = run.state.restore(*run.checkpoints.load(name))
        except Damaged as error:
            rejected.append((name, error.detail))
            continue
        run.saved_name = name
        run.reporter.step = run.state.progress.step
        if different := run.state.conditions.differences(before):
            run.reporter.notice(
                "resume_not_exact",
                "Training goes on, but not with exactly the numbers of an undisturbed run, since these have changed: "
                + ", ".join(different)
                + ".",
            )
        break
    for name, reason in rejected:
        run.reporter.checkpoint_rejected(name=name, reason=reason, used_instead=run.saved_name)
        run.checkpoints.remove(name)
    if rejected and run.saved_name is None:
        run.reporter.notice("resume_from_start", "No whole checkpoint was left, so the training begins anew.")


def _tell_shape(run: Run) -> None:
    plan, dataset, model = run.plan, run.material.dataset, run.state.model
    trainable, total = model.count_parameters()
    tell_left_out(dataset, plan.max_length, run.reporter)
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
