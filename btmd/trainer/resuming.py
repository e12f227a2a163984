"""Where an attempt goes on: at the newest checkpoint that is whole, fits the plan, and is not older than it may be."""

import hashlib
from dataclasses import dataclass, field

import msgspec
import torch

from btmd.errors import Damaged
from btmd.job_folder import TrainerPlan
from btmd.trainer.run import Run
from btmd.trainer.state import Conditions, Facts, name_of_step, read_facts
from btmd.trainer.step import Accumulation

FIRST_FP16_LOSS_SCALE = 2.0**16


@dataclass(slots=True)
class _Passed:
    """Checkpoints that were not used."""

    rejected: list[tuple[str, str]] = field(default_factory=list)
    """Damaged ones: name and reason."""
    too_late: list[str] = field(default_factory=list)
    unfit: list[str] = field(default_factory=list)


def resume(run: Run) -> None:
    """Take up the newest checkpoint that can be used; tell of each that cannot."""
    passed = _Passed()
    used: Conditions | None = None
    for name in run.checkpoints.names()[::-1]:
        used = _tried(run, name, passed)
        if used is not None:
            break
    progress = run.state.progress
    if used is not None:
        _settle_loss_scale(run, used)
        _drop_half_step_of_other_rows(run, used)
        _tell_differences(run, used)
    elif run.plan.precision == "fp16":
        progress.loss_scale = FIRST_FP16_LOSS_SCALE
    progress.rewind = rewind_of(run.plan)
    _deal_with(run, passed)
    _forget_lost_best(run)


def rewind_of(plan: TrainerPlan) -> str:
    """Tells checkpoints made since a plan's going back from those before it; empty for a plan that does not."""
    if plan.resume_before_step is None:
        return ""
    told = (plan.resume_before_step, plan.learning_rate, plan.precision, plan.quarantined_rows)
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()[:12]


def conditions_of(plan: TrainerPlan, implementation: str) -> Conditions:
    """What a checkpoint of this plan is made under."""
    return Conditions(
        threads=plan.threads,
        precision=plan.precision,
        device=plan.device,
        compile=plan.compile,
        micro_batch_size=plan.micro_batch_size,
        gradient_checkpointing=plan.gradient_checkpointing,
        implementation=implementation,
        torch=str(torch.__version__),
        learning_rate=plan.learning_rate,
        max_length=plan.max_length,
        quarantined_rows=plan.quarantined_rows,
        training_type=plan.training_type,
        adapter=_adapter_form(plan),
    )


def _adapter_form(plan: TrainerPlan) -> str:
    """What decides on the tensors of an adapter; those of an earlier one are in its own folder."""
    if plan.lora is None:
        return "earlier adapter" if plan.adapter_folder is not None else "none"
    layers = ",".join(plan.lora.target_modules) or "all"
    return f"rank {plan.lora.r}, alpha {plan.lora.alpha}, layers {layers}"


def _tried(run: Run, name: str, passed: _Passed) -> Conditions | None:
    """The conditions of a checkpoint that was taken up; None for one that was not, which is noted."""
    try:
        facts = read_facts(run.checkpoints.facts(name))
        if not run.state.conditions.fits(facts.conditions):
            passed.unfit.append(name)
            return None
        if _is_too_late(run.plan, name, facts):
            passed.too_late.append(name)
            return None
        before = run.state.restore(*run.checkpoints.load(name))
    except Damaged as error:
        passed.rejected.append((name, error.detail))
        return None
    run.saved_name = name
    run.reporter.step = run.state.progress.step
    return before


def _is_too_late(plan: TrainerPlan, name: str, facts: Facts) -> bool:
    if plan.resume_before_step is None or facts.progress.rewind == rewind_of(plan):
        return False
    # One in the middle of that step holds gradients of its first rows: names sort by time.
    return name > name_of_step(max(0, plan.resume_before_step - 1))


def _deal_with(run: Run, passed: _Passed) -> None:
    for name, reason in passed.rejected:
        run.reporter.checkpoint_rejected(name=name, reason=reason, used_instead=run.saved_name)
        run.checkpoints.remove(name)
    for name in (*passed.too_late, *passed.unfit):
        run.checkpoints.set_aside(name)
    step = run.state.progress.step
    if passed.too_late:
        last = run.plan.resume_before_step
        run.reporter.notice(
            "resume_earlier", f"Training goes back to step {step}: what came from step {last} on is done again."
        )
    if passed.unfit:
        kind = run.plan.training_type
        run.reporter.notice(
            "resume_unfit", f"The training begins anew: what was saved is of another form than {kind} trains now."
        )
    elif passed.rejected and run.saved_name is None:
        run.reporter.notice("resume_from_start", "No whole checkpoint was left, so the training begins anew.")


def _settle_loss_scale(run: Run, before: Conditions) -> None:
    """A loss scale belongs to fp16; gradients of a step's first rows change with it."""
    progress, now = run.state.progress, run.plan.precision
    if now == before.precision:
        return
    earlier = progress.loss_scale
    progress.loss_scale = FIRST_FP16_LOSS_SCALE if now == "fp16" else 1.0
    progress.steps_at_loss_scale = 0
    gradients = run.state.optimizer.gradients()
    if gradients and earlier != progress.loss_scale:
        torch._foreach_mul_(gradients, progress.loss_scale / earlier)


def _drop_half_step_of_other_rows(run: Run, before: Conditions) -> None:
    """Of a step whose rows are others now, the first ones are not what was counted: it begins again."""
    now = run.state.conditions
    same = now.quarantined_rows == before.quarantined_rows and before.max_length in (0, now.max_length)
    if not same and run.state.progress.accumulation.rows_done:
        run.state.optimizer.drop_gradients()
        run.state.progress.accumulation = Accumulation()
        run.saved_name = None


def _tell_differences(run: Run, before: Conditions) -> None:
    if different := run.state.conditions.differences(before):
        run.reporter.notice(
            "resume_not_exact",
            "Training goes on, but not with exactly the numbers of an undisturbed run, since these have changed: "
            + ", ".join(different)
            + ".",
        )


def _forget_lost_best(run: Run) -> None:
    """The best state must be one that can be gone back to; its checkpoint may be gone by now."""
    progress = run.state.progress
    there = {*run.checkpoints.names(), run.saved_name}
    if progress.best is None or name_of_step(progress.best.step) in there:
        return
    known = [one for one in progress.evaluations if name_of_step(one.step) in there]
    progress.best = min(known, key=lambda one: one.loss, default=None)
