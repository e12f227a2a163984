"""Reads what stands in a record's fields: texts, and lists of turns in their several spellings."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from btmd.data.rows import Message

_PLAIN_ROLES: Final = ("user", "assistant", "system")
ROLES: Final = {
    **dict.fromkeys(("system", "developer", "context", "instructions"), "system"),
    **dict.fromkeys(("user", "human", "prompter", "question", "instruction", "person", "inbound", "incoming"), "user"),
    **dict.fromkeys(("customer", "client", "caller", "buyer", "requester", "end-user", "end_user", "enduser"), "user"),
    **dict.fromkeys(("visitor", "guest", "patient", "student", "kunde", "kundin", "nutzer", "benutzer"), "user"),
    **dict.fromkeys(("anrufer", "utilisateur", "usuario", "utente", "cliente", "<human>", "usr"), "user"),
    **dict.fromkeys(
        ("assistant", "gpt", "model", "bot", "chatbot", "chatgpt", "ai", "answer", "response"), "assistant"
    ),
    **dict.fromkeys(("agent", "support", "operator", "representative", "rep", "helpdesk", "advisor"), "assistant"),
    **dict.fromkeys(("staff", "employee", "mitarbeiter", "berater", "outbound", "outgoing", "<bot>"), "assistant"),
    **dict.fromkeys(("assistent", "asistente", "bing", "bard", "claude", "function_call", "llm"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "function_response", "tool_response", "ipython"), "tool"),
}
DROPPED: Final = "drop"
"""What a role may be called by the person who adds the data: its turns are left out."""
FIRST, OTHERS = "@first", "@others"
"""Instead of a role's name: whoever speaks first in a conversation, and everybody who has no other role."""

_ROLE_FIELDS: Final = ("role", "from", "speaker", "sender", "author", "name", "user_type")
_CONTENT_FIELDS: Final = ("content", "value", "text", "message", "body", "utterance", "parts")
_ASKED_FIELDS: Final = ("user", "human", "question", "instruction", "prompt", "input", "query", "q")
_ANSWERED_FIELDS: Final = ("assistant", "bot", "gpt", "answer", "output", "response", "completion", "a")
_TEXT_PARTS: Final = (None, "text", "input_text", "output_text")

Roles = Mapping[str, str]


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


def answer_of(value: Any, column: str) -> str:
    """An answer as text; of several that are given as equally right, the first. Raises Broken or Blank."""
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        value = value["text"]
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        if not value:
            raise Blank
        value = value[0]
    return text_of(value, column)


def spoken_of(value: Any, column: str) -> str:
    """What is said in a field, be it a text or in parts. Raises Broken."""
    if isinstance(value, dict | list):
        return _content(value if isinstance(value, dict) else {"content": value})
    return text_of(value, column)


def role_of(name: Any, roles: Roles) -> str | None:
    """``system``, ``user``, ``assistant``, ``tool`` or ``drop`` for a role's name; ``roles`` go first."""
    plain = str(name).strip().lower() if isinstance(name, str | int) else ""
    return roles.get(plain) or ROLES.get(plain)


def turns_of(turns: Any, column: str, roles: Roles | None = None) -> list[Message]:
    """A list of turns, each with a known role. Raises Broken, or Blank for none."""
    if isinstance(turns, str):
        turns = _written_out(turns)
    if isinstance(turns, dict) and isinstance(turns.get("messages"), list):
        turns = turns["messages"]
    if not isinstance(turns, list):
        raise Broken(f"column '{column}' is not a list of turns")
    if not turns:
        raise Blank
    named = roles or {}
    if not named and (plain := _plain_turns(turns)) is not None:
        return plain
    if FIRST in named or OTHERS in named:
        named = _by_place(turns, named)
    messages: list[Message] = []
    for turn in turns:
        if isinstance(turn, list):
            messages += _asked_and_answered(turn, column)
        elif not isinstance(turn, dict):
            raise Broken(f"a turn in '{column}' is not an object")
        else:
            messages += _turn(turn, named)
    return messages


def _plain_turns(turns: list[Any]) -> list[Message] | None:
    """Turns of the usual form, as most are; None where one is otherwise. A tenth of the time of looking closely."""
    in_order = True
    try:
        for turn in turns:
            if type(turn) is not dict or len(turn) != 2 or type(turn["content"]) is not str:
                return None
            if turn["role"] not in _PLAIN_ROLES:
                return None
            in_order = in_order and next(iter(turn)) == "role"
    except KeyError:
        return None
    return turns if in_order else [{"role": turn["role"], "content": turn["content"]} for turn in turns]


