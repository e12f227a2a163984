"""Every command that a document tells to type, one by one, in its order."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.docs.place import DOCS
from tests.docs.typed import headed

PAGES = [DOCS.parent / "README.md", *(path for path in sorted(DOCS.glob("*.md")) if path.name != "README.md")]
GENERATED_EXAMPLES = "cli.md"
"""The page whose other blocks are usages."""
_DOCUMENT = re.compile(r"^ *[{[]|─")
_COMMENT = re.compile(r"(?:^|\s+)# .*$")


@dataclass(frozen=True, slots=True)
class Statement:
    """What is typed until the shell goes on: a line, with those that continue it, or a whole loop."""

    page: str
    heading: str
    text: str


def statements_of(block: str) -> Iterator[str]:
    """What a block tells to type; nothing where it shows a document or a drawing."""
    if _DOCUMENT.search(block):
        return
    lines: list[str] = []
    for line in block.splitlines():
        lines.append(line if lines else _COMMENT.sub("", line))
        loops = re.match(r"(?:for|while) ", lines[0]) and lines[-1] != "done"
        if not line.endswith("\\") and not loops:
            if text := "\n".join(lines).strip():
                yield text
            lines = []
    assert not lines, block


@cache
def statements(page: Path) -> tuple[Statement, ...]:
    if page.name != GENERATED_EXAMPLES:
        blocks = [*headed(page)]
    else:
        parts = re.split(r"^#{2,3} `?btmctl (.*?)`?$", page.read_text(), flags=re.MULTILINE)[1:]
        blocks = [
            (heading, block)
            for heading, text in zip(parts[::2], parts[1::2], strict=True)
            for block in re.findall(r"^Examples:\n\n```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        ]
    return tuple(Statement(page.name, heading, text) for heading, block in blocks for text in statements_of(block))
