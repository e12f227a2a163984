"""What the columns of a dataset are for, and how a record becomes a row with that known."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct, field

from btmd.data.rows import Message, Row, Side
from btmd.reading.pairs import pair_of
from btmd.reading.transcripts import transcript_of
from btmd.reading.turns import (
    Blank,
    Broken,
    alternating_turns,
    answer_of,
    needed,
    require_answer,
    spoken_of,
    text_of,
    turns_of,
)

SIDES: Final[dict[str, Side]] = {
    **{name: "train" for name in ("train", "training", "trn")},
    **{name: "held_out" for name in ("held_out", "held-out", "heldout", "holdout", "hold-out", "test", "testing")},
    **{name: "held_out" for name in ("validation", "valid", "val", "eval", "evaluation", "dev")},
}
"""How a side is spelt."""
_FIRST_WINS: Final = frozenset({"0", "a", "model_a", "response_0", "response_a", "first", "left", "-1"})
_SECOND_WINS: Final = frozenset({"1", "b", "model_b", "response_1", "response_b", "second", "right"})


class Grouping(Struct, frozen=True):
    """One message a record: the columns that say which conversation it belongs to, who says it, and when.

    ``parent`` is set where messages form a tree: then ``conversation`` names the tree and ``own_id`` the message.
    """

    conversation: str
    role: str
    content: str
    order: str | None = None
    own_id: str | None = None
    parent: str | None = None

    @property
    def columns_used(self) -> tuple[str, ...]:
        named = (self.conversation, self.role, self.content, self.order, self.own_id, self.parent)
        return tuple(column for column in named if column is not None)


class Layout(Struct, frozen=True):
    """Which column plays which part; the names are as the file has them."""

    name: str
    prompt: str | None = None
    completion: str | None = None
    context: str | None = None
    system: str | None = None
    history: str | None = None
    """Earlier questions and answers, in pairs."""
    text: str | None = None
    conversation: str | None = None
    form: str = "turns"
    """Of ``conversation``: ``turns``, ``alternating`` texts or a ``transcript``."""
    roles: Mapping[str, str] = field(default_factory=dict)
    """What names of roles stand for, besides those that are known; in small letters."""
    chosen: str | None = None
    rejected: str | None = None
    verdict: str | None = None
    """Says which of ``chosen`` (0, A) and ``rejected`` (1, B) really is the better one."""
    first_wins: str = ""
    """A value of ``verdict`` that stands for ``chosen`` although it usually does not."""
    split: str | None = None
    grouping: Grouping | None = None
    """How records are to be put together before rows are made of them."""

    @property
    def kind(self) -> str:
        """``preference``, ``text`` or ``conversation``."""
        return "preference" if self.chosen is not None else "text" if self.text is not None else "conversation"

    @property
    def columns_used(self) -> tuple[str, ...]:
        named = (
            *(self.system, self.history, self.prompt, self.context, self.completion, self.chosen, self.rejected),
            *(self.verdict, self.text, self.conversation if self.grouping is None else None),
            *(self.grouping.columns_used if self.grouping is not None else ()),
            self.split,
        )
        return tuple(column for column in named if column is not None)

    @property
    def columns_as(self) -> dict[str, str]:
        """The columns by what they are for, as a mapping names it."""
        named = {
            **{"system": self.system, "prompt": self.prompt, "context": self.context, "completion": self.completion},
            **{"chosen": self.chosen, "rejected": self.rejected, "text": self.text, "split": self.split},
        }
        if self.grouping is not None:
            named |= {"conversation": self.grouping.conversation, "role": self.grouping.role}
            named |= {"content": self.grouping.content, "order": self.grouping.order}
        else:
            named["conversation"] = self.conversation
        return {role: column for role, column in named.items() if column is not None}

    def row(self, line: int, fields: Mapping[str, Any]) -> Row:
        """Bring one record into the form of a row. Raises Broken or Blank."""
        made: Row = {"line": line}
        if self.conversation is not None:
            made["messages"] = self._conversation(fields, self.conversation)
        elif self.text is not None:
            text = text_of(needed(fields, self.text), self.text)
            if not text.strip():
                raise Blank
            made["text"] = text
        elif self.chosen is not None:
            made["messages"], made["rejected"] = self._sides(fields, self.chosen)
        else:
            made["messages"] = self._pair(fields)
        side = self.side(fields)
        if side is not None:
            made["split"] = side
        return made

    def side(self, fields: Mapping[str, Any]) -> Side | None:
        """The side the record itself names, if it names one that is known."""
        return SIDES.get(str(fields.get(self.split, "")).strip().lower()) if self.split is not None else None

    def _conversation(self, fields: Mapping[str, Any], column: str) -> list[Message]:
        value = needed(fields, column)
        if self.form == "turns":
            turns = turns_of(value, column, self.roles)
        else:
            reader: Callable[[Any, str], list[Message]]
            reader = alternating_turns if self.form == "alternating" else transcript_of
            turns = reader(value, column)
        if self.system is not None and turns and turns[0]["role"] != "system":
            turns = [*self._system(fields), *turns]
        return require_answer(turns)

    def _sides(self, fields: Mapping[str, Any], chosen: str) -> tuple[list[Message], list[Message]]:
        assert self.rejected is not None
        prompt = fields.get(self.prompt) if self.prompt is not None else None
        system = fields.get(self.system) if self.system is not None else None
        sides = needed(fields, chosen), needed(fields, self.rejected)
        if self.verdict is not None and not self._is_first(needed(fields, self.verdict), self.verdict):
            sides = sides[1], sides[0]
        return pair_of(prompt, system, *sides)

    def _is_first(self, verdict: Any, column: str) -> bool:
        said = str(int(verdict) if isinstance(verdict, bool) else verdict).strip().lower()
        if self.first_wins:
            return said == self.first_wins
        if said not in _FIRST_WINS | _SECOND_WINS:
            raise Broken(f"column '{column}' prefers neither answer")
        return said in _FIRST_WINS

    def _pair(self, fields: Mapping[str, Any]) -> list[Message]:
        assert self.prompt is not None
        assert self.completion is not None
        if isinstance(fields.get(self.prompt), list):
            asked, answered = (turns_of(needed(fields, column), column) for column in (self.prompt, self.completion))
            return require_answer([*self._system(fields), *asked, *answered])
        prompt = text_of(needed(fields, self.prompt), self.prompt).strip()
        completion = answer_of(needed(fields, self.completion), self.completion).strip()
        if not prompt or not completion:
            raise Blank
        if self.context is not None and fields.get(self.context) is not None:
            context = text_of(fields[self.context], self.context).strip()
            prompt = f"{prompt}\n\n{context}" if context else prompt
        before: list[Message] = []
        if self.history is not None and fields.get(self.history):
            before = turns_of(fields[self.history], self.history)
        return [
            *self._system(fields),
            *before,
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": completion},
        ]

    def _system(self, fields: Mapping[str, Any]) -> list[Message]:
        if self.system is None or fields.get(self.system) is None:
            return []
        system = spoken_of(fields[self.system], self.system).strip()
        return [{"role": "system", "content": system}] if system else []