def alternating_turns(turns: Any, column: str) -> list[Message]:
    """A list of texts that the user and the assistant say in turn, the user first. Raises Broken or Blank."""
    if not isinstance(turns, list) or not all(isinstance(turn, str) for turn in turns):
        raise Broken(f"column '{column}' is not a list of texts")
    if not turns:
        raise Blank
    return [
        {"role": "assistant" if number % 2 else "user", "content": text.strip()} for number, text in enumerate(turns)
    ]


def role_field(turn: Mapping[str, Any]) -> Any:
    """The name of the role as a turn has it; None without one."""
    return next((turn[field] for field in _ROLE_FIELDS if turn.get(field) is not None), None)


def pair_fields(turn: Mapping[str, Any]) -> tuple[str, str] | None:
    """The two fields of a turn that holds both what was asked and the answer."""
    asked = next((field for field in _ASKED_FIELDS if field in turn), None)
    answered = next((field for field in _ANSWERED_FIELDS if field in turn), None)
    return (asked, answered) if asked is not None and answered is not None else None


def _by_place(turns: Sequence[Any], roles: Roles) -> Roles:
    """Roles by who speaks first, spelt out for one conversation."""
    spelt = {name: role for name, role in roles.items() if name not in (FIRST, OTHERS)}
    names = [str(role_field(turn)).strip().lower() for turn in turns if isinstance(turn, dict)]
    opener = next((name for name in names if name not in spelt), None) if FIRST in roles else None
    for name in names:
        if name not in spelt:
            spelt[name] = roles[FIRST] if name == opener else roles.get(OTHERS, "")
    return {name: role for name, role in spelt.items() if role}


def _turn(turn: Mapping[str, Any], roles: Roles) -> list[Message]:
    role = role_field(turn)
    if role is None:
        fields = pair_fields(turn)
        if fields is None:
            raise Broken("a turn has no role")
        asked, answered = (text_of(turn[field], field).strip() for field in fields)
        before: list[Message] = []
        if isinstance(turn.get("system"), str) and turn["system"].strip():
            before.append({"role": "system", "content": turn["system"].strip()})
        return [*before, {"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    known = role_of(role, roles)
    if known is None:
        raise Broken("a turn has an unknown role")
    if known == DROPPED:
        return []
    content = _content(turn)
    return [{"role": known, "content": _in_marks(content) if role == "function_call" else content}]


def _asked_and_answered(turn: list[Any], column: str) -> list[Message]:
    if len(turn) != 2 or not all(isinstance(text, str) for text in turn):
        raise Broken(f"a turn in '{column}' is not an object")
    return [{"role": "user", "content": turn[0]}, {"role": "assistant", "content": turn[1]}]


def _written_out(text: str) -> Any:
    """A list that was exported as text, as spreadsheets and tables keep it; any other text as it is."""
    if not text.lstrip().startswith("["):
        return text
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return text


def require_answer(messages: list[Message]) -> list[Message]:
    """The same turns. Raises Broken where the assistant has none of them, Blank where it says nothing."""
    answers = False
    for message in messages:
        if message["role"] == "assistant":
            answers = True
            if message["content"] and not message["content"].isspace():
                return messages
    if not answers:
        raise Broken("no answer: no turn is the assistant's")
    raise Blank


def _content(turn: Mapping[str, Any]) -> str:
    content = next((turn[field] for field in _CONTENT_FIELDS if turn.get(field) is not None), None)
    called = turn.get("tool_calls") or turn.get("function_call")
    if called:
        return _with_calls(content, called)
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_part(part) for part in content)
    raise Broken("a turn has no content" if content is None else "a turn's content is not text")


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict):
        text = part.get("text")
        if part.get("type") in _TEXT_PARTS and isinstance(text, str):
            return text
        if part.get("type") not in _TEXT_PARTS:
            raise Broken("a turn holds something besides text, a picture say")
    raise Broken("a turn's content is not text")


def _with_calls(content: Any, called: Any) -> str:
    """The text with the calls of tools behind it, in the marks that most chat templates write around them."""
    said = content if isinstance(content, str) else ""
    calls = called if isinstance(called, list) else [called]
    written = []
    for call in calls:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise Broken("a call of a tool has no name")
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            try:
                arguments = msgspec.json.decode(arguments)
            except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
                raise Broken("the arguments of a tool's call are not JSON") from None
        try:
            written.append(_in_marks(msgspec.json.encode({"name": function["name"], "arguments": arguments}).decode()))
        except RecursionError:
            raise Broken("nested too deeply") from None
    return "\n".join([*([said] if said.strip() else []), *written])


def _in_marks(call_json: str) -> str:
    return f"<tool_call>\n{call_json}\n</tool_call>"
