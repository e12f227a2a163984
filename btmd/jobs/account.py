"""A plain account of what went wrong with a job, what was done about it, and what was changed against the plan."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from btmd.jobs.recovery_words import changed_text
from btmd.monitoring.texts import text
from btmd.projections.job import AttemptRow, JobRow, RecoveryRow

BEGINS_ANEW = ("training_type", "lora", "resume_before_step")
"""Changes after which an attempt does not begin at the newest checkpoint, as was said when they were made."""


class Account(Struct, frozen=True):
    """Sentences: what happened, in order, and how the training differs from its plan."""

    happened: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        return (*self.happened, *self.changed)


def account_of(
    row: JobRow, planned: Mapping[str, Any], attempts: Sequence[AttemptRow], recoveries: Sequence[RecoveryRow]
) -> Account:
    """The account of one job; ``planned`` is its frozen trainer plan."""
    happened: list[str] = []
    for attempt in attempts:
        if sentence := _lost_checkpoints(attempt, recoveries):
            happened.append(sentence)
        told = [_told(one) for one in recoveries if one.attempt == attempt.attempt]
        if said := " ".join(one for one in told if one):
            happened.append(text("account_attempt", number=attempt.attempt, said=said))
    return Account(tuple(happened), tuple(changed_text(planned, row.changes)))


def _told(one: RecoveryRow) -> str:
    if one.kind == "answered":
        return text(f"account_answer_{one.action}")
    return text("account_unanswered") if one.kind == "unanswered" else one.text


def _lost_checkpoints(attempt: AttemptRow, recoveries: Sequence[RecoveryRow]) -> str:
    """Where an attempt began further back than the newest checkpoint known, although nobody meant it to."""
    began, newest = attempt.resumed_from_step, attempt.newest_step
    if began is None or began >= newest:
        return ""
    before = [one for one in recoveries if one.kind in ("planned", "asked") and one.attempt == attempt.attempt - 1]
    if any(name in one.details.get("changes", {}) for one in before for name in BEGINS_ANEW):
        return ""
    key = "account_lost_checkpoint" if began else "account_lost_checkpoints"
    return text(key, attempt=attempt.attempt, newest=newest, began=began)
