"""btmctl datasets preview: rows as they were understood, and token by token what would be learned."""

import argparse

from btmctl import row_view, sources, words
from btmctl.client import Document
from btmctl.errors import DONE, UsageError
from btmctl.output import Output, columns
from btmctl.parser import Noun
from btmctl.session import Session
from btmd.vocabulary import LAYOUTS

ROWS = 3
MOST_ROWS = 100
SHORT_CHARS = 600
"""Of a turn, where several rows are shown."""
_LISTED = 5
_MICRO_BATCHES = 4
_WHY_LEFT_OUT = {
    "over_long": "longer than {max_length} tokens",
    "nothing_learned": "with nothing to learn",
    "untemplated": "not taken by the chat template",
}
_NAMES = {"chosen": "the chosen answer", "rejected": "the rejected answer"}


def add_verbs(noun: Noun) -> None:
    verb = noun.verb(
        "preview",
        run,
        "Show a few rows as they were understood; with a model, token by token what a training would learn of them.",
        [
            "btmctl datasets preview questions",
            "btmctl datasets preview questions --line 17 --rows 1",
            "btmctl datasets preview questions --tokens --model smol",
            "btmctl datasets preview questions --tokens --model smol --set max_length=512 --json",
        ],
    )
    verb.add_argument("dataset", metavar="D", help="id, beginning of an id, or name")
    where = verb.add_mutually_exclusive_group()
    where.add_argument("--row", type=int, metavar="N", help="begin with this row, counted from 1")
    where.add_argument("--line", type=int, metavar="N", help="begin with the row at this line of the file")
    verb.add_argument(
        "--rows", type=int, default=ROWS, metavar="K", help=f"how many (default: {ROWS}; at most {MOST_ROWS})"
    )
    verb.add_argument("--tokens", action="store_true", help="token by token, as --model sees them")
    verb.add_argument("--model", metavar="M", help="id, name or path of a model")
    verb.add_argument("--preset", metavar="P", help="a preset's key or name, for how long rows may be")
    verb.add_argument("--set", action="append", default=[], metavar="K=V", help="a value of the plan (repeatable)")
    verb.add_argument("--allow", metavar="LIST", help="changes allowed without asking: shorter,lora,... or none")


