"""argparse with our manners: short refusals with a hint, examples in every help, common options everywhere."""

import argparse
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from btmctl.errors import UsageError

Run = Callable[..., int]


class Help(argparse.HelpFormatter):
    """Wraps what is text and leaves examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("examples:"):
            return text
        return super()._fill_text(text, width, indent)


class Parser(argparse.ArgumentParser):
    """Raises UsageError instead of printing the whole usage and leaving."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **options: Any) -> None:
        options.setdefault("formatter_class", Help)
        options.setdefault("allow_abbrev", False)
        options.setdefault("epilog", _as_text(examples))
        super().__init__(*args, **options)
        self.examples = tuple(examples)

    def error(self, message: str) -> NoReturn:
        message = re.sub(r"invalid (int|float) value: (.*)", r"\2 is no number", message)
        raise UsageError("This command cannot be understood.", _sentence(message), f"{self.prog} --help")


class Noun:
    """The commands of one noun: ``btmctl jobs list``, ``btmctl jobs show``."""

    def __init__(self, name: str, help_text: str) -> None:
        self.parser = Parser(prog=f"btmctl {name}", description=help_text)
        self._name = name
        self.verbs: dict[str, Parser] = {}
        self._choices = self.parser.add_subparsers(metavar="COMMAND", title="commands", parser_class=Parser)

    def verb(self, name: str, run: Run, help_text: str, examples: Sequence[str] = ()) -> Parser:
        made: Parser = self._choices.add_parser(
            name, help=help_text, description=help_text, examples=examples, prog=f"btmctl {self._name} {name}"
        )
        self.verbs[name] = made
        return _with_common(made, run)

    def parse(self, arguments: Sequence[str], namespace: argparse.Namespace) -> argparse.Namespace:
        given = next((word for word in arguments if not word.startswith("-")), None)
        if given is None and not {"-h", "--help"} & set(arguments):
            raise UsageError(
                f"btmctl {self._name} needs to be told what to do.",
                f"It knows: {', '.join(self.verbs)}.",
                f"btmctl {self._name} --help",
            )
        if given is not None and arguments[0] == given and given not in self.verbs:
            raise UsageError(
                f"btmctl {self._name} does not know {given!r}.",
                f"It knows: {', '.join(self.verbs)}.",
                nearest(given, self.verbs, f"btmctl {self._name} ") or f"btmctl {self._name} --help",
            )
        parsed, unknown = self.parser.parse_known_args(arguments, namespace)
        if unknown:
            self.verbs.get(str(given), self.parser).error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed


class Single:
    """A command of one word: ``btmctl status``."""

    def __init__(self, name: str, run: Run, help_text: str, examples: Sequence[str] = ()) -> None:
        self.parser = Parser(prog=f"btmctl {name}", description=help_text, examples=examples)
        _with_common(self.parser, run)

    def parse(self, arguments: Sequence[str], namespace: argparse.Namespace) -> argparse.Namespace:
        return self.parser.parse_args(arguments, namespace)


def _with_common(parser: Parser, run: Run) -> Parser:
    parser.set_defaults(run=run)
    return add_common(parser)


def add_common(parser: Parser) -> Parser:
    """The options that stand everywhere."""
    common = parser.add_argument_group("everywhere")
    # Suppressed defaults: what stood in front of the command must not be reset by the command's own parser.
    common.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="one JSON document (streams: one a line)"
    )
    common.add_argument("--yes", action="store_true", default=argparse.SUPPRESS, help="answer every question with yes")
    common.add_argument("--socket", metavar="PATH", default=argparse.SUPPRESS, help="the daemon's socket")
    common.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show a traceback on errors")
    return parser


def nearest(given: str, known: Sequence[str] | dict[str, Any], prefix: str = "") -> str:
    """``Did you mean``, or nothing when nothing is near."""
    import difflib

    near = difflib.get_close_matches(given, list(known), n=1, cutoff=0.5)
    return f"Did you mean {prefix}{near[0]}?" if near else ""


def _as_text(examples: Sequence[str]) -> str | None:
    return "examples:\n" + "\n".join(f"  {line}" for line in examples) if examples else None


def _sentence(message: str) -> str:
    message = message.replace("the following arguments are required", "missing").strip().rstrip(".")
    return message[:1].upper() + message[1:] + "."
