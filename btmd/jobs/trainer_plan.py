"""From a plan that explains itself to the bare values that a trainer is given."""

from pathlib import Path

from btmd.data.split import SPLIT_RULE
from btmd.job_folder import LoraPlan, TrainerPlan
from btmd.planning import Plan


def to_trainer_plan(
    plan: Plan,
    *,
    job_id: str,
    store_id: str,
    epoch: int,
    model_folder: Path,
    rows_path: Path,
    rows_sha256: str,
    tick_every_s: float = 1.0,
    adapter_folder: Path | None = None,
) -> TrainerPlan:
    """The trainer's plan; ``epoch`` is the store's, the paths are made absolute."""
    lora = None
    if plan.text("training_type") != "fine_tuning" and plan.integer("lora_r") > 0:
        lora = LoraPlan(
            r=plan.integer("lora_r"),
            alpha=plan.integer("lora_alpha"),
            dropout=plan.number("lora_dropout"),
            target_modules=plan.names("target_modules"),
        )
    return TrainerPlan(
        job_id=job_id,
        store_id=store_id,
        epoch=epoch,
        model_folder=str(model_folder.absolute()),
        rows_path=str(rows_path.absolute()),
        rows_sha256=rows_sha256,
        training_type=plan.text("training_type"),
        num_epochs=plan.integer("num_epochs"),
        learning_rate=plan.number("learning_rate"),
        batch_size=plan.integer("batch_size"),
        micro_batch_size=plan.integer("micro_batch_size"),
        max_length=plan.integer("max_length"),
        warmup_ratio=plan.number("warmup_ratio"),
        lr_scheduler=plan.text("lr_scheduler"),
        weight_decay=plan.number("weight_decay"),
        max_gradient_norm=plan.number("max_gradient_norm"),
        precision=plan.text("precision"),
        gradient_checkpointing=plan.flag("gradient_checkpointing"),
        compile=plan.flag("compile"),
        packing=plan.flag("packing"),
        held_out_fraction=plan.number("held_out_fraction"),
        eval_every=plan.integer("eval_every"),
        save_every=plan.integer("save_every"),
        patience=plan.integer("patience"),
        seed=plan.integer("seed"),
        threads=plan.integer("threads"),
        device=plan.text("device"),
        lora=lora,
        max_steps=plan.integer("max_steps"),
        adapter_folder=None if adapter_folder is None else str(adapter_folder.absolute()),
        keep_checkpoints=plan.integer("keep_checkpoints"),
        tick_every_s=tick_every_s,
        sample_answers=plan.integer("sample_answers"),
        sample_tokens=plan.integer("sample_tokens"),
        general_questions=plan.integer("general_questions"),
        scored_answers=plan.integer("scored_answers"),
        time_limit_s=plan.number("time_limit_s"),
        held_out_limit=plan.integer("held_out_limit"),
        dpo_beta=plan.number("dpo_beta"),
        split_rule=SPLIT_RULE,
    )
