"""Reads what stands in a record's fields: texts, and lists of turns in their several spellings."""

from collections.abc import Mapping
from typing import Any, Final

from btmd.data.rows import Message

ROLES: Final = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "customer": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "chatgpt": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}


class Broken(Exception):
    """A record cannot become a row; ``reason`` names columns, never contents."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Blank(Exception):
    """A record has nothing in a place that matters."""


def needed(fields: Mapping[str, Any], column: str) -> Any:
    """The field's value. Raises Broken without the column, Blank without a value."""
    if column not in fields:
        raise Broken(f"no column '{column}'")
    if fields[column] is None:
        raise Blank
    return fields[column]


def text_of(value: Any, column: str) -> str:
    """The value as text, numbers too. Raises Broken."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise Broken(f"column '{column}' is not text")


def turns_of(turns: Any, column: str) -> list[Message]:
    """A list of turns, each with a known role. Raises Broken, or Blank for none."""
    if not isinstance(turns, list):
        raise Broken(f"column '{column}' is not a list of turns")
    if not turns:
        raise Blank
    messages: list[Message] = []
    for turn in turns:
        if not isinstance(turn, dict):
            raise Broken(f"a turn in '{column}' is not an object")
        role = turn.get("role", turn.get("from"))
        known = ROLES.get(role.strip().lower()) if isinstance(role, str) else None
        if known is None:
            raise Broken("a turn has no role" if role is None else "a turn has an unknown role")
        messages.append({"role": known, "content": _content(turn)})
    return messages


def require_answer(messages: list[Message]) -> list[Message]:
    """The same turns. Raises Broken where the assistant has none of them, Blank where it says nothing."""
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    if not answers:
        raise Broken("no answer: no turn is the assistant's")
    if not any(answer.strip() for answer in answers):
        raise Blank
    return messages


def _content(turn: Mapping[str, Any]) -> str:
    content = turn.get("content", turn.get("value"))
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        if len(parts) == len(content) and all(isinstance(part, str) for part in parts):
            return "".join(str(part) for part in parts)
    raise Broken("a turn has no content" if content is None else "a turn's content is not text")
