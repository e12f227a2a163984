"""Conversations in the form that most files of JSON lines have, recognised while they are decoded.

To decode a line into objects that say what they hold takes half the time of decoding it into anything and then looking
at each turn. What is otherwise in the least is not decoded here, and looked at closely.
"""

from typing import Any, Literal

import msgspec
from msgspec import Struct

from btmd.reading.layouts import Layout


class Turn(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One turn, encoded as a `btmd.data.rows.Message` is. Further fields are refused: they might be calls of tools."""

    role: Literal["user", "assistant", "system"]
    content: str


class UsualTurns:
    """Decodes records whose only column that counts is ``column``, a list of turns."""

    def __init__(self, column: str) -> None:
        record: Any = msgspec.defstruct("Record", [("turns", list[Turn])], rename={"turns": column})
        self._decode = msgspec.json.Decoder(record).decode

    @classmethod
    def of(cls, layout: Layout) -> "UsualTurns | None":
        """None where the layout asks for more than the turns, or calls roles by other names."""
        if layout.conversation is None or layout != Layout(layout.name, conversation=layout.conversation):
            return None
        return cls(layout.conversation)

    def read(self, line: bytes) -> list[Turn] | None:
        """The turns, where the assistant says something; None where one has to look closely."""
        try:
            turns: list[Turn] = self._decode(line).turns
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        for turn in reversed(turns):
            if turn.role == "assistant" and turn.content and not turn.content.isspace():
                return turns
        return None
