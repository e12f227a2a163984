"""Reads conversations that are kept as one text: transcripts, and texts in which a chat template's marks stand."""

import re
from collections.abc import Callable
from typing import Any, Final

from btmd.data.rows import Message
from btmd.reading.turns import ROLES, Blank, Broken, text_of

_SPOKEN: Final = re.compile(r"(?:^|\n)[ \t]*(Human|User|Assistant|System):[ \t]*")
_HEADED: Final = re.compile(r"###[ \t]*(Human|User|Assistant|System|Instruction|Input|Response)[ \t]*:[ \t]*")
_ANGLED: Final = re.compile(r"<(human|bot|user|assistant|system)>:[ \t]*")
_BARRED: Final = re.compile(r"<\|(system|user|assistant)\|>[ \t]*\n?")
_CHATML: Final = re.compile(r"<\|im_start\|>(\w{1,20})\n(.*?)(?:<\|im_end\|>|\Z)", re.DOTALL)
_LLAMA_3: Final = re.compile(
    r"<\|start_header_id\|>(\w{1,20})<\|end_header_id\|>\n*(.*?)(?:<\|eot_id\|>|<\|end_of_text\|>|\Z)", re.DOTALL
)
_LLAMA_2_SYSTEM: Final = re.compile(r"\s*<<SYS>>(.*?)<</SYS>>(.*)", re.DOTALL)
_ENDS: Final = ("</s>", "<|endoftext|>", "<|end|>", "<|im_end|>", "<eos>")
_SPEAKERS: Final = {"input": "user"}


def spoken_turns(text: str) -> list[Message] | None:
    """The turns of a transcript that names its speakers from its beginning on; None for any other text.

    A prompt often ends with the mark after which the answer comes; that is no turn.
    """
    return _marked(text, _SPOKEN)


def transcript_of(value: Any, column: str) -> list[Message]:
    """The turns of a conversation kept as one text. Raises Broken or Blank."""
    text = text_of(value, column)
    if not text.strip():
        raise Blank
    turns = recognised_turns(text)
    if turns is None:
        raise Broken(f"column '{column}' is not a conversation with marks between its turns")
    return turns


def recognised_turns(text: str) -> list[Message] | None:
    """The turns of a text with both sides of a conversation in it, whichever marks it has; None for any other text."""
    for read in _READERS:
        turns = read(text)
        if turns is not None and {"user", "assistant"} <= {turn["role"] for turn in turns}:
            return turns
    return None


def _marked(text: str, marks_of: re.Pattern[str], *, may_begin_otherwise: bool = False) -> list[Message] | None:
    marks = list(marks_of.finditer(text))
    before = text[: marks[0].start()].strip() if marks else ""
    if not marks or (before and not may_begin_otherwise):
        return None
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    turns: list[Message] = [{"role": "system", "content": before}] if before else []
    for mark, end in zip(marks, ends, strict=True):
        name = mark.group(1).lower()
        role, content = _SPEAKERS.get(name) or ROLES[name], _unended(text[mark.end() : end])
        if name == "input" and turns and turns[-1]["role"] == "user":
            turns[-1]["content"] = f"{turns[-1]['content']}\n\n{content}".strip()
        else:
            turns.append({"role": role, "content": content})
    return turns[:-1] if turns[-1]["role"] == "assistant" and not turns[-1]["content"] else turns


def _headed(text: str) -> list[Message] | None:
    return _marked(text, _HEADED, may_begin_otherwise="### Instruction" in text)


def _enclosed(text: str, turn_of: re.Pattern[str]) -> list[Message] | None:
    turns: list[Message] = []
    for found in turn_of.finditer(text):
        role = ROLES.get(found.group(1).lower())
        if role is None:
            return None
        turns.append({"role": role, "content": found.group(2).strip()})
    if turns and turns[-1]["role"] == "assistant" and not turns[-1]["content"]:
        turns.pop()
    return turns or None


def _llama_2(text: str) -> list[Message] | None:
    begin, *pieces = text.split("[INST]")
    if begin.strip() not in ("", "<s>"):
        return None
    turns: list[Message] = []
    for piece in pieces:
        asked, closed, answered = piece.partition("[/INST]")
        if not closed:
            return None
        system = _LLAMA_2_SYSTEM.match(asked)
        if system is not None:
            turns.append({"role": "system", "content": system.group(1).strip()})
            asked = system.group(2)
        turns.append({"role": "user", "content": asked.strip()})
        turns.append({"role": "assistant", "content": _unended(answered.strip().removesuffix("<s>"))})
    return turns or None


def _unended(text: str) -> str:
    text = text.strip()
    while text.endswith(_ENDS):
        text = text[: text.rindex("<")].rstrip()
    return text


_READERS: Final[tuple[Callable[[str], list[Message] | None], ...]] = (
    lambda text: _enclosed(text, _CHATML) if text.lstrip().startswith("<|im_start|>") else None,
    lambda text: _enclosed(text, _LLAMA_3) if "<|start_header_id|>" in text[:200] else None,
    _llama_2,
    lambda text: _marked(text, _BARRED),
    lambda text: _marked(text, _ANGLED),
    _headed,
    lambda text: _marked(text, _SPOKEN),
)
