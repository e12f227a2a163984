"""A job's model card: what was trained on what and how, what came of it, and what it is not for."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, field

SHOWN = (
    "training_type", "num_epochs", "max_steps", "learning_rate", "lr_scheduler", "warmup_ratio", "batch_size",
    "micro_batch_size", "max_length", "packing", "precision", "weight_decay", "gradient_checkpointing", "lora",
    "held_out_fraction", "patience", "dpo_beta", "seed",
)  # fmt: skip


class CardFacts(Struct, frozen=True):
    """Everything the card says. Losses in nats a learned token."""

    title: str
    job_id: str
    base: str
    architecture: str
    license: str
    quantised: str
    is_adapter: bool
    dataset_id: str
    dataset_version: str
    rows_sha256: str
    rows: int | None
    purpose: str
    consent_scopes: Sequence[str]
    made: str
    """How the dataset's version came to be."""
    settings: Mapping[str, Any]
    steps: int
    ended_by: str
    summary: str
    before: float | None
    after: float | None
    low: float | None
    high: float | None
    general_before: float | None
    general_after: float | None
    account: Sequence[str] = ()
    warnings: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    trained_on: str = ""
    """The day."""


def model_card(facts: CardFacts) -> str:
    """Markdown with the head that model hubs read."""
    sections = (
        _head(facts),
        f"# {facts.title}\n\n{_opening(facts)}",
        f"## What came of it\n\n{_result(facts)}",
        f"## Data\n\n{_data(facts)}",
        f"## Training\n\n{_training(facts)}",
        f"## Made with\n\n{_table(facts.versions) or 'Not recorded.'}",
        f"## Meant for, and not\n\n{_limits(facts)}",
    )
    return "\n\n".join(sections) + "\n"


def _head(facts: CardFacts) -> str:
    lines = ["---", f"base_model: {_yaml(facts.base)}"]
    if facts.license:
        lines.append(f"license: {_yaml(facts.license)}")
    lines += [f"library_name: {'peft' if facts.is_adapter else 'transformers'}", "pipeline_tag: text-generation"]
    tags = ["btmd", str(facts.settings.get("training_type", ""))] + (["lora"] if facts.is_adapter else [])
    return "\n".join([*lines, "tags:", *(f"- {_yaml(one)}" for one in tags if one), "---"])


def _opening(facts: CardFacts) -> str:
    what = "A LoRA adapter for" if facts.is_adapter else "A fine-tuned form of"
    quantised = f" The base had been quantised ({facts.quantised}) before it was trained on." if facts.quantised else ""
    license = (
        f"Its base is under the licence `{facts.license}`, which holds for this too."
        if facts.license
        else "The licence of its base is not known here: look it up before passing this on."
    )
    when = f" on {facts.trained_on}" if facts.trained_on else ""
    made = f"{what} `{facts.base}` ({facts.architecture}), trained locally{when} as job `{facts.job_id}`."
    return f"{made}{quantised} {license}"


def _result(facts: CardFacts) -> str:
    rows = [
        ("held-out loss", facts.before, facts.after),
        ("loss on everyday questions", facts.general_before, facts.general_after),
    ]
    shown = [f"| {name} | {_figure(before)} | {_figure(after)} |" for name, before, after in rows if before is not None]
    parts = [facts.summary]
    if shown:
        parts.append("\n".join(["| | before | after |", "|---|---|---|", *shown]))
    if facts.low is not None and facts.high is not None:
        parts.append(
            f"The improvement of the held-out loss lies between {facts.low:.1f} % and {facts.high:.1f} % with a "
            "probability of 90 % (bootstrap over held-out rows)."
        )
    if facts.account:
        parts.append("On the way:\n\n" + "\n".join(f"- {one}" for one in facts.account))
    if facts.warnings:
        parts.append("Noticed:\n\n" + "\n".join(f"- {one}" for one in facts.warnings))
    return "\n\n".join(parts)


def _data(facts: CardFacts) -> str:
    rows = f", {facts.rows:,} rows" if facts.rows is not None else ""
    made = {"clean": " It was cleaned.", "anonymise": " Personal data in it was replaced."}.get(facts.made, "")
    purpose = f"for: {facts.purpose}" if facts.purpose else "without a purpose being named"
    allowed = ", ".join(facts.consent_scopes) or "nothing any more"
    return (
        f"Dataset `{facts.dataset_id}`, version `{facts.dataset_version}`{rows}; SHA-256 of its rows "
        f"`{facts.rows_sha256}`.{made} Its use was allowed {purpose} (allowed: {allowed}). None of it is in this card."
    )


def _training(facts: CardFacts) -> str:
    values = {name: facts.settings[name] for name in SHOWN if facts.settings.get(name) not in (None, 0, "", ())}
    ended = f", ended by {facts.ended_by.replace('_', ' ')}" if facts.ended_by else ""
    return f"{facts.steps:,} steps{ended}.\n\n{_table(values)}"


def _limits(facts: CardFacts) -> str:
    return (
        "Meant for the purpose named above, and for questions like those in its data. It was measured on held-out rows "
        "of the same dataset and on a few everyday questions only: nothing here says how it answers other questions, "
        "other languages, or people who mean harm. It may repeat what stood in its training data, and it may be wrong "
        "with confidence. It has the limits of its base as well; have a person look at answers that matter."
    )


def _table(values: Mapping[str, Any]) -> str:
    if not values:
        return ""
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {_value(value)} |" for name, value in values.items())])


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(one)}" for name, one in value.items() if one not in (None, (), []))
    if isinstance(value, list | tuple):
        return ", ".join(str(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _yaml(text: str) -> str:
    plain = text.replace("/", "").replace("-", "").replace("_", "").replace(".", "")
    if plain.isalnum() and plain.isascii() and not plain.isdigit():
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'
