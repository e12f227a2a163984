"""What `train` and `plan` share: the options of a training, and the request made from them."""

import argparse

from btmctl import sources, words
from btmctl.client import Document
from btmctl.errors import UsageError
from btmctl.output import Output
from btmctl.session import Session
from btmd.vocabulary import personal_data

Forecast = list[tuple[str, object]]
"""What a training takes, as foretold, by name; each a range that nine outcomes in ten fall into."""


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="id, name or path of a model")
    add("dataset", metavar="DATASET", help="id, name or path of a dataset")
    add("--preset", metavar="P", help="a preset's key or name (default: chosen for model, data and machine)")
    add("--set", action="append", default=[], metavar="K=V", help="change one value, such as num_epochs=2 (repeatable)")
    add("--allow", metavar="LIST", help="changes allowed without asking: shorter,lora,qlora,cpu,simpler or none")
    add("--from-job", metavar="J", help="go on from this training's adapter, with other data")
    add("--devices", metavar="LIST", help="where it trains: cpu, 1 (a GPU) or cuda:0 (this GPU); default: the fastest")
    add("--time", metavar="T", help="end within this time, with a whole model: 3m, 2h, 1h30m")
    add("--name", metavar="TEXT", help="what to call the training")
    add("--priority", type=int, metavar="N", help="higher goes first")
    add("--consent", action="store_true", help="you may allow the use of this data, and do")
    add("--purpose", default="", metavar="TEXT", help="what the data may be used for")
    add("--accept-personal-data", action="store_true", help="train on the personal data that was found; recorded")


def request(arguments: argparse.Namespace, session: Session) -> Document:
    """The body of a start or a plan; paths among model and dataset are added first."""
    overrides = words.pairs(arguments.set, "--set")
    if arguments.devices:
        overrides["device"] = _device(arguments.devices)
    if arguments.time:
        overrides["time_limit_s"] = words.time_limit_s(arguments.time)
    model = sources.model(arguments.model, session)
    dataset = sources.dataset(arguments.dataset, session, consent=arguments.consent, purpose=arguments.purpose)
    body: Document = {"model_id": model["model_id"], "dataset_id": dataset["dataset_id"]}
    if arguments.preset:
        body["preset_name"] = arguments.preset
    if overrides:
        body["overrides"] = overrides
    if arguments.allow:
        body["allow"] = [one.strip() for one in arguments.allow.split(",") if one.strip()]
    if arguments.from_job:
        body["from_job"] = arguments.from_job
    if arguments.name:
        body["name"] = arguments.name
    if arguments.priority is not None:
        body["priority"] = arguments.priority
    if arguments.accept_personal_data:
        body["accept_personal_data"] = True
    if arguments.consent:
        body["consent"] = True
        if arguments.purpose:
            body["purpose"] = arguments.purpose
    return body


def _device(given: str) -> str:
    """The device of ``--devices``. Raises UsageError for several, which one training cannot use yet."""
    text = given.strip().lower()
    if text == "1":
        return "cuda"
    if text == "cpu" or (text.startswith("cuda:") and text[5:].isdigit()):
        return text
    raise UsageError(
        f"{given[:40]!r} cannot be trained on.",
        "One training uses the processor (cpu), one GPU (1), or a certain one (cuda:0 is the first); several not yet.",
        "btmctl hardware",
    )


def forecast_fields(document: Document) -> Forecast:
    """The forecast in a job's or a plan's document; empty where there is none."""
    said = document.get("forecast_texts") or {}
    named = (
        ("time", "time"),
        ("time a step", "step"),
        ("memory", "memory"),
        ("GPU memory", "gpu_memory"),
        ("disk at the end", "disk"),
    )
    return [(name, said[key]) for name, key in named if key in said]


def show_plan(plan: Document, output: Output) -> None:
    """Every value with where it came from and why, then what else is to be known."""
    preset = plan.get("preset_name") or plan.get("preset")
    output.fields(
        [
            ("model", plan.get("model_id")),
            ("dataset", plan.get("dataset_id")),
            ("goes on from", plan.get("from_job")),
            ("repeats", plan.get("rerun_of")),
            ("preset", f"{preset}. {plan.get('preset_reason', '')}".strip()),
            ("steps", _about(plan, "total_steps")),
            ("rows", _rows(plan)),
            ("rows left out", plan.get("left_out_rows") or ""),
            ("personal data", _personal_data(plan.get("personal_data"))),
            *forecast_fields(plan),
            ("disk meanwhile", _at_most((plan.get("disk") or {}).get("total_bytes"))),
        ]
    )
    if plan.get("forecast_texts"):
        text = "Nine trainings in ten end inside these ranges; each that ends here makes the next ones narrower."
        output.paragraph(text)
    output.line()
    rows = [(key, words.value(one["value"]), one["source"], one["reason"]) for key, one in plan["values"].items()]
    follows = (plan.get("fixed") or {}).items()
    rows += [(f"({key})", words.value(one["value"]), one["source"], one["reason"]) for key, one in follows]
    output.table(("value", "is", "from", "because"), rows, wrap=True)
    if follows:
        output.paragraph("Values in brackets follow from the others and cannot be set.")
    for note in plan.get("notes") or []:
        output.line()
        output.paragraph(str(note))


def _rows(plan: Document) -> str:
    shared = f"{_about(plan, 'train_rows')} to learn from, {_about(plan, 'held_out_rows')} held out to measure by"
    return shared if plan.get("rows_counted") else f"{shared}; what is nearly the same stays on one side"


def _about(plan: Document, key: str) -> str:
    """A number of a plan; what was not counted but reckoned is told so."""
    return f"{'' if plan.get('rows_counted') else 'about '}{words.exactly(plan.get(key))}"


def _personal_data(found: Document | None) -> str:
    """What a start asks about, by kind; nothing where none was found."""
    if not found or not found["kinds"]:
        return ""
    return f"{personal_data(found['kinds'])}; a start asks about it"


def _at_most(size_bytes: float | None) -> str:
    return "" if size_bytes is None else f"up to {amount(size_bytes)}"


def amount(size_bytes: float) -> str:
    """Bytes in the powers of 1024 that forecasts are told in: what was said and what it took are compared."""
    for unit, power in (("GB", 3), ("MB", 2)):
        if size_bytes >= 1024**power:
            figure = size_bytes / 1024**power
            return f"{figure:.1f} {unit}" if unit == "GB" and figure < 10 else f"{figure:.0f} {unit}"
    return f"{size_bytes / 1024:.0f} kB"
