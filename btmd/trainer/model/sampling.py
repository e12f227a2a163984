"""Token after token, from anything that gives the next logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

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
