"""Brings a preferred and a rejected answer, however they are spelt, into two conversations that begin alike."""

from typing import Any, Final

from btmd.data.rows import Message, shared_turns
from btmd.reading.transcripts import spoken_turns
from btmd.reading.turns import Blank, Broken, require_answer, text_of, turns_of

SAME_ANSWER: Final = "the chosen and the rejected answer are the same"
NO_COMMON_PROMPT: Final = "the two answers do not belong to one prompt"


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
    if isinstance(prompt, list) or (isinstance(prompt, dict) and "messages" in prompt):
        return [*turns, *turns_of(prompt, "prompt")]
    asked = text_of(prompt, "prompt")
    if not asked.strip():
        raise Blank
    spoken = spoken_turns(asked)
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
    spoken = spoken_turns(said)
    if spoken is not None and any(turn["role"] == "user" for turn in spoken):
        return spoken
    is_answer = spoken is not None and [turn["role"] for turn in spoken] == ["assistant"]
    answer = spoken[0]["content"] if spoken is not None and is_answer else said.strip()
    return _with_prompt(before, [{"role": "assistant", "content": answer}])


def _with_prompt(before: list[Message], answer: list[Message]) -> list[Message]:
    if not any(turn["role"] == "user" for turn in before):
        raise Broken("there is no prompt: neither a column for it nor a user's turn before the answers")
    return [*before, *answer]
