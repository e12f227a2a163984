"""Token after token, from anything that gives the next logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor


def generate_tokens(
    next_logits: Callable[[list[int]], Tensor],
    prompt_ids: list[int],
    *,
    max_new_tokens: int,
    eos_ids: set[int],
    temperature: float,
    seed: int,
) -> Iterator[int]:
    """Feed the prompt, then each token taken, to ``next_logits``; end before an end mark or after the limit.

    ``temperature`` 0 takes the likeliest token. Draws come from a generator of their own, so a training run's
    random state is not touched.
    """
    if not prompt_ids:
        raise ValueError("a prompt needs at least one token")
    draws = torch.Generator().manual_seed(seed)
    given = list(prompt_ids)
    for _ in range(max_new_tokens):
        logits = next_logits(given).float().cpu()
        if temperature > 0:
            chances = torch.softmax(logits / temperature, dim=-1)
            token = int(torch.multinomial(chances, 1, generator=draws))
        else:
            token = int(logits.argmax())
        if token in eos_ids:
            return
        yield token
        given = [token]


def likeliest_answers(
    next_logits: Callable[[list[list[int]]], Tensor],
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: Sequence[int],
    eos_ids: set[int],
    between: Callable[[], None],
) -> list[list[int]]:
    """The likeliest token each time, for all prompts at once; each ends before an end mark or after its own limit.

    What has ended goes on with the others unheard: a batch that shrank would be another shape each time.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    open_ones = {place for place, limit in enumerate(max_new_tokens) if limit > 0}
    given = [list(prompt) for prompt in prompts]
    while open_ones:
        between()
        tokens = next_logits(given).argmax(dim=-1).tolist()
        for place in tuple(open_ones):
            if tokens[place] in eos_ids:
                open_ones.discard(place)
                continue
            answers[place].append(tokens[place])
            if len(answers[place]) >= max_new_tokens[place]:
                open_ones.discard(place)
        given = [[token] for token in tokens]
    return answers
