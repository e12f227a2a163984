"""What a chat template writes around the turns of a conversation: where answers stand, without rendering beginnings."""

import re
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from btmd.data.rows import Message

_STAND_IN: Final = re.compile("\ue000([0-9]+)\ue001")


def stand_in(index: int) -> str:
    """What stands for the content of a turn: characters for private use, which no template looks for."""
    return f"\ue000{index}\ue001"


class Skeleton(Struct, frozen=True):
    """A rendered conversation of stand-ins, taken apart."""

    frames: tuple[str, ...]
    """What stands before, between and behind the contents."""
    turns: tuple[int, ...]
    """The number of the turn whose content stands between two frames."""
    edges: tuple[tuple[tuple[int, int], tuple[int, int]], ...]
    """Beginning and end of each answer: how many contents stand before it, and how many characters of frames."""

    @classmethod
    def of(cls, text: str, spans: Sequence[tuple[int, int]]) -> "Skeleton | None":
        """Take apart a rendering of stand-ins in which the answers stand at ``spans``; None where one is cut."""
        found = list(_STAND_IN.finditer(text))
        starts = [0, *(match.end() for match in found)]
        ends = [*(match.start() for match in found), len(text)]

        def edge(place: int) -> tuple[int, int] | None:
            if any(match.start() < place < match.end() for match in found):
                return None
            before = [match for match in found if match.end() <= place]
            return len(before), place - sum(len(match.group()) for match in before)

        edges: list[tuple[tuple[int, int], tuple[int, int]]] = []
        for start, end in spans:
            first, last = edge(start), edge(end)
            if first is None or last is None:
                return None
            edges.append((first, last))
        frames = tuple(text[start:end] for start, end in zip(starts, ends, strict=True))
        return cls(frames, tuple(int(match.group(1)) for match in found), tuple(edges))

    def spans(self, messages: Sequence[Message], text: str) -> list[tuple[int, int]] | None:
        """Where the answers of a conversation stand in its rendering; None if that is not this one filled in."""
        lengths = [0]
        at = 0
        for frame, turn in zip(self.frames, self.turns, strict=False):
            content = messages[turn]["content"]
            if not text.startswith(frame, at) or not text.startswith(content, at + len(frame)):
                return None
            at += len(frame) + len(content)
            lengths.append(lengths[-1] + len(content))
        if text[at:] != self.frames[-1]:
            return None
        return [(start + lengths[before], end + lengths[by_then]) for (before, start), (by_then, end) in self.edges]
