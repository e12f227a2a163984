"""Tells which columns of a dataset are question and answer, and brings every record into the one form of a row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from btmd.data.rows import Message, Row, Side
from btmd.errors import InvalidValue, UnknownLayout
from btmd.inspection.pairs import pair_of
from btmd.inspection.turns import Blank, needed, require_answer, text_of, turns_of

_SIDES: Final[dict[str, Side]] = {
    "train": "train",
    "training": "train",
    "held_out": "held_out",
    "held-out": "held_out",
    "holdout": "held_out",
    "test": "held_out",
    "validation": "held_out",
    "valid": "held_out",
    "val": "held_out",
    "eval": "held_out",
    "evaluation": "held_out",
    "dev": "held_out",
}
# (layout, question column, answer column), in the order in which they are tried.
_PAIRS: Final = (
    ("instruction", "instruction", "output"),
    ("instruction", "instruction", "response"),
    ("instruction", "instruction", "answer"),
    ("prompt_completion", "prompt", "completion"),
    ("prompt_completion", "prompt", "response"),
    ("prompt_completion", "prompt", "answer"),
    ("question_answer", "question", "answer"),
    ("question_answer", "question", "response"),
    ("question_answer", "query", "response"),
    ("question_answer", "query", "answer"),
    ("question_answer", "user", "assistant"),
    ("question_answer", "input", "output"),
)
_CONTEXT_COLUMNS: Final = ("input", "context")
# Columns with the better and the worse answer, and those with what was asked.
_COMPARED: Final = (("chosen", "rejected"), ("chosen_response", "rejected_response"), ("preferred", "rejected"))
_ASKED: Final = ("prompt", "instruction", "question", "query", "input")
_SUPPORTED_ROLES: Final = ("prompt", "completion", "text", "chosen", "rejected")


@dataclass(frozen=True, slots=True)
class Layout:
    """Which column plays which part; the names are as the file has them."""

    name: str
    prompt: str | None = None
    completion: str | None = None
    context: str | None = None
    system: str | None = None
    text: str | None = None
    conversation: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    split: str | None = None

    @property
    def kind(self) -> str:
        """``preference``, ``text`` or ``conversation``."""
        return "preference" if self.chosen is not None else "text" if self.text is not None else "conversation"

    @property
    def columns_used(self) -> tuple[str, ...]:
        named = (
            *(self.system, self.prompt, self.context, self.completion, self.chosen, self.rejected),
            *(self.text, self.conversation, self.split),
        )
        return tuple(column for column in named if column is not None)

    def row(self, line: int, fields: Mapping[str, Any]) -> Row:
        """Bring one record into the form of a row. Raises Broken or Blank."""
        made: Row = {"line": line}
        if self.conversation is not None:
            made["messages"] = require_answer(turns_of(needed(fields, self.conversation), self.conversation))
        elif self.text is not None:
            text = text_of(needed(fields, self.text), self.text)
            if not text.strip():
                raise Blank
            made["text"] = text
        elif self.chosen is not None:
            assert self.rejected is not None
            prompt = fields.get(self.prompt) if self.prompt is not None else None
            system = fields.get(self.system) if self.system is not None else None
            sides = needed(fields, self.chosen), needed(fields, self.rejected)
            made["messages"], made["rejected"] = pair_of(prompt, system, *sides)
        else:
            made["messages"] = self._pair(fields)
        side = self.side(fields)
        if side is not None:
            made["split"] = side
        return made

    def side(self, fields: Mapping[str, Any]) -> Side | None:
        """The side the record itself names, if it names one that is known."""
        return _SIDES.get(str(fields.get(self.split, "")).strip().lower()) if self.split is not None else None

    def _pair(self, fields: Mapping[str, Any]) -> list[Message]:
        assert self.prompt is not None
        assert self.completion is not None
        prompt = text_of(needed(fields, self.prompt), self.prompt).strip()
        completion = text_of(needed(fields, self.completion), self.completion).strip()
        if not prompt or not completion:
            raise Blank
        if self.context is not None and fields.get(self.context) is not None:
            context = text_of(fields[self.context], self.context).strip()
            prompt = f"{prompt}\n\n{context}" if context else prompt
        messages: list[Message] = []
        if self.system is not None and fields.get(self.system) is not None:
            system = text_of(fields[self.system], self.system).strip()
            messages += [{"role": "system", "content": system}] if system else []
        return [*messages, {"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]


def detect_layout(records: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Layout:
    """Tell the layout from the columns' names, and for lists of turns from what is in them.

    ``records`` are the first records of the file. Raises UnknownLayout.
    """
    by_name = {column.strip().lower(): column for column in columns}
    split = by_name.get("split")
    for chosen, rejected in _COMPARED:
        if chosen in by_name and rejected in by_name:
            prompt = next((by_name[name] for name in _ASKED if name in by_name), None)
            return Layout(
                "preference",
                prompt=prompt,
                system=by_name.get("system"),
                chosen=by_name[chosen],
                rejected=by_name[rejected],
                split=split,
            )
    for name in ("messages", "conversations", "conversation"):
        column = by_name.get(name)
        if column is not None and any(isinstance(record.get(column), list) for record in records):
            layout = "messages" if name == "messages" else "conversations"
            return Layout(layout, conversation=column, split=split)
    for layout, prompt, completion in _PAIRS:
        if prompt in by_name and completion in by_name:
            context = next((by_name[name] for name in _CONTEXT_COLUMNS if name in by_name and name != prompt), None)
            return Layout(
                layout,
                prompt=by_name[prompt],
                completion=by_name[completion],
                context=context,
                system=by_name.get("system"),
                split=split,
            )
    if "text" in by_name:
        return Layout("text", text=by_name["text"], split=split)
    raise _unknown(columns)


def _unknown(columns: Sequence[str]) -> UnknownLayout:
    shown = ", ".join(f"'{column[:40]}'" for column in columns[:20]) or "none"
    if len(columns) == 1:
        return UnknownLayout(
            f"The dataset has a single column, {shown}: a question without an answer cannot be learned from.",
            hint=f"If it is plain text to learn as it stands: --map text={columns[0][:40]}",
        )
    return UnknownLayout(
        f"It cannot be told which columns are question and answer. The columns are: {shown}.",
        hint="Name them: --map prompt=COLUMN --map completion=COLUMN, or --map text=COLUMN",
    )


def mapped_layout(mapping: Mapping[str, str], columns: Sequence[str]) -> Layout:
    """A layout a person named: ``{role: column}``. Raises InvalidValue or UnknownLayout."""
    for role in mapping:
        if role not in _SUPPORTED_ROLES:
            raise InvalidValue(
                f"The role '{role}' cannot be mapped yet.", hint="Possible are: " + ", ".join(_SUPPORTED_ROLES)
            )
    by_name = {column.strip().lower(): column for column in columns}
    for column in mapping.values():
        if column not in columns and column.strip().lower() not in by_name:
            shown = ", ".join(f"'{name[:40]}'" for name in columns[:20])
            raise UnknownLayout(f"There is no column '{column}'. The columns are: {shown}.", hint="Check the spelling.")
    named = {role: column if column in columns else by_name[column.strip().lower()] for role, column in mapping.items()}
    if set(named) == {"text"}:
        return Layout("mapped", text=named["text"], split=by_name.get("split"))
    if set(named) == {"prompt", "completion"}:
        return Layout("mapped", prompt=named["prompt"], completion=named["completion"], split=by_name.get("split"))
    if {"chosen", "rejected"} <= set(named) <= {"prompt", "chosen", "rejected"}:
        return Layout(
            "mapped",
            prompt=named.get("prompt"),
            chosen=named["chosen"],
            rejected=named["rejected"],
            split=by_name.get("split"),
        )
    raise InvalidValue(
        "A mapping needs 'text' alone, both 'prompt' and 'completion', or 'chosen' and 'rejected'.",
        hint="For example: --map prompt=question --map completion=reply",
    )
