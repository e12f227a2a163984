"""Our AdamW takes exactly the steps of torch's."""

import subprocess
import sys

import pytest
import torch

from btmd.errors import Damaged
from btmd.trainer.optimizer import AdamW


def make_parameters() -> list[torch.nn.Parameter]:
    draws = torch.Generator().manual_seed(1)
    return [torch.nn.Parameter(torch.randn(shape, generator=draws)) for shape in ((5, 3), (7,), (2, 2, 2))]


def give_gradients(parameters: list[torch.nn.Parameter], step: int) -> None:
    draws = torch.Generator().manual_seed(100 + step)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=draws)


def test_each_step_equals_torchs_own() -> None:
    ours, theirs = make_parameters(), make_parameters()
    optimizer = AdamW(ours, weight_decay=0.1)
    reference = torch.optim.AdamW(
        [{"params": [theirs[0], theirs[2]], "weight_decay": 0.1}, {"params": [theirs[1]], "weight_decay": 0.0}],
        fused=True,
    )
    for step in range(6):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        optimizer.step(0.01 / (step + 1))
        for group in reference.param_groups:
            group["lr"] = 0.01 / (step + 1)
        reference.step()
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_a_parameter_without_a_gradient_stays() -> None:
    parameters = make_parameters()
    before = parameters[1].detach().clone()
    give_gradients(parameters, 0)
    parameters[1].grad = None
    optimizer = AdamW(parameters, weight_decay=0.1)
    optimizer.step(0.1)
    assert torch.equal(parameters[1], before)
    assert optimizer.state_tensors()["step.00001"].item() == 0


def test_taken_back_state_goes_on_exactly() -> None:
    parameters, again = make_parameters(), make_parameters()
    optimizer, second = AdamW(parameters, weight_decay=0.1), AdamW(again, weight_decay=0.1)
    give_gradients(parameters, 0)
    optimizer.step(0.01)
    second.load_state_tensors({name: tensor.clone() for name, tensor in optimizer.state_tensors().items()})
    with torch.no_grad():
        for one, other in zip(again, parameters, strict=True):
            one.copy_(other)
    for each, held in ((optimizer, parameters), (second, again)):
        give_gradients(held, 1)
        each.step(0.01)
    assert all(torch.equal(one, other) for one, other in zip(parameters, again, strict=True))


def test_a_state_of_another_model_is_refused_before_anything_changes() -> None:
    optimizer = AdamW(make_parameters(), weight_decay=0.0)
    other = AdamW(make_parameters()[:2], weight_decay=0.0)
    with pytest.raises(Damaged):
        optimizer.load_state_tensors(other.state_tensors())


def test_it_does_not_import_torchs_compiler() -> None:
    code = (
        "import sys, torch; from btmd.trainer.optimizer import AdamW;"
        "p = torch.nn.Parameter(torch.ones(2, 2)); p.grad = torch.ones(2, 2);"
        "AdamW([p], weight_decay=0.1).step(0.1); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
