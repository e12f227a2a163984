"""The Modelfile with which Ollama takes a GGUF file up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from btmd.data.encoding import Encoder
from btmd.data.rows import Message
from btmd.errors import BtmdError

_SYSTEM, _USER, _ANSWER = "\x01sys\x01", "\x01user\x01", "\x01answer\x01"
_SECOND = "\x01again\x01"


class _Turns(Struct, frozen=True):
    """What stands before and after the words of each role, and what is there without a system message."""

    system: tuple[str, str]
    user: tuple[str, str]
    answer: tuple[str, str]
    without_system: str
    begin: str
    asks: str
    """What a prompt ends with, for the model to go on."""


def modelfile(folder: Path, gguf: str, *, system: str, temperature: float, begins_with: str) -> str:
    """The Modelfile beside the file ``gguf`` of the model in ``folder``.

    ``begins_with`` is the text of the mark that is put before everything by itself; empty for none.
    """
    encoder = Encoder.load(folder)
    lines = [f"FROM ./{gguf}", ""]
    turns = _turns(encoder)
    if turns is None:
        lines += ["# Ollama uses the chat template that the GGUF file holds.", ""]
    else:
        lines += [f'TEMPLATE """{_template(turns, begins_with)}"""', ""]
    stops = [encoder.token_texts([one])[0] for one in sorted(encoder.eos_ids)]
    if encoder.template_kind == "plain":
        stops.append("### User:")
    lines += [f"PARAMETER stop {_quoted(one)}" for one in stops if one.strip()]
    lines.append(f"PARAMETER temperature {temperature:g}")
    if system:
        lines += ["", f'SYSTEM """{system.replace(chr(34) * 3, chr(39) * 3)}"""']
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _turns(encoder: Encoder) -> _Turns | None:
    """The template's form, found from what it makes of marked words; None where it is not so plain."""
    try:
        with_system = encoder.render([_turn("system", _SYSTEM), _turn("user", _USER)], add_generation_prompt=True)
        whole = encoder.render([_turn("user", _USER), _turn("assistant", _ANSWER), _turn("user", _SECOND)])
        plain = encoder.render([_turn("user", _USER)])
        asking = encoder.render([_turn("user", _USER)], add_generation_prompt=True)
    except BtmdError:
        return None
    try:
        turns = _taken_apart(encoder, with_system, whole, plain, asking)
    except ValueError:
        return None
    return turns if turns is not None and _can_be_written(turns) else None


def _can_be_written(turns: _Turns) -> bool:
    """Whether no part would end the template or be taken for a command: it is of whoever made the model."""
    parts = (*turns.system, *turns.user, *turns.answer, turns.without_system, turns.begin, turns.asks)
    steers = any(sign in part for part in parts for sign in ('"""', "{{", "}}"))
    return not (steers or any(part.endswith("{") for part in parts) or turns.asks.endswith('"'))


def _taken_apart(encoder: Encoder, with_system: str, whole: str, plain: str, asking: str) -> _Turns | None:
    """Raises ValueError where a mark is not where it is in a plain template."""
    if not asking.startswith(plain):
        return None
    asks = asking[len(plain) :]
    before_user, after_first = _split(plain, _USER)
    # Between the answer and the second question stands what ends the one and begins the other.
    _, rest = _split(whole, _USER)
    between, rest = _split(rest, _ANSWER)
    middle, _ = _split(rest, _SECOND)
    if not between.startswith(after_first):
        return None
    answer_before = between[len(after_first) :]
    user_before = _longest_tail(before_user, middle)
    head, tail = _split(with_system, _SYSTEM)
    system_after, _ = _split(tail, _USER)
    if not user_before or not system_after.endswith(user_before):
        return None
    begin = _longest_start(head, before_user[: len(before_user) - len(user_before)])
    turns = _Turns(
        system=(head[len(begin) :], system_after[: len(system_after) - len(user_before)]),
        user=(user_before, after_first),
        answer=(answer_before, middle[: len(middle) - len(user_before)]),
        without_system=before_user[len(begin) : len(before_user) - len(user_before)],
        begin=begin,
        asks=asks,
    )
    return turns if _reproduces(turns, encoder) else None


def _reproduces(turns: _Turns, encoder: Encoder) -> bool:
    conversations: Sequence[list[Message]] = (
        [_turn("user", "one")],
        [_turn("system", "be brief"), _turn("user", "one"), _turn("assistant", "two"), _turn("user", "three")],
        [_turn("user", "one"), _turn("assistant", "two"), _turn("user", "three")],
    )
    return all(encoder.render(one, add_generation_prompt=True) == _rendered(turns, one) for one in conversations)


def _rendered(turns: _Turns, messages: Sequence[Message]) -> str:
    text = turns.begin
    if messages[0]["role"] != "system":
        text += turns.without_system
    parts = {"system": turns.system, "user": turns.user, "assistant": turns.answer}
    for message in messages:
        before, after = parts[message["role"]]
        text += before + message["content"] + after
    return text + turns.asks


def _template(turns: _Turns, begins_with: str) -> str:
    """In Ollama's language. The mark that llama.cpp sets before everything by itself must not stand there twice."""
    begin = turns.begin.removeprefix(begins_with) if begins_with else turns.begin
    without = "{{ else }}" + turns.without_system if turns.without_system else ""
    return (
        begin
        + "{{ if .System }}" + turns.system[0] + "{{ .System }}" + turns.system[1] + without + "{{ end }}"
        + "{{ range .Messages }}"
        + '{{ if eq .Role "user" }}' + turns.user[0] + "{{ .Content }}" + turns.user[1]
        + '{{ else if eq .Role "assistant" }}' + turns.answer[0] + "{{ .Content }}" + turns.answer[1]
        + "{{ end }}{{ end }}"
        + turns.asks
    )  # fmt: skip


def _turn(role: str, content: str) -> Message:
    return Message(role=role, content=content)


def _split(text: str, mark: str) -> tuple[str, str]:
    before, found, after = text.partition(mark)
    if not found or mark in after:
        raise ValueError(mark)
    return before, after


def _longest_tail(one: str, other: str) -> str:
    """The longest end that both have."""
    for size in range(min(len(one), len(other)), 0, -1):
        if one.endswith(other[-size:]):
            return other[-size:]
    return ""


def _longest_start(one: str, other: str) -> str:
    size = 0
    while size < min(len(one), len(other)) and one[size] == other[size]:
        size += 1
    return one[:size]
