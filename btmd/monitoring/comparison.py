"""Two trainings side by side, and one repeated: what differed in them, and what came of each."""

from collections.abc import Callable, Mapping
from typing import Final, Literal

from msgspec import Struct, field

from btmd.domain.units import format_bytes, format_duration
from btmd.monitoring.texts import text
from btmd.monitoring.verdict import Evidence, Verdict

SAME_PERCENT: Final = 0.0
NEARLY_PERCENT: Final = 0.5
"""Losses of the same training on other processors or threads stay within this."""
UNIMPORTANT: Final = frozenset(
    (
        "job_id",
        "store_id",
        "epoch",
        "model_folder",
        "rows_path",
        "rows_sha256",
        "submitted_us",
        "trial",
        "adapter_folder",
        "answers_keys",
        "model_fingerprint",
        "tick_every_s",
        "keep_checkpoints",
        "split_rule",
    )
)
"""Of a trainer's plan: paths, names, and what changes no figure."""
HELD_OUT_BY: Final = (
    "rows_sha256",
    "model_fingerprint",
    "held_out_fraction",
    "held_out_limit",
    "seed",
    "split_rule",
    "max_length",
    "dpo_beta",
)
"""What decides which rows are held out and how their loss is computed."""


class Ran(Struct, frozen=True):
    """A job as it ran. ``conditions`` are what it was computed with; losses in nats, sizes in bytes."""

    job_id: str
    name: str
    state: str
    model_id: str
    dataset: str
    """With its version."""
    preset: str
    trainer_plan: Mapping[str, object]
    evidence: Evidence
    verdict: Verdict | None = None
    ended_by: str = ""
    steps: int = 0
    best_step: int | None = None
    final_loss: float | None = None
    training_s: float | None = None
    peak_memory_bytes: int | None = None
    peak_gpu_memory_bytes: int | None = None
    attempts: int = 1
    conditions: Mapping[str, object] = field(default_factory=dict)
    from_job: str = ""


class Row(Struct, frozen=True):
    """One line of a comparison. ``better`` is 0 or 1 where one of the two is clearly better, else None."""

    key: str
    title: str
    values: tuple[object, object]
    texts: tuple[str, str]
    better: int | None = None


class Comparison(Struct, frozen=True):
    """``same_rows``: both losses were measured on the same held-out rows, so that they can be compared."""

    job_ids: tuple[str, str]
    settings: tuple[Row, ...]
    """Only those that differ."""
    figures: tuple[Row, ...]
    same_rows: bool
    summary: str


def compare(first: Ran, second: Ran) -> Comparison:
    """What differs between two jobs, and what came of each."""
    pair = (first, second)
    same_rows = all(first.trainer_plan.get(key) == second.trainer_plan.get(key) for key in HELD_OUT_BY) and (
        (first.trainer_plan.get("training_type") == "preference_tuning")
        == (second.trainer_plan.get("training_type") == "preference_tuning")
    )
    return Comparison(
        job_ids=(first.job_id, second.job_id),
        settings=tuple(_settings(pair)),
        figures=tuple(_figures(pair, same_rows)),
        same_rows=same_rows,
        summary=_summary(pair, same_rows),
    )


def _settings(pair: tuple[Ran, Ran]) -> list[Row]:
    rows = [
        _row(key, key.replace("_", " "), (getattr(pair[0], key), getattr(pair[1], key)))
        for key in ("model_id", "dataset", "preset", "from_job")
    ]
    plans = pair[0].trainer_plan, pair[1].trainer_plan
    keys = dict.fromkeys([*plans[0], *plans[1]])
    for key in keys:
        if key not in UNIMPORTANT:
            rows += _setting(key, plans[0].get(key), plans[1].get(key))
    return [row for row in rows if row.values[0] != row.values[1]]


def _setting(key: str, first: object, second: object) -> list[Row]:
    """One row for a value; of an adapter's, one for each."""
    if isinstance(first, Mapping) or isinstance(second, Mapping):
        values = [one if isinstance(one, Mapping) else {} for one in (first, second)]
        names = dict.fromkeys([*values[0], *values[1]])
        return [_row(f"{key}_{name}", f"{key}_{name}", (values[0].get(name), values[1].get(name))) for name in names]
    return [_row(key, key, (first, second))]


def _figures(pair: tuple[Ran, Ran], same_rows: bool) -> list[Row]:
    seen = pair[0].evidence, pair[1].evidence
    verdicts = tuple("" if one.verdict is None else text(f"verdict_{one.verdict.kind}") for one in pair)
    found = [
        _row("state", "state", (pair[0].state, pair[1].state)),
        _row("verdict", "verdict", (verdicts[0], verdicts[1])),
        _losses("held_out_before", "held-out loss before", (seen[0].before, seen[1].before)),
        _losses("held_out_after", "held-out loss after", (seen[0].after, seen[1].after), judged=same_rows),
        _percent("improvement", (_improvement(pair[0]), _improvement(pair[1]))),
        _losses("final_loss", "training loss at the end", (pair[0].final_loss, pair[1].final_loss)),
        _shares("exact_after", "short answers right", (seen[0].exact_after, seen[1].exact_after), judged=same_rows),
        _losses("general_after", "loss on general questions", (seen[0].general_after, seen[1].general_after)),
        _row("steps", "steps", (pair[0].steps, pair[1].steps)),
        _row("best_step", "best after step", (pair[0].best_step, pair[1].best_step)),
        _row("ended_by", "ended by", (pair[0].ended_by, pair[1].ended_by)),
        _row("attempts", "attempts", (pair[0].attempts, pair[1].attempts)),
        _sized("training_s", "time", (pair[0].training_s, pair[1].training_s), format_duration),
        _sized("peak_memory_bytes", "most memory", _two(pair, "peak_memory_bytes"), format_bytes),
        _sized("peak_gpu_memory_bytes", "most GPU memory", _two(pair, "peak_gpu_memory_bytes"), format_bytes),
    ]
    return [row for row in found if any(row.texts)]


