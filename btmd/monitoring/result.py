"""What came of a job: was it worth it, and what now."""

import math
from dataclasses import dataclass

from btmd.domain.units import format_duration
from btmd.monitoring.facts import JobOutcome
from btmd.monitoring.progress import model_name
from btmd.monitoring.texts import text

UNCHANGED_PERCENT = 1.0
CLEAR_PERCENT = 5.0
STILL_IMPROVING_SHARE = 0.9
BEST_EARLY_SHARE = 0.5
FEW_ROWS = 100
HIGHEST_TOLD_LOSS = 20.0
"""A perplexity of half a billion: beyond it the figure says nothing to anybody."""


@dataclass(frozen=True, slots=True)
class Result:
    """REST.md's Result. ``improvement_percentage`` is negative when the model got worse."""

    job_id: str
    model_name: str
    success: bool
    training_time: str
    final_loss: float | None
    improvement_percentage: float | None
    model_path: str | None
    performance_summary: str
    recommendations: tuple[str, ...]
    warnings: tuple[str, ...]
    next_steps: tuple[str, ...]


def result(outcome: JobOutcome) -> Result:
    """The result of an ended job, good or bad, said as it is."""
    improvement = improvement_percent(outcome.held_out_before, outcome.held_out_after)
    success = outcome.state == "completed"
    return Result(
        job_id=outcome.job_id,
        model_name=model_name(outcome.model_id),
        success=success,
        training_time=format_duration(outcome.training_s),
        final_loss=outcome.final_loss,
        improvement_percentage=None if improvement is None else round(improvement, 2),
        model_path=outcome.result_path,
        performance_summary=_summary(outcome, improvement),
        recommendations=_recommendations(outcome, improvement) if success else (),
        warnings=outcome.warnings,
        next_steps=_next_steps(outcome, improvement),
    )


def improvement_percent(before: float | None, after: float | None) -> float | None:
    """By how much the held-out loss fell, in percent; None when it was not measured or makes no sense."""
    if before is None or after is None or not before > 0:
        return None
    return 100 * (before - after) / before


def _summary(outcome: JobOutcome, improvement: float | None) -> str:
    steps, total = outcome.steps, outcome.total_steps
    if outcome.state == "cancelled":
        key = "cancelled_consent" if outcome.reason == "consent" else "cancelled_summary"
        return text(key, steps=steps, total=total)
    if outcome.state != "completed":
        return text("failed_summary", text=outcome.text).strip()
    sentences = [_judgement(outcome, improvement), *_in_other_words(outcome)]
    if outcome.ended_by in ("early_stopping", "stopped", "time"):
        sentences.append(text(f"ended_{outcome.ended_by}", steps=steps, total=total))
    if outcome.best_step and outcome.best_step < steps and improvement is not None:
        sentences.append(text("best_kept", best=outcome.best_step))
    sentences.append(text("took", duration=format_duration(outcome.training_s)))
    if outcome.forecast:
        sentences.append(outcome.forecast)
    return " ".join(sentences)


def _judgement(outcome: JobOutcome, improvement: float | None) -> str:
    if improvement is None:
        return text("unmeasured")
    if improvement >= CLEAR_PERCENT:
        key = "better"
    elif improvement >= UNCHANGED_PERCENT:
        key = "slightly_better"
    else:
        key = "unchanged" if improvement > -UNCHANGED_PERCENT else "worse"
    return text(key, percent=abs(improvement), before=outcome.held_out_before, after=outcome.held_out_after)


def _in_other_words(outcome: JobOutcome) -> list[str]:
    """What the loss means for texts and for pairs; nothing for answers, nor where nothing was measured."""
    before, after = outcome.held_out_before, outcome.held_out_after
    if outcome.training_type == "preference_tuning" and outcome.accuracy is not None and outcome.margin is not None:
        return [text("pairs_won", percent=100 * outcome.accuracy, margin=outcome.margin)]
    if outcome.training_type == "continued_pretraining" and before is not None and after is not None:
        if max(before, after) > HIGHEST_TOLD_LOSS:
            return []
        return [text("perplexity", before=math.exp(before), after=math.exp(after))]
    return []


def _recommendations(outcome: JobOutcome, improvement: float | None) -> tuple[str, ...]:
    if improvement is None:
        return (text("advise_hold_out"),)
    advice = []
    best, steps, epochs = outcome.best_step or 0, outcome.steps, outcome.num_epochs
    rate = float(f"{outcome.learning_rate:.2g}")
    if improvement <= -UNCHANGED_PERCENT:
        advice += [text("advise_lower_rate", rate=float(f"{rate / 3:.1g}")), text("advise_check_data")]
    elif improvement < UNCHANGED_PERCENT:
        higher, more = float(f"{rate * 3:.1g}"), max(epochs + 1, epochs * 2)
        advice += [text("advise_higher_rate", rate=higher, epochs=more), text("advise_check_data")]
    elif outcome.ended_by == "finished" and best >= STILL_IMPROVING_SHARE * steps:
        advice.append(text("advise_more_epochs", epochs=max(epochs + 1, epochs * 2)))
    elif epochs > 1 and 0 < best <= BEST_EARLY_SHARE * steps:
        enough = max(1, -(-epochs * best // steps))
        if enough < epochs:
            advice.append(text("advise_fewer_epochs", best=best, steps=steps, epochs=enough))
    if outcome.train_rows is not None and outcome.train_rows < FEW_ROWS:
        advice.append(text("advise_more_rows", rows=outcome.train_rows))
    return tuple(advice)


def _next_steps(outcome: JobOutcome, improvement: float | None) -> tuple[str, ...]:
    job = outcome.job_id
    if outcome.state == "failed":
        return tuple(step for step in (outcome.hint, text("next_logs", job=job)) if step)
    if outcome.state == "cancelled":
        return ()
    steps = [text("next_chat", job=job)] if outcome.result_path else []
    if improvement is not None and improvement < UNCHANGED_PERCENT:
        steps.append(text("next_again"))
    return tuple(steps)
