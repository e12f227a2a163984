"""The warnings of a job in words: those that hold, and those that did."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from btmd.domain.warning import SEVERITIES
from btmd.monitoring.warned import WarnedJob, has_words, remedy, warning_text
from btmd.projections.job import JobPlanRow, JobRow
from btmd.projections.warning import WarningRow


class ToldWarning(Struct, frozen=True):
    """A warning with its sentence, and what to do about it."""

    row: WarningRow
    text: str
    advice: str


def told(row: JobRow, frozen: JobPlanRow, warnings: Sequence[WarningRow]) -> list[ToldWarning]:
    """The warnings in words, those that hold first and the gravest of them before the others."""
    plan: Mapping[str, Any] = msgspec.json.decode(frozen.trainer_plan_json)
    overrides: Mapping[str, Any] = msgspec.json.decode(frozen.overrides_json)
    job = WarnedJob(row.job_id, row.model_id, row.dataset_id, row.preset, plan, overrides)
    # A newer release may know kinds that this one has no words for.
    known = [one for one in warnings if has_words(one.kind)]
    return [ToldWarning(one, warning_text(one.kind, one.evidence), remedy(one.kind, job)) for one in _ordered(known)]


def _ordered(warnings: Sequence[WarningRow]) -> list[WarningRow]:
    return sorted(
        warnings,
        key=lambda one: (not one.holds, -SEVERITIES.index(one.severity) if one.holds else 0, one.seq),
    )
