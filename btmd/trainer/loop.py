"""The training loop: open, then step, report, evaluate, checkpoint, look for a stop request; then the result."""

import time
from collections.abc import Callable

from btmd.data.sequences import rows_of_step
from btmd.job_folder import JobFolder, TrainerPlan
from btmd.trainer.culprits import blamed
from btmd.trainer.finish import finish
from btmd.trainer.measures import measure_before
from btmd.trainer.opening import open_run
from btmd.trainer.preparation import Material
from btmd.trainer.process import resident_bytes
from btmd.trainer.reporter import Reporter
from btmd.trainer.run import EndedBy, Run
from btmd.trainer.schedule import count_warmup_steps, learning_rate_factor
from btmd.trainer.step import Accumulation, GradientOverflow, NotANumber, StepResult, cut, optimizer_step
from btmd.trainer.stop import Stop, StopRequested
from btmd.trainer.time_budget import TimeBudget, time_budget
from btmd.trainer.trial import settled, try_out

_STEPS_BEFORE_LARGER_LOSS_SCALE = 1000


def train(folder: JobFolder, plan: TrainerPlan, stop: Stop, reporter: Reporter, material: Material) -> None:
    """Train a job to its end, a stop request or an error.

    Ends with a Finished or a Stopped frame. Raises TrainingFailed and whatever torch raises.
    """
    try:
        idle_bytes = resident_bytes()
        run = open_run(folder, settled(folder, plan), stop, reporter, material)
        try:
            budget = time_budget(plan.time_limit_s, folder.path / "spool", reporter.spool)
            _measure_before(run)
            try_out(run, idle_bytes=idle_bytes, budget=budget)
            reporter.stage("training", "Training.")
            ended_by = _train_steps(run, budget)
            finish(run, ended_by)
        except StopRequested as request:
            if request.control == "pause":
                run.save()
            raise
    except StopRequested as request:
        reporter.stopped(request.control)


def _measure_before(run: Run) -> None:
    progress = run.state.progress
    if progress.step == 0 and progress.accumulation.rows_done == 0:
        measure_before(run)


def _train_steps(run: Run, budget: TimeBudget | None) -> EndedBy:
    """Step until the end, doing before each step what is due; a resume therefore finds what a crash left undone."""
    progress = run.state.progress
    while True:
        if budget is not None and progress.accumulation.rows_done == 0:
            budget.look_again(run)
        boundary = progress.accumulation.rows_done == 0 and 0 < progress.step < run.total_steps
        if boundary and _is_due(run.plan.eval_every, progress.step) and _can_evaluate(run, budget):
            _evaluate(run)
        if boundary and _is_due(run.plan.save_every, progress.step):
            run.save()
        if ended_by := _ended_by(run, budget):
            return ended_by
        _step(run)


def _can_evaluate(run: Run, budget: TimeBudget | None) -> bool:
    progress = run.state.progress
    if not run.has_held_out or progress.evaluated_now():
        return False
    return budget is None or budget.allows(run, progress.costs.measuring_s)


def _is_due(every: int, step: int) -> bool:
    return every > 0 and step % every == 0


def _ended_by(run: Run, budget: TimeBudget | None) -> EndedBy | None:
    plan, progress = run.plan, run.state.progress
    run.stop.leave_if_asked()
    if run.stop.read() == "stop":
        return "stopped"
    if progress.step >= run.total_steps:
        return "finished" if run.total_steps >= run.planned_steps else "time"
    if 0 < plan.patience <= progress.evaluations_without_gain:
        return "early_stopping"
    whole = progress.step > 0 and progress.accumulation.rows_done == 0
    if budget is not None and whole and budget.is_over(run):
        return "time"
    return None


def _evaluate(run: Run) -> None:
    """Measure during training; the best state so far is always one that can be gone back to."""
    run.reporter.stage("evaluating", "Measuring on rows it does not train on.")
    best = run.state.progress.note_evaluation(run.measure("during"))
    run.reporter.stage("training", "Training.")
    if best:
        run.save()


class _StopInStep(Exception):
    """``stop`` came in the middle of an accumulation: what has been gathered of it is dropped."""


def _step(run: Run) -> None:
    plan, state, progress = run.plan, run.state, run.state.progress
    rows = run.material.dataset.train
    members = rows_of_step(rows, step=progress.step, batch_size=plan.batch_size, seed=plan.seed)
    if len(members) == 0:
        _pass_step(run)
        return
    warmup_steps = count_warmup_steps(plan.warmup_ratio, run.total_steps)
    rate = plan.learning_rate * learning_rate_factor(
        plan.lr_scheduler, step=progress.step, warmup_steps=warmup_steps, total_steps=run.total_steps
    )
    started_s = time.monotonic()
    try:
        taken = optimizer_step(
            state.model,
            state.optimizer,
            cut(rows, members, done=progress.accumulation.rows_done, micro_batch_size=plan.micro_batch_size),
            divisor=run.objective.count(rows, members),
            objective=run.objective,
            learning_rate=rate,
            max_gradient_norm=plan.max_gradient_norm,
            accumulation=progress.accumulation,
            loss_scale=progress.loss_scale,
            before_each=_asker(run.stop),
        )
    except NotANumber as failure:
        raise blamed(run, failure, members) from failure
    except GradientOverflow:
        _drop_accumulation(run)
        progress.loss_scale /= 2
        progress.steps_at_loss_scale = 0
        return
    except _StopInStep:
        _drop_accumulation(run)
        return
    _note_step(run, taken, rate, time.monotonic() - started_s)


def _pass_step(run: Run) -> None:
    """Nothing to learn from in this one: all its rows are in quarantine."""
    run.state.progress.step += 1
    run.state.progress.accumulation = Accumulation()
    run.saved_name = None
    run.reporter.step_passed(run.state.progress.step)


def _asker(stop: Stop) -> Callable[[], None]:
    def ask() -> None:
        stop.leave_if_asked()
        if stop.read() == "stop":
            raise _StopInStep

    return ask


def _drop_accumulation(run: Run) -> None:
    run.state.optimizer.drop_gradients()
    run.state.progress.accumulation = Accumulation()


def _note_step(run: Run, taken: StepResult, learning_rate: float, seconds: float) -> None:
    progress = run.state.progress
    progress.step += 1
    progress.accumulation = Accumulation()
    progress.last_loss = taken.loss
    progress.training_s += seconds
    progress.steps_at_loss_scale += 1
    if run.plan.precision == "fp16" and progress.steps_at_loss_scale >= _STEPS_BEFORE_LARGER_LOSS_SCALE:
        progress.loss_scale *= 2
        progress.steps_at_loss_scale = 0
    run.saved_name = None
    run.reporter.step_done(
        step=progress.step,
        total_steps=run.total_steps,
        epoch=(progress.step - 1) // run.steps_per_epoch,
        loss=taken.loss,
        tokens=taken.tokens,
        seconds=seconds,
        learning_rate=learning_rate,
        gradient_norm=taken.gradient_norm,
    )
