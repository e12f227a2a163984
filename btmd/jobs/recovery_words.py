"""What is said of a failure, of what is done about it, and of what is asked."""

from collections.abc import Mapping, Sequence
from typing import Any

from btmd.domain.job_state import WAITS
from btmd.domain.units import format_bytes, format_duration
from btmd.monitoring.texts import TEXTS, text
from btmd.recovery.causes import Cause
from btmd.recovery.decisions import GiveUp
from btmd.recovery.policy import FINAL, NUMBERS

MOST_ROWS_TOLD = 12
PLAN_WORDS = {
    "learning_rate": "the learning rate",
    "micro_batch_size": "the number of rows computed at once",
    "gradient_checkpointing": "computing intermediate results twice",
    "precision": "the precision",
    "max_length": "the longest row, in tokens,",
    "training_type": "the training type",
    "device": "the device",
    "num_epochs": "the number of passes",
    "keep_checkpoints": "the number of newest checkpoints kept",
    "compile": "compiling",
}
"""Values of the plan that a person is told about when a recovery has changed them."""


def cause_text(cause: Cause) -> str:
    """Why a process ended that could not say so."""
    seen = cause.evidence
    limit = seen.get("address_limit_bytes") if cause.key == "cause_refused_memory" else seen.get("limit_bytes")
    said = text(
        cause.key,
        limit=f" ({format_bytes(limit)})" if limit else "",
        percent=100 * float(seen.get("used_share") or 0),
        signal=seen.get("signal"),
        name=seen.get("signal_name"),
        code=seen.get("exit_code"),
    )
    return f"{said} {text('cause_stopped')}" if seen.get("process_state") == "T" else said


def finding_text(kind: str, step: int, evidence: Mapping[str, Any]) -> str:
    """Why a trainer was ended."""
    if kind == "hung" and evidence.get("cause") == "stopped":
        return text("found_stopped")
    key = f"found_{kind}" if f"found_{kind}" in TEXTS else "found_other"
    return text(key, step=step, kind=kind)


def action_text(action: str, told: Mapping[str, object]) -> str:
    """What is done now."""
    return text(f"recovery_{action}", **_words(told))


def change_text(action: str, told: Mapping[str, object]) -> str:
    """A change of what was asked for, as part of a sentence."""
    return text(f"change_{action}", **_words(told))


def question_text(action: str, told: Mapping[str, object], *, answer_s: float, has_checkpoint: bool) -> str:
    """What a person is asked, and what happens without an answer."""
    own = f"question_{action}"
    question = text(own, **_words(told)) if own in TEXTS else text("question", change=change_text(action, told))
    key = "question_deadline" if has_checkpoint else "question_deadline_empty"
    if action in WAITS and has_checkpoint:
        key = "question_deadline_waiting"
    return f"{question} {text(key, wait=format_duration(answer_s))}"


def rows_text(rows: Sequence[int]) -> str:
    """Rows by their lines in the source, as findings name them."""
    told = ", ".join(str(row) for row in rows[:MOST_ROWS_TOLD])
    more = f" and {len(rows) - MOST_ROWS_TOLD} more" if len(rows) > MOST_ROWS_TOLD else ""
    return f"row {told}" if len(rows) == 1 else f"rows {told}{more}"


def changed_text(planned: Mapping[str, Any], changes: Mapping[str, Any]) -> list[str]:
    """What recoveries have changed against the plan, a sentence each."""
    told = []
    for name, words in PLAN_WORDS.items():
        if name in changes and changes[name] != planned.get(name):
            before, now = _value(planned.get(name)), _value(changes[name])
            sentence = text("account_planned", name=words, before=before, now=now)
            told.append(sentence[0].upper() + sentence[1:])
    if rows := tuple(changes.get("quarantined_rows") or ()):
        told.append(text("account_rows", rows=rows_text(rows)))
    return told


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _words(told: Mapping[str, object]) -> dict[str, object]:
    """Figures as they are said; bytes and seconds lose their unit's name."""
    said: dict[str, object] = {}
    for name, value in told.items():
        if name.endswith("_bytes") and isinstance(value, (int, float)):
            said[name.removesuffix("_bytes")] = format_bytes(value)
        elif name.endswith("_s") and isinstance(value, (int, float)):
            said[name.removesuffix("_s")] = format_duration(value)
        elif name == "rows" and isinstance(value, tuple):
            said[name] = rows_text(value)
        else:
            said[name] = value
    return said


def gave_up_text(decision: GiveUp) -> str:
    """Why nothing more is tried; empty where the failure itself says it all."""
    if decision.reason in FINAL:
        return ""
    if decision.reason in NUMBERS:
        return text("gave_up_numbers", **decision.told)
    key = f"gave_up_{decision.reason}"
    return text(key if key in TEXTS else "gave_up_tried", **_words({"times": 1, **decision.told}))


def hint_text(reason: str, job_id: str, step: int | None) -> str:
    """What a person can do about a job that was given up."""
    if reason == "model_changed":
        return text("hint_model")
    helps = {"out_of_memory": "hint_less", "data": "hint_data", **dict.fromkeys(NUMBERS, "hint_data")}
    sentences = [text(helps[reason])] if reason in helps else []
    sentences.append(text("hint_logs", job=job_id))
    if step is not None:
        sentences.append(text("hint_resume", job=job_id, step=step))
    return " ".join(sentences)
