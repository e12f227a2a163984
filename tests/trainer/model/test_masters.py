from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from btmd.errors import Damaged
from btmd.trainer.model.masters import Masters
from tests.fixtures.tiny_model import make_tiny_llama
from tests.trainer.model.models import fused, plain, rows


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}, {"foreach": False}])
def test_weights_follow_whatever_way_an_optimizer_changes_the_masters(options: dict[str, bool]) -> None:
    master = nn.Parameter(torch.randn(32, 16))
    weight = torch.zeros(32, 16, dtype=torch.bfloat16)
    masters = Masters({"w": master})
    masters.add_follower("w", weight)
    assert masters.follow()
    assert not masters.follow()
    optimizer = torch.optim.AdamW([master], lr=0.1, **options)
    master.grad = torch.randn_like(master)
    optimizer.step()
    assert masters.follow()
    assert torch.equal(weight, master.detach().bfloat16())


def test_a_change_past_autograd_is_noticed() -> None:
    master = nn.Parameter(torch.randn(32, 16))
    masters = Masters({"w": master})
    weight = torch.zeros(32, 16, dtype=torch.bfloat16)
    masters.add_follower("w", weight)
    masters.follow()
    master.data.mul_(1.5)
    assert masters.follow()
    assert torch.equal(weight, master.detach().bfloat16())


def test_fp32_weights_are_their_own_masters() -> None:
    master = nn.Parameter(torch.randn(8, 4))
    weight = torch.zeros(8, 4)
    Masters({"w": master}).add_follower("w", weight)
    with torch.no_grad():
        master.add_(1.0)
    assert torch.equal(weight, master.detach())


def test_steps_too_small_for_bf16_add_up(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path / "model", dtype="bfloat16")
    for make in (fused, plain):
        model = make(folder, "fine_tuning", precision="bf16")
        optimizer = torch.optim.SGD(model.trainable_parameters(), lr=1e-4)
        before = {name: tensor.clone() for name, tensor in model.state_tensors().items()}
        for _ in range(3):
            loss: Any = model.loss_sum(rows(40)) / 24
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        for name, tensor in model.state_tensors().items():
            assert tensor.dtype == torch.float32
            assert not torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("make", [fused, plain])
def test_state_of_another_model_is_refused_before_anything_changes(tmp_path: Path, make: Any) -> None:
    model = make(make_tiny_llama(tmp_path / "model"))
    state = {name: torch.ones_like(tensor) for name, tensor in model.state_tensors().items()}
    name = next(iter(state))
    with pytest.raises(Damaged, match="shape"):
        model.load_state_tensors({**state, name: torch.ones(3)})
    with pytest.raises(Damaged, match="differs"):
        model.load_state_tensors({key: tensor for key, tensor in state.items() if key != name})
    assert not torch.equal(model.state_tensors()[name], state[name])
    model.load_state_tensors(state)
    assert torch.equal(model.state_tensors()[name], state[name])