def _improvement(ran: Ran) -> float | None:
    return None if ran.verdict is None else ran.verdict.improvement_percentage


def _two(pair: tuple[Ran, Ran], name: str) -> tuple[float | None, float | None]:
    return getattr(pair[0], name), getattr(pair[1], name)


def _row(key: str, title: str, values: tuple[object, object]) -> Row:
    return Row(key, title, values, (_said(values[0]), _said(values[1])))


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "all"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def _losses(key: str, title: str, values: tuple[float | None, float | None], judged: bool = False) -> Row:
    first, second = values
    said = tuple("" if one is None else f"{one:.4f}" for one in values)
    better = None
    if judged and first is not None and second is not None and first != second:
        better = 0 if first < second else 1
    return Row(key, title, values, (said[0], said[1]), better)


def _percent(key: str, values: tuple[float | None, float | None]) -> Row:
    said = tuple("" if one is None else f"{one:.1f} %" for one in values)
    return Row(key, key, values, (said[0], said[1]))


def _shares(key: str, title: str, values: tuple[float | None, float | None], judged: bool) -> Row:
    first, second = values
    said = tuple("" if one is None else f"{100 * one:.0f} %" for one in values)
    better = None
    if judged and first is not None and second is not None and first != second:
        better = 0 if first > second else 1
    return Row(key, title, values, (said[0], said[1]), better)


def _sized(key: str, title: str, values: tuple[float | None, float | None], said: Callable[[float], str]) -> Row:
    texts = tuple("" if one is None else said(one) for one in values)
    return Row(key, title, values, (texts[0], texts[1]))


def _summary(pair: tuple[Ran, Ran], same_rows: bool) -> str:
    first, second = pair[0].evidence.after, pair[1].evidence.after
    if first is None or second is None:
        return text("compare_unmeasured")
    if not same_rows:
        return text("compare_other_rows")
    best = 0 if first < second else 1
    values = {"job": pair[best].job_id, "low": min(first, second), "high": max(first, second)}
    if first == second:
        return text("compare_same", **values)
    return text("compare_chance" if _within_chance(pair, best) else "compare_better", **values)


def _within_chance(pair: tuple[Ran, Ran], best: int) -> bool:
    """Whether the better loss lies in the range that chance gives the other one."""
    other, after = pair[1 - best].evidence, pair[best].evidence.after
    if other.before is None or other.high is None or after is None:
        return False
    return after >= other.before * (1 - other.high / 100)


# --- the same job once more -------------------------------------------------------------------------


class Repeat(Struct, frozen=True):
    """How a repeated job came out beside the first. ``largest_percentage`` is of any loss that both measured."""

    job_id: str
    outcome: Literal["same", "nearly", "differs"]
    largest_percentage: float | None
    text: str


def compare_repeat(first: Ran, again: Ran) -> Repeat:
    """Whether a job that was run once more came out the same."""
    differences = _loss_differences(first, again)
    largest = max(differences, default=None)
    same_course = (first.ended_by, first.steps, first.best_step) == (again.ended_by, again.steps, again.best_step)
    if largest is None or (largest == SAME_PERCENT and same_course):
        outcome: Literal["same", "nearly", "differs"] = "same" if same_course else "differs"
    else:
        outcome = "nearly" if largest <= NEARLY_PERCENT and same_course else "differs"
    said = text(
        f"repeat_{outcome}",
        job=first.job_id,
        count=len(differences),
        percent=largest or 0.0,
        first=_after(first),
        again=_after(again),
    )
    reasons = _other_conditions(first, again) if outcome != "same" else ""
    return Repeat(first.job_id, outcome, largest, " ".join(one for one in (said, reasons) if one))


def _loss_differences(first: Ran, again: Ran) -> list[float]:
    """Of each loss that both measured, by how many percent they differ."""
    pairs = [
        (first.evidence.before, again.evidence.before),
        (first.evidence.after, again.evidence.after),
        (first.final_loss, again.final_loss),
    ]
    course = {one.step: one.loss for one in again.evidence.history}
    pairs += [(one.loss, course[one.step]) for one in first.evidence.history if one.step in course]
    return [100 * abs(a - b) / abs(a) for a, b in pairs if a and b is not None]


def _after(ran: Ran) -> str:
    return "no measured loss" if ran.evidence.after is None else f"{ran.evidence.after:.4f}"


def _other_conditions(first: Ran, again: Ran) -> str:
    names = sorted(first.conditions.keys() & again.conditions.keys())
    differ = [
        f"{name} {first.conditions[name]}, now {again.conditions[name]}"
        for name in names
        if first.conditions[name] != again.conditions[name]
    ]
    if first.attempts != again.attempts:
        differ.append(f"attempts {first.attempts}, now {again.attempts}")
    return text("repeat_conditions", differences="; ".join(differ)) if differ else text("repeat_no_reason")
