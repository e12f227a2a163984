"""Rows as a person reads them: their turns, and token by token what of them would be learned.

The text of rows comes from anywhere, so whatever could steer a terminal is made visible instead.
"""

from collections.abc import Iterable, Iterator, Sequence

from btmctl.client import Document
from btmctl.output import columns
from btmd.control_characters import clean

Piece = tuple[str, str]
"""A text without control characters, and its style."""
Line = list[Piece]

BETWEEN_TOKENS = "|"
LEARNED, NOT_LEARNED = "+ ", "  "
_LINE_END = "⏎"
_NARROWEST = 12


def legend(*, coloured: bool) -> list[Line]:
    """What the lines of tokens mean."""
    return [
        [(LEARNED + "learned", "green"), (NOT_LEARNED * 2 + "context   ", ""), (_mark("mark", coloured), "cyan")],
        [(f"{BETWEEN_TOKENS} between tokens   {_LINE_END} end of a line", "dim")],
    ]


def _mark(text: str, coloured: bool) -> str:
    """A token that is no text; without colour it stands in brackets, as the text itself may spell it."""
    return text if coloured else f"‹{text}›"


def turn_lines(name: str, text: str, *, margin: int, width: int) -> Iterator[Line]:
    """A turn with its speaker before the first line, folded at ``width`` columns."""
    room = max(_NARROWEST, width - margin - 2)
    first = True
    for paragraph in text.splitlines() or [""]:
        for line in folded(clean(paragraph), room):
            speaker = name if first else ""
            yield [("  " + speaker + " " * (margin - columns(speaker)), "dim"), (line, "")]
            first = False


def folded(text: str, room: int) -> Iterator[str]:
    """The text in lines of at most ``room`` columns, broken between words where there are any."""
    while columns(text) > room:
        at = _fitting(text, room)
        space = text.rfind(" ", 1, at + 1)
        at = space if space > 0 else at
        yield text[:at].rstrip()
        text = text[at:].lstrip()
    yield text


def token_lines(sequence: Document, *, width: int, coloured: bool) -> Iterator[Line]:
    """The tokens of a sequence; every line is all learned or all context, and begins with what it is."""
    # One column is left for what stands between two tokens.
    room = max(_NARROWEST, width - len(LEARNED) - 1)
    for learned, tokens in _runs(sequence, coloured):
        style = "green" if learned else ""
        for pieces in _filled(tokens, style, room):
            yield [(LEARNED if learned else NOT_LEARNED, style), *pieces]
    more = sequence["tokens"] - len(sequence["ids"])
    if more > 0:
        yield [(f"  ... and {more:,} more tokens", "dim")]


Token = tuple[str, bool]
"""Its text, and whether it is a mark."""


def _runs(sequence: Document, coloured: bool) -> Iterator[tuple[bool, list[Token]]]:
    """Tokens that follow one another and are all learned, or all not."""
    run: list[Token] = []
    before: bool | None = None
    for text, learned, mark in zip(sequence["texts"], sequence["learned"], sequence["marks"], strict=True):
        if run and learned != before:
            yield bool(before), run
            run = []
        run.append((_mark(text, coloured) if mark else text, mark))
        before = learned
    if run:
        yield bool(before), run


def _filled(tokens: Iterable[Token], style: str, room: int) -> Iterator[Line]:
    """Lines of at most ``room`` columns; a line break in the text ends a line here too."""
    line: Line = []
    taken = 0
    for number, (text, mark) in enumerate(tokens):
        pieces = _visible(text)
        if number and line:
            if taken >= room:
                yield [*line, (BETWEEN_TOKENS, "dim")]
                line, taken = [], 0
            else:
                line.append((BETWEEN_TOKENS, "dim"))
                taken += 1
        for at, piece in enumerate(pieces):
            if at:
                yield line
                line, taken = [], 0
            while taken + columns(piece) > room:
                fitting = _fitting(piece, room - taken) if columns(piece) > room else 0
                if fitting:
                    line.append((piece[:fitting], "cyan" if mark else style))
                if line:
                    yield line
                piece, line, taken = piece[fitting:], [], 0
            if piece:
                line.append((piece, "cyan" if mark else style))
                taken += columns(piece)
    if line:
        yield line


def _visible(text: str) -> list[str]:
    """The text with its line ends shown, in pieces that each end a line but the last; the last may be empty."""
    *ended, last = text.replace("\r\n", "\n").split("\n")
    return [*(clean(part) + _LINE_END for part in ended), clean(last)]


def _fitting(text: str, room: int) -> int:
    """How many of the letters fit into ``room`` columns; at least one."""
    taken = 0
    for at, letter in enumerate(text):
        taken += columns(letter)
        if taken > room:
            return max(1, at)
    return len(text)


def micro_batch_lines(together: Document, unit: str) -> Iterator[str]:
    """What is computed together: each block with the lines and tokens of its rows; rows of documents by number."""
    blocks: dict[int, list[Document]] = {}
    for one in together["sequences"]:
        blocks.setdefault(one["block"], []).append(one)
    for block in blocks.values():
        yield _block(block, "line" if unit == "line" else "row")


def _block(block: Sequence[Document], by: str) -> str:
    tokens = sum(one["tokens"] for one in block)
    if len({one["row"] for one in block}) == 1:
        both = f" ({' + '.join(str(one['tokens']) for one in block)})" if len(block) > 1 else ""
        return f"{by} {block[0][by]}: {tokens} tokens{both}"
    parts = ", ".join(f"{by} {one[by]} ({one['tokens']})" for one in block)
    return f"one block of {tokens} tokens: {parts}"
