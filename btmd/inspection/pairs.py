"""Brings a preferred and a rejected answer, however they are spelt, into two conversations that begin alike."""

import re
from typing import Any, Final

from btmd.data.rows import Message, shared_turns
from btmd.inspection.turns import Blank, Broken, require_answer, text_of, turns_of

SAME_ANSWER: Final = "the chosen and the rejected answer are the same"
NO_COMMON_PROMPT: Final = "the two answers do not belong to one prompt"
# Transcripts of people's preferences are often kept as one text with these marks.
_SPOKEN: Final = re.compile(r"(?:^|\n)\s*(Human|User|Assistant|System):[ \t]*")
_SPEAKERS: Final = {"Human": "user", "User": "user", "Assistant": "assistant", "System": "system"}


def pair_of(prompt: Any, system: Any, chosen: Any, rejected: Any) -> tuple[list[Message], list[Message]]:
    """The conversation with the chosen answer and the one with the rejected answer.

    Each side is a text, a turn, or a list of turns; the latter either the whole conversation or what follows
    ``prompt``, itself a text or a list of turns. Raises Broken or Blank.
    """
    before = _prompt_turns(prompt, system)
    sides = [_side(side, column, before) for side, column in ((chosen, "chosen"), (rejected, "rejected"))]
    better, worse = sides
    # The roles first: an answer that is only white space is an empty row and not a broken one.
    for side in sides:
        require_answer(side)
    if [turn["content"].strip() for turn in better] == [turn["content"].strip() for turn in worse]:
        raise Broken(SAME_ANSWER)
    shared = shared_turns(better, worse)
    for side in sides:
        answers = [turn["content"] for turn in side[shared:] if turn["role"] == "assistant"]
        if not answers or not any(answer.strip() for answer in answers):
            raise Blank
        if side[shared]["role"] != "assistant":
            raise Broken(NO_COMMON_PROMPT)
    return better, worse


def _prompt_turns(prompt: Any, system: Any) -> list[Message]:
    turns: list[Message] = []
    if isinstance(system, str) and system.strip():
        turns.append({"role": "system", "content": system.strip()})
    if prompt is None:
        return turns
    if isinstance(prompt, list):
        return [*turns, *turns_of(prompt, "prompt")]
    asked = text_of(prompt, "prompt")
    if not asked.strip():
        raise Blank
    spoken = _spoken(asked)
    if spoken is not None and any(turn["role"] == "user" for turn in spoken):
        return [*turns, *spoken]
    return [*turns, {"role": "user", "content": asked.strip()}]


def _side(side: Any, column: str, before: list[Message]) -> list[Message]:
    if isinstance(side, dict):
        side = [side]
    if isinstance(side, list):
        turns = turns_of(side, column)
        is_whole = any(turn["role"] in ("user", "system") for turn in turns)
        has_system = turns[0]["role"] == "system"
        system = [turn for turn in before if turn["role"] == "system" and not has_system]
        return _with_prompt(before, turns) if not is_whole else [*system, *turns]
    said = text_of(side, column)
    if not said.strip():
        raise Blank
    spoken = _spoken(said)
    if spoken is not None and any(turn["role"] == "user" for turn in spoken):
        return spoken
    is_answer = spoken is not None and [turn["role"] for turn in spoken] == ["assistant"]
    answer = spoken[0]["content"] if spoken is not None and is_answer else said.strip()
    return _with_prompt(before, [{"role": "assistant", "content": answer}])


def _with_prompt(before: list[Message], answer: list[Message]) -> list[Message]:
    if not any(turn["role"] == "user" for turn in before):
        raise Broken("there is no prompt: neither a column for it nor a user's turn before the answers")
    return [*before, *answer]


def _spoken(text: str) -> list[Message] | None:
    """The turns of a transcript that names its speakers from its beginning on; None for any other text."""
    marks = list(_SPOKEN.finditer(text))
    if not marks or text[: marks[0].start()].strip():
        return None
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    turns: list[Message] = [
        {"role": _SPEAKERS[mark.group(1)], "content": text[mark.end() : end].strip()}
        for mark, end in zip(marks, ends, strict=True)
    ]
    # A prompt often ends with the mark after which the answer comes.
    return turns[:-1] if turns[-1]["role"] == "assistant" and not turns[-1]["content"] else turns