def run(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    found = session.work(f"/datasets/{arguments.dataset}/preview", _request(arguments, session))
    if output.as_json:
        output.document(found)
    elif "training" in found:
        _show_tokens(found, output)
    else:
        _show_rows(found, output)
    return DONE


def _request(arguments: argparse.Namespace, session: Session) -> Document:
    if not 1 <= arguments.rows <= MOST_ROWS:
        raise UsageError(
            f"--rows cannot be {arguments.rows}.",
            f"A preview shows 1 to {MOST_ROWS} rows.",
            f"--row N --rows {MOST_ROWS} begins with another one.",
        )
    body: Document = {"rows": arguments.rows}
    for name in ("row", "line"):
        if getattr(arguments, name) is not None:
            body[name] = getattr(arguments, name)
    if arguments.model is None:
        planned = arguments.tokens or arguments.preset or arguments.set or arguments.allow
        if planned:
            raise UsageError(
                "Tokens are those of a model.",
                "Each model cuts text into tokens in its own way, and none was named.",
                f"btmctl datasets preview {arguments.dataset} --tokens --model M",
            )
        return body
    body["model_id"] = sources.model(arguments.model, session)["model_id"]
    if arguments.preset:
        body["preset_name"] = arguments.preset
    if arguments.set:
        body["overrides"] = words.pairs(arguments.set, "--set")
    if arguments.allow:
        body["allow"] = [one.strip() for one in arguments.allow.split(",") if one.strip()]
    return body


def _show_rows(found: Document, output: Output) -> None:
    output.fields(
        [
            ("dataset", found["dataset_id"]),
            ("version", found["version_id"]),
            ("read as", LAYOUTS.get(found["layout"], found["layout"])),
            *_columns(found),
            ("rows", f"{found['rows_total']:,}"),
        ]
    )
    longest = SHORT_CHARS if len(found["rows"]) > 1 else 0
    for row in found["rows"]:
        output.line()
        side = {"held_out": ", held out by the file", "train": ", trained on, as the file says"}.get(row["split"], "")
        output.line(_place(row, found) + side, "bold")
        _turns(row, output, longest)


def _columns(found: Document) -> list[tuple[str, object]]:
    named = found["columns_as"]
    used = [f"{column} is the {role}" for role, column in named.items()] or found["columns_used"]
    unused = [column for column in found["columns"] if column not in found["columns_used"]]
    return [("columns", ", ".join(used)), ("not used", ", ".join(unused))]


def _turns(row: Document, output: Output, longest: int) -> None:
    said = [(turn["role"], turn) for turn in row["messages"]]
    if row["rejected"]:
        shared = 0
        for one, other in zip(row["messages"], row["rejected"], strict=False):
            if one != other:
                break
            shared += 1
        said = said[:shared] + [("chosen", turn) for _, turn in said[shared:]]
        said += [("rejected", turn) for turn in row["rejected"][shared:]]
    if row["text"] is not None:
        said.append(("text", row["text"]))
    margin = max((columns(name) for name, _ in said), default=0) + 2
    for name, turn in said:
        text = str(turn["content"])
        more = turn["more_chars"]
        if longest and len(text) > longest:
            text, more = text[:longest], more + len(text) - longest
        for line in row_view.turn_lines(name, text, margin=margin, width=output.width):
            output.pieces(line)
        if more:
            whole = f"; --row {row['row']} --rows 1 shows them" if longest and not turn["more_chars"] else ""
            output.line(f"  {'':{margin}}... and {more:,} more characters{whole}", "dim")
    if row["more_turns"]:
        output.line(f"  ... and {row['more_turns']:,} more turns", "dim")


def _show_tokens(found: Document, output: Output) -> None:
    training, arranged = found["training"], found["arrangement"]
    output.fields(
        [
            ("dataset", found["dataset_id"]),
            ("version", found["version_id"]),
            ("model", f"{found['model_id']}, {_template(found['template'])}"),
            ("training", _training(training)),
            ("rows", _rows(arranged)),
            ("left out", _left_out(arranged, training, found["unit"])),
            ("an epoch", _epoch(arranged, training)),
        ]
    )
    if found["refusal"]:
        output.line(f"No training can be planned: {found['refusal']['detail']}", "yellow")
    output.line()
    for line in row_view.legend(coloured=output.coloured):
        output.pieces(line)
    for row in found["rows"]:
        output.line()
        _show_row(row, _place(row, found), training, output)
    _show_first_step(arranged, training, found["unit"], output)


def _template(kind: str) -> str:
    return "its own chat template" if kind == "model" else "a plain chat template, since it has none"


def _training(training: Document) -> str:
    preset = f"{training['preset']}, " if training["preset"] else ""
    kind = str(training["training_type"]).replace("_", " ")
    return f"{preset}{kind}, rows of up to {training['max_length']:,} tokens"


def _rows(arranged: Document) -> str:
    rows = f"{arranged['rows']:,}: {arranged['train_rows']:,} to learn from"
    return rows + (f", {arranged['held_out_rows']:,} held out" if arranged["held_out_rows"] else "")


def _left_out(arranged: Document, training: Document, unit: str) -> str:
    # In a folder each file counts its own pages; --line takes the number that counts through all of them.
    named = "line" if unit == "line" else "--line"
    parts = []
    for why, count in arranged["left_out"].items():
        lines = arranged["left_out_lines"][why]
        listed = ", ".join(f"{line}" for line in lines[:_LISTED]) + (", ..." if count > _LISTED else "")
        parts.append(f"{count:,} {_WHY_LEFT_OUT[why].format(**training)} ({named} {listed})")
    return "; ".join(parts)


def _epoch(arranged: Document, training: Document) -> str:
    packed = f"{arranged['blocks']:,} blocks, " if training["packing"] else ""
    return (
        f"{packed}{arranged['steps_an_epoch']:,} steps, {arranged['tokens_an_epoch']:,} tokens, "
        f"of which {arranged['learned_tokens_an_epoch']:,} are learned"
    )


def _place(row: Document, found: Document) -> str:
    """Where the row stands: its number, and its line, page or paragraph in the file that it is from."""
    file = f" of {row['file']}" if row["file"] else ""
    return f"row {row['row']}, {found['unit']} {row['number']}{file}"


def _show_row(row: Document, heading: str, training: Document, output: Output) -> None:
    if row["use"] == "untemplated":
        output.line(f"{heading}: left out, as the chat template does not take it", "bold")
        output.paragraph(row["refusal"], "  ")
        return
    for number, sequence in enumerate(row["sequences"]):
        part = _NAMES.get(sequence["name"], "")
        if not part and len(row["sequences"]) + row["more_sequences"] > 1:
            part = f"piece {number + 1} of {len(row['sequences']) + row['more_sequences']}"
        output.line(f"{heading}{', ' + part if part else ''}: {_fate(row, sequence, training)}", "bold")
        for line in row_view.token_lines(sequence, width=output.width, coloured=output.coloured):
            output.pieces(line)
    if row["more_sequences"]:
        output.line(f"  ... and {row['more_sequences']:,} more pieces", "dim")


def _fate(row: Document, sequence: Document, training: Document) -> str:
    tokens = f"{sequence['tokens']:,} tokens"
    if row["use"] == "over_long":
        return f"{tokens}; left out whole, as it is longer than {training['max_length']:,}"
    if row["use"] == "nothing_learned":
        return f"{tokens}; left out, as there is nothing to learn"
    if row["held_out"]:
        return f"{tokens}; held out: the {sequence['learned_tokens']:,} marked ones are measured, not learned"
    return f"{tokens}, {sequence['learned_tokens']:,} learned"


def _show_first_step(arranged: Document, training: Document, unit: str, output: Output) -> None:
    if not arranged["first_step"]:
        return
    output.line()
    size = f"{training['batch_size']} {'blocks' if training['packing'] else 'rows'} in a step"
    output.line(f"The first step, {size}, {training['micro_batch_size']} computed at once", "bold")
    for number, together in enumerate(arranged["first_step"][:_MICRO_BATCHES], 1):
        output.line(f"  micro-batch {number}: {together['tokens']:,} tokens")
        for text in row_view.micro_batch_lines(together, unit):
            output.paragraph(text, "    ")
    more = len(arranged["first_step"]) - _MICRO_BATCHES
    if more > 0:
        output.line(f"  ... and {more:,} more micro-batches; --json lists them", "dim")
