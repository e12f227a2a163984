"""btmctl help: what a command does, and what to do about an error code."""

import argparse
import contextlib
import importlib
import io
from typing import Any

from btmctl.__main__ import COMMANDS
from btmctl.errors import DONE, NOT_FOUND, CommandError
from btmctl.help_texts.form import Help
from btmctl.output import Output
from btmctl.own_installation import filled
from btmctl.parser import Single, nearest
from btmctl.session import Session

LEGEND = (
    "Words in capitals stand for yours: J a training, D or DATASET a dataset, M or MODEL a model, B a backup, KEY a"
    " preset, PATH a file or folder, USER and GROUP somebody on this machine."
)


def command() -> Single:
    single = Single(
        "help",
        run,
        "Shows what a command does, as its --help; or what an error code means, why it comes about, and what to do"
        " about it, step by step. Without a word it lists the commands and the codes.",
        ["btmctl help", "btmctl help consent_missing", "btmctl help jobs", "btmctl help jobs list"],
    )
    single.parser.add_argument("topic", nargs="*", metavar="COMMAND|CODE", help="a command, or an error's code")
    return single


def run(arguments: argparse.Namespace, session: Session) -> int:
    topic, output = list(arguments.topic), session.output
    if not topic:
        return _list(output)
    if topic[0] in COMMANDS:
        return _command_help(topic, output)
    return _code_help(" ".join(topic), output)


def _list(output: Output) -> int:
    from btmctl.help_texts import groups

    found = groups()
    if output.as_json:
        titles = {heading: {code: one.title for code, one in group.items()} for heading, group in found.items()}
        output.document({"commands": COMMANDS, "codes": titles})
        return DONE
    output.table(("command", "what it does"), list(COMMANDS.items()))
    output.line()
    output.paragraph("Codes of errors; btmctl help CODE says what to do about one.")
    for heading, group in found.items():
        output.line()
        output.table(("code", heading), sorted((code, one.title) for code, one in group.items()))
    return DONE


def _command_help(topic: list[str], output: Output) -> int:
    name, *verbs = topic
    command: Any = importlib.import_module(f"btmctl.commands.{name}").command()
    text = io.StringIO()
    # argparse prints a help and leaves; a wrong verb is refused with the nearest, as where it is typed.
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(text):
        command.parse([*verbs, "--help"], argparse.Namespace())
    if output.as_json:
        output.document({"command": " ".join(["btmctl", *topic]), "help": text.getvalue()})
    else:
        output.raw(text.getvalue())
    return DONE


def _code_help(asked: str, output: Output) -> int:
    from btmctl.help_texts import codes

    known = codes()
    code = asked.strip().lower().replace("-", "_").replace(" ", "_")
    code = code.removeprefix("urn:btmd:error:")
    found = known.get(code)
    if found is None:
        raise CommandError(
            f"There is neither a command nor a code {asked!r}.",
            "A newer daemon may have codes that this btmctl does not know: btmctl version.",
            nearest(code, {**COMMANDS, **known}, "btmctl help ") or "btmctl help",
            code="not_found",
            exit_code=NOT_FOUND,
        )
    found = found._replace(steps=tuple(map(filled, found.steps)))
    if output.as_json:
        output.document({"code": code, **found._asdict()})
    else:
        _show(code, found, output)
    return DONE


def _show(code: str, found: Help, output: Output) -> None:
    output.line(f"{code}: {found.title}", "bold")
    output.line()
    output.paragraph(found.means)
    output.paragraph(f"Why: {found.why}")
    output.line()
    for number, step in enumerate(found.steps, 1):
        _show_step(f"{number}. ", step, output)
    output.line()
    output.paragraph(LEGEND, style="dim")


def _show_step(number: str, step: str, output: Output) -> None:
    """A step without its backticks; where it takes several lines, its commands stand whole on lines of their own."""
    if len(number) + len(step) < min(output.width, 100):
        # Without the full stop after a command, which would be pasted along.
        parts = (step[:-1] if step.endswith("`.") else step).split("`")
        output.pieces([(number, ""), *((part, "cyan" if place % 2 else "") for place, part in enumerate(parts))])
        return
    first, *parts = step.split("`")
    output.paragraph(number + first.rstrip())
    for place, part in enumerate(parts):
        if place % 2 == 0:
            output.line("     " + part, "cyan")
        elif part.strip(" .,;)"):
            output.paragraph(part.lstrip(" .,;"), indent="   ")
