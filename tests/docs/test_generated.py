"""Pages that are made from the code are what the code makes, and what they show can be typed."""

from pathlib import Path

import pytest

from btmctl import errors
from btmctl.completion import whole_parser
from btmctl.parser import Parser
from btmd.errors import all_errors
from docs import generate
from tests.docs import typed
from tests.docs.place import DOCS

README = DOCS.parent / "README.md"
# Half of the command line's page are usages; its examples are tried one by one.
PAGES = [README, *sorted(path for path in DOCS.glob("*.md") if path.name != "cli.md")]


@pytest.fixture(scope="module")
def verbs() -> list[Parser]:
    """The parsers that run something."""

    def below(parser: Parser) -> list[Parser]:
        nested = [
            one for action in parser._actions if isinstance(action.choices, dict) for one in action.choices.values()
        ]
        return [found for one in nested for found in below(one)] or [parser]

    return below(whole_parser())


def test_the_pages_are_what_the_code_makes() -> None:
    for name, text in generate.pages().items():
        assert (DOCS / name).read_text() == text, f"{name}: `make docs` writes it anew"


def test_every_command_has_examples_that_can_be_typed(verbs: list[Parser]) -> None:
    assert len(verbs) > 80
    for verb in verbs:
        found = [found for line in verb.examples for found in typed.commands(line)]
        assert any(["btmctl", *one][: len(verb.prog.split())] == verb.prog.split() for one in found), verb.prog
        for one in found:
            typed.parse(one)


def test_every_exit_code_is_explained() -> None:
    ours = {value for name, value in vars(errors).items() if name.isupper() and isinstance(value, int)}
    assert {*ours, *(one.exit_code for one in all_errors().values())} == set(generate.EXIT_CODES)


def test_every_argument_says_what_it_is(verbs: list[Parser]) -> None:
    shown = [(verb.prog, action) for verb in verbs for action in verb._actions]
    assert [(prog, action.dest) for prog, action in shown if not action.help] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_tells_to_type_is_understood(page: Path) -> None:
    for line in typed.blocks(page):
        # The other lines are drawings, documents, other programs.
        for arguments in typed.commands(line) if "btmctl " in line and "─" not in line else []:
            typed.parse(arguments)
    for line in typed.inline(page):
        assert typed.is_known(line.split()[1:]), line


def test_a_command_is_found_in_a_line_of_shell() -> None:
    assert typed.commands("A=1 btmctl jobs show last | tail; echo btmctl # btmctl x") == [["jobs", "show", "last"]]
    assert typed.commands('eval "$(.venv/bin/btmctl completion bash)"') == [["completion", "bash"]]
    nested = """a --key "$(btmctl audit verify --json | python3 -c 'print(f(x)["y"])')" """
    assert typed.commands(nested) == [["audit", "verify", "--json"]]
    assert not typed.is_known(["jobs", "shwo"])
    assert not typed.is_known(["jbos"])
