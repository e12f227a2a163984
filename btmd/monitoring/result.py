"""What came of a job: was it worth it, and what now."""

import math

from msgspec import Struct

from btmd.domain.units import format_duration
from btmd.monitoring.advice import advice, next_steps
from btmd.monitoring.comparison import Repeat
from btmd.monitoring.facts import JobOutcome
from btmd.monitoring.progress import model_name
from btmd.monitoring.texts import text
from btmd.monitoring.verdict import CLEAR_PERCENT, UNCHANGED_PERCENT, Verdict, judge

HIGHEST_TOLD_LOSS = 20.0
"""A perplexity of half a billion: beyond it the figure says nothing to anybody."""


class Result(Struct, frozen=True):
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
    verdict: Verdict | None = None
    """None for a job that did not complete."""
    repeat: Repeat | None = None
    """Of a job that repeats another: whether it came out the same."""
    account: tuple[str, ...] = ()
    """What went wrong on the way, what was done about it, and what was changed against the plan."""


def result(outcome: JobOutcome) -> Result:
    """The result of an ended job, good or bad, said as it is."""
    verdict = judge(outcome.evidence)
    success = outcome.state == "completed"
    found = advice(outcome, verdict)
    return Result(
        job_id=outcome.job_id,
        model_name=model_name(outcome.model_id),
        success=success,
        training_time=format_duration(outcome.training_s),
        final_loss=outcome.final_loss,
        improvement_percentage=verdict.improvement_percentage,
        model_path=outcome.result_path,
        performance_summary=_summary(outcome, verdict),
        recommendations=tuple(found.sentences) if success else (),
        warnings=outcome.warnings,
        next_steps=next_steps(outcome, verdict, found),
        verdict=verdict if success else None,
        repeat=outcome.repeat,
        account=outcome.account,
    )


def _summary(outcome: JobOutcome, verdict: Verdict) -> str:
    steps, total = outcome.steps, outcome.total_steps
    if outcome.state == "cancelled":
        key = "cancelled_consent" if outcome.reason == "consent" else "cancelled_summary"
        return text(key, steps=steps, total=total)
    if outcome.state != "completed":
        return text("failed_summary", text=outcome.text).strip()
    sentences = [_judgement(outcome, verdict), *_in_other_words(outcome), *_about_answers(outcome, verdict)]
    sentences += _about_general_knowledge(outcome, verdict)
    if verdict.overfitted_after_step is not None:
        sentences.append(text("rose_again", step=verdict.overfitted_after_step))
    if outcome.recoveries:
        key = "account_summary" if outcome.recoveries > 1 else "account_summary_one"
        sentences.append(text(key, times=outcome.recoveries))
    if outcome.ended_by in ("early_stopping", "stopped", "time", "unanswered"):
        sentences.append(text(f"ended_{outcome.ended_by}", steps=steps, total=total))
    if outcome.best_step and outcome.best_step < steps and verdict.improvement_percentage is not None:
        sentences.append(text("best_kept", best=outcome.best_step))
    if outcome.repeat is not None:
        sentences.append(outcome.repeat.text)
    sentences.append(text("took", duration=format_duration(outcome.training_s)))
    if outcome.forecast:
        sentences.append(outcome.forecast)
    return " ".join(sentences)


def _judgement(outcome: JobOutcome, verdict: Verdict) -> str:
    """What the held-out rows say, and how far chance goes."""
    seen, improvement = outcome.evidence, verdict.improvement_percentage
    if improvement is None:
        return text("unmeasured")
    said = text(
        _judgement_key(verdict, improvement),
        percent=abs(improvement),
        before=seen.before,
        after=seen.after,
        train=seen.train_loss,
    )
    return " ".join([said, *_range(verdict)])


def _judgement_key(verdict: Verdict, improvement: float) -> str:
    if verdict.kind == "forgot":
        # What it forgot is told after what it learned.
        if not verdict.sure:
            return "unclear"
        if improvement >= CLEAR_PERCENT:
            return "better"
        return "slightly_better" if improvement >= UNCHANGED_PERCENT else "unchanged"
    if verdict.kind == "overfitted":
        return "overfitted" if improvement <= -UNCHANGED_PERCENT else "overfitted_no_gain"
    return "unclear" if verdict.kind == "unchanged" and not verdict.sure else verdict.kind


def _range(verdict: Verdict) -> list[str]:
    low, high = verdict.low_percentage, verdict.high_percentage
    if low is None or high is None:
        return []
    if low > 0:
        return [text("range_better", **_told(low, high))]
    if high < 0:
        return [text("range_worse", **_told(-high, -low))]
    return [text("range_either", low=f"{-low:.0f}", high=f"{high:.0f}")]


def _told(low: float, high: float) -> dict[str, str]:
    """Both ends of a range in percent, in as many digits as tell them apart."""
    digits = next((digits for digits in (0, 1) if f"{low:.{digits}f}" != f"{high:.{digits}f}"), 2)
    return {"low": f"{low:.{digits}f}", "high": f"{high:.{digits}f}"}


def _in_other_words(outcome: JobOutcome) -> list[str]:
    """What the loss means for texts and for pairs; nothing for answers, nor where nothing was measured."""
    before, after = outcome.evidence.before, outcome.evidence.after
    if outcome.training_type == "preference_tuning" and outcome.accuracy is not None and outcome.margin is not None:
        return [text("pairs_won", percent=100 * outcome.accuracy, margin=outcome.margin)]
    if outcome.training_type == "continued_pretraining" and before is not None and after is not None:
        if max(before, after) > HIGHEST_TOLD_LOSS:
            return []
        return [text("perplexity", before=math.exp(before), after=math.exp(after))]
    return []


def _about_answers(outcome: JobOutcome, verdict: Verdict) -> list[str]:
    """What the short answers that it generated say: how many are right, and else how much of their words."""
    seen = outcome.evidence
    if seen.exact_before is None or seen.exact_after is None or not seen.answers:
        return []
    shares = {"before": 100 * seen.exact_before, "after": 100 * seen.exact_after}
    if verdict.hardly_right:
        return [text("hardly_right", rows=seen.answers, **shares)]
    said = [text("exact_answers", rows=seen.answers, **shares)] if max(shares.values()) > 0 else []
    if (
        seen.overlap_before is not None
        and seen.overlap_after is not None
        and seen.overlap_before + seen.overlap_after > 0
    ):
        said.append(text("overlap_answers", before=100 * seen.overlap_before, after=100 * seen.overlap_after))
    return said


def _about_general_knowledge(outcome: JobOutcome, verdict: Verdict) -> list[str]:
    seen, change = outcome.evidence, verdict.general_change_percentage
    if change is None:
        return []
    key = "forgot" if verdict.forgot else "general_kept"
    return [text(key, percent=change, before=seen.general_before, after=seen.general_after)]
