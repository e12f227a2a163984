from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from btmd.errors import Conflict
from tests.fixtures.tiny_model import make_tiny_llama
from tests.trainer.model.models import fused, plain, scatter

PROMPT = [5, 9, 300, 17, 2, 44, 44, 301, 8, 12, 99, 120, 7, 3, 250, 251, 252]


def answer(model: Any, **options: Any) -> list[int]:
    settings: dict[str, Any] = {"max_new_tokens": 24, "eos_ids": set(), **options}
    return list(model.generate(PROMPT, **settings))


def test_both_implementations_answer_alike_with_and_without_adapter(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path / "model")
    ours, theirs = fused(folder), plain(folder)
    scatter(ours)
    scatter(theirs)
    assert answer(ours) == answer(theirs)
    assert answer(ours, base=True) == answer(theirs, base=True)
    assert answer(ours) != answer(ours, base=True)
    assert len(answer(ours)) == 24


def test_the_answer_is_that_of_the_transformers_model(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = make_tiny_llama(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(folder)
    expected = list(PROMPT)
    with torch.no_grad():
        for _ in range(24):
            expected.append(int(model(input_ids=torch.tensor([expected])).logits[0, -1].argmax()))
    assert answer(fused(folder), base=True) == expected[len(PROMPT) :]


@pytest.mark.parametrize("make", [fused, plain])
def test_draws_come_from_the_seed_and_the_end_mark_is_left_out(tmp_path: Path, make: Any) -> None:
    model = make(make_tiny_llama(tmp_path / "model"))
    drawn = answer(model, temperature=1.5, seed=3)
    assert drawn == answer(model, temperature=1.5, seed=3) != answer(model, temperature=1.5, seed=4)
    assert answer(model, temperature=1.5, seed=3, eos_ids={drawn[6]}) == drawn[: drawn.index(drawn[6])]


@pytest.mark.parametrize("make", [fused, plain])
def test_a_full_fine_tune_has_no_base_to_ask(tmp_path: Path, make: Any) -> None:
    model = make(make_tiny_llama(tmp_path / "model"), "fine_tuning")
    with pytest.raises(Conflict):
        answer(model, base=True)


@pytest.mark.parametrize("make", [fused, plain])
def test_training_may_go_on_between_two_tokens(tmp_path: Path, make: Any) -> None:
    model = make(make_tiny_llama(tmp_path / "model"))
    tokens = model.generate(PROMPT, max_new_tokens=3, eos_ids=set())
    next(tokens)
    loss: Any = model.loss_sum(_batch())
    loss.backward()
    assert len(list(tokens)) == 2
    assert model.trainable_parameters()[1].grad.norm() > 0


def _batch() -> Any:
    from tests.trainer.model.models import rows

    return rows(30)


PROMPTS = [PROMPT, PROMPT[3:6], [7], PROMPT * 3, PROMPT[::-1]]


@pytest.mark.parametrize("make", [fused, plain])
@pytest.mark.parametrize("base", [False, True])
def test_prompts_answered_together_get_the_answers_they_get_alone(tmp_path: Path, make: Any, base: bool) -> None:
    model = make(make_tiny_llama(tmp_path / "model"))
    scatter(model)
    limits = [24, 3, 40, 9, 1]
    alone = [
        list(model.generate(prompt, max_new_tokens=limit, eos_ids=set(), base=base))
        for prompt, limit in zip(PROMPTS, limits, strict=True)
    ]
    together = model.answer_all(PROMPTS, max_new_tokens=limits, eos_ids=set(), base=base)
    assert together == alone
    end = alone[0][5]
    ended = model.answer_all(PROMPTS, max_new_tokens=limits, eos_ids={end}, base=base)
    assert ended == [ids[: ids.index(end)] if end in ids else ids for ids in alone]


def test_whoever_waits_for_answers_may_leave_between_two_tokens(tmp_path: Path) -> None:
    model = fused(make_tiny_llama(tmp_path / "model"))
    looks = iter([None, None, KeyboardInterrupt()])

    def leave() -> None:
        if (error := next(looks)) is not None:
            raise error

    with pytest.raises(KeyboardInterrupt):
        model.answer_all(PROMPTS, max_new_tokens=[9] * 5, eos_ids=set(), between=leave)
