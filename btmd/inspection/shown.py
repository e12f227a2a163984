"""What a preview shows: the only answers of a child that hold the text of rows. They are passed on, never recorded."""

import msgspec

from btmd.inspection.facts import PersonalKind


class AnswersText(msgspec.Struct, frozen=True):
    """A job's sample answers, as JSON."""

    text: str


class ShownTurn(msgspec.Struct, frozen=True):
    """One turn; ``more_chars`` of it are not shown."""

    role: str
    content: str
    more_chars: int = 0


class ShownSequence(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens that are computed together: a conversation, one side of a pair, a piece of a text.

    ``ids``, ``texts``, ``learned`` and ``marks`` have one entry for each token shown, the first ones of ``tokens``.
    """

    name: str
    """``conversation``, ``text``, ``chosen`` or ``rejected``."""
    tokens: int
    learned_tokens: int
    ids: tuple[int, ...]
    texts: tuple[str, ...]
    """Together the whole text; of several tokens that make one character, the last has it."""
    learned: tuple[bool, ...]
    marks: tuple[bool, ...]
    """Tokens such as ``<|im_end|>``, which are no text."""


class ShownRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row as it was understood, and with a model as its tokens."""

    row: int
    """Counted from 1 among the rows that are kept."""
    line: int
    """Where it begins in the source."""
    split: str | None
    """The side the source itself names."""
    messages: tuple[ShownTurn, ...] = ()
    rejected: tuple[ShownTurn, ...] = ()
    more_turns: int = 0
    text: ShownTurn | None = None
    """Of a plain text; its role is ``text``."""
    sequences: tuple[ShownSequence, ...] = ()
    more_sequences: int = 0
    """Pieces of a long text that are not shown."""
    use: str = ""
    """``used``, ``over_long``, ``nothing_learned`` or ``untemplated``; empty without a model."""
    refusal: str = ""
    """Why the chat template does not take the row."""


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """The rows asked for. ``rows_total`` counts all that are kept."""

    rows_total: int
    rows: tuple[ShownRow, ...]
    template: str = ""
    """``model`` or ``plain``; empty without a model."""


class ShownFinding(msgspec.Struct, frozen=True, kw_only=True):
    """Personal data in its context, and what would stand in its place."""

    line: int
    role: str
    """Of the turn, or ``text``."""
    rejected: bool
    kind: str
    before: str
    found: str
    after: str
    placeholder: str


class AnonymisingPreview(msgspec.Struct, frozen=True, kw_only=True):
    """What anonymising would replace: all of it by kind, and the first findings of each kind with their text."""

    rows: int
    rows_affected: int
    kinds: tuple[PersonalKind, ...]
    findings: tuple[ShownFinding, ...]
    names_looked_for: bool
