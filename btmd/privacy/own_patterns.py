"""Patterns of one's own, on an engine that can be stopped: some patterns would go back and forth for ever."""

from collections.abc import Iterator
from typing import Final

import regex

from btmd.errors import InvalidValue
from btmd.privacy.finding import Finding

LONGEST: Final = 2000
TIME_LIMIT_S: Final = 2.0
"""For one text."""


class OwnPattern:
    """A regular expression and the kind of what it finds. Raises InvalidValue for one that is none."""

    def __init__(self, kind: str, expression: str) -> None:
        self.kind = kind
        if len(expression) > LONGEST:
            raise InvalidValue(f"The pattern for {kind} has more than {LONGEST:,} characters.", hint="Use a list.")
        try:
            self._compiled = regex.compile(expression)
        except (regex.error, RecursionError) as error:
            raise InvalidValue(
                f"The pattern for {kind} is no regular expression: {error}.",
                hint="KIND=REGEX, such as CUSTOMER='K-\\d{6}'; in a shell it has to stand in quotes.",
            ) from None
        if self._compiled.fullmatch("") is not None:
            raise InvalidValue(
                f"The pattern for {kind} fits an empty text, so it would be found everywhere.",
                hint="Use + in place of *, or name what has to be there.",
            )

    def find(self, text: str) -> Iterator[Finding]:
        """Every place it fits. Raises InvalidValue when one text takes longer than two seconds."""
        try:
            for found in self._compiled.finditer(text, timeout=TIME_LIMIT_S, concurrent=False):
                if found.end() > found.start():
                    yield Finding(found.start(), found.end(), self.kind, found[0])
        except TimeoutError:
            raise InvalidValue(
                f"The pattern for {self.kind} was at one text for {TIME_LIMIT_S:g} seconds and did not come to an end.",
                hint="Repeated groups inside repeated groups do that, as in (a+)+; write it without.",
            ) from None
