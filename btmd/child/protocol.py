"""The lines that a child writes."""

import msgspec


class ErrorAnswer(msgspec.Struct, frozen=True):
    """A refusal, as in btmd.errors."""

    code: str
    detail: str
    hint: str = ""
    suggestions: tuple[dict[str, str], ...] = ()
    """Of DatasetRefused."""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a child: progress (0..1 with a sentence), or at the end a result or an error."""

    progress: float | None = None
    text: str = ""
    result: msgspec.Raw = msgspec.Raw()
    """Empty while there is none: a union with None would not take an object."""
    error: ErrorAnswer | None = None
