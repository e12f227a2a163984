"""What to do after a training: recommendations with their settings, and the whole command that follows them."""

import shlex
from collections.abc import Mapping

from msgspec import Struct, field

from btmd.monitoring.facts import JobOutcome
from btmd.monitoring.texts import text
from btmd.monitoring.verdict import UNCHANGED_PERCENT, Verdict

STILL_IMPROVING_SHARE = 0.9
BEST_EARLY_SHARE = 0.5
FEW_ROWS = 100
MOST_HELD_OUT = 0.5
KNOWN_LOSS = 0.1
"""Nats a token: nine tokens in ten are foretold almost surely."""
MEASUREMENTS = 5
"""So many in a run find a state near the best one."""


class Advice(Struct):
    """Sentences, and the values they recommend together."""

    sentences: list[str] = field(default_factory=list)
    changes: dict[str, object] = field(default_factory=dict)

    def add(self, key: str, values: dict[str, object] | None = None, **words: object) -> None:
        """One recommendation; of two that name the same value the first holds."""
        self.sentences.append(text(key, **words))
        self.changes = {**(values or {}), **self.changes}


def advice(outcome: JobOutcome, verdict: Verdict) -> Advice:
    """What to change in a next training."""
    found = Advice()
    if verdict.improvement_percentage is None:
        found.add("advise_hold_out", {"held_out_fraction": 0.1})
        return found
    dataset = outcome.dataset_id or "DATASET"
    if verdict.forgot:
        _keep_general(outcome, found)
    if verdict.kind in ("worse", "overfitted"):
        rate = _rounded(outcome.learning_rate / 3, 1)
        found.add("advise_lower_rate", {"learning_rate": rate}, rate=rate)
        found.add("advise_check_data", dataset=dataset)
    if verdict.hardly_right:
        found.add("advise_check_answers", dataset=dataset)
    _about_measuring(outcome, verdict, found)
    _about_length(outcome, verdict, found)
    if outcome.train_rows is not None and outcome.train_rows < FEW_ROWS:
        found.add("advise_more_rows", rows=outcome.train_rows)
    return found


def _keep_general(outcome: JobOutcome, found: Advice) -> None:
    if outcome.training_type == "fine_tuning":
        found.add("advise_adapter", {"training_type": "lora_adaptation"})
        return
    rate = _rounded(outcome.learning_rate / 3, 1)
    found.add("advise_keep_general", {"learning_rate": rate}, rate=rate)


def _about_measuring(outcome: JobOutcome, verdict: Verdict, found: Advice) -> None:
    """Where the figures could have told more."""
    unclear = verdict.kind == "unchanged" and not verdict.sure
    if unclear and outcome.evidence.rows is not None and outcome.held_out_fraction < MOST_HELD_OUT:
        fraction = _rounded(min(MOST_HELD_OUT, 2 * outcome.held_out_fraction), 2)
        words = {"rows": outcome.evidence.rows, "fraction": fraction}
        found.add("advise_more_held_out", {"held_out_fraction": fraction}, **words)
    if verdict.kind == "overfitted" and not outcome.eval_every and outcome.steps >= 2:
        every = max(1, outcome.steps // MEASUREMENTS)
        found.add("advise_measure", {"eval_every": every}, steps=every)


def _about_length(outcome: JobOutcome, verdict: Verdict, found: Advice) -> None:
    """Whether more or fewer passes, or a higher rate, would have done better."""
    improvement = verdict.improvement_percentage or 0.0
    best, steps, epochs = outcome.best_step or 0, outcome.steps, outcome.num_epochs
    more = max(epochs + 1, epochs * 2)
    rose_after = verdict.overfitted_after_step
    best_early = improvement >= UNCHANGED_PERCENT and epochs > 1 and 0 < best <= BEST_EARLY_SHARE * steps
    if rose_after is not None or best_early:
        _fewer_epochs(outcome, rose_after or best, found)
    elif verdict.kind == "unchanged" and (outcome.evidence.before or 0.0) < KNOWN_LOSS:
        found.add("advise_known", before=outcome.evidence.before)
    elif verdict.kind == "unchanged" and verdict.sure:
        rate = _rounded(outcome.learning_rate * 3, 1)
        found.add("advise_higher_rate", {"learning_rate": rate, "num_epochs": more}, rate=rate, epochs=more)
        found.add("advise_check_data", dataset=outcome.dataset_id or "DATASET")
    elif verdict.kind in ("better", "slightly_better") and _still_improving(outcome):
        found.add("advise_more_epochs", {"num_epochs": more}, epochs=more)


def _still_improving(outcome: JobOutcome) -> bool:
    return outcome.ended_by == "finished" and (outcome.best_step or 0) >= STILL_IMPROVING_SHARE * outcome.steps


def _fewer_epochs(outcome: JobOutcome, best: int, found: Advice) -> None:
    epochs, steps = outcome.num_epochs, outcome.steps
    enough = max(1, -(-epochs * best // steps)) if steps else epochs
    if enough < epochs:
        found.add("advise_fewer_epochs", {"num_epochs": enough}, best=best, steps=steps, epochs=enough)


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")


def next_steps(outcome: JobOutcome, verdict: Verdict, found: Advice) -> tuple[str, ...]:
    """Commands that can be typed as they stand."""
    job = outcome.job_id
    if outcome.state == "failed":
        return tuple(step for step in (outcome.hint, text("next_logs", job=job)) if step)
    if outcome.state == "cancelled":
        return ()
    steps = [text("next_chat", job=job)] if outcome.result_path else []
    if verdict.overfitted_after_step is not None or verdict.kind in ("worse", "overfitted", "unchanged"):
        steps.append(text("next_plot", job=job))
    if found.changes:
        steps.append(text("next_again", command=again_command(outcome, found.changes)))
    return tuple(steps)


def again_command(outcome: JobOutcome, changes: Mapping[str, object]) -> str:
    """The command that trains the same again but for ``changes``."""
    values = {**outcome.overrides, **changes}
    return train_command(outcome.model_id, outcome.dataset_id or "DATASET", outcome.preset, outcome.from_job, values)


def train_command(model: str, dataset: str, preset: str, from_job: str, values: Mapping[str, object]) -> str:
    """``btmctl train`` as it is typed; an empty preset or job is left out."""
    words = ["btmctl", "train", model, dataset]
    if preset:
        words += ["--preset", preset]
    if from_job:
        words += ["--from-job", from_job]
    for key, value in values.items():
        words += ["--set", f"{key}={_typed(value)}"]
    return shlex.join(words)


def _typed(value: object) -> str:
    """A value as it is typed after ``=``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
