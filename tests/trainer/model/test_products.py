from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from btmd.trainer.model import products
from btmd.trainer.model.products import BLOCK, STEP, add_product, multiply, product_over_tokens

LENGTHS = (STEP, BLOCK - STEP, BLOCK, BLOCK + STEP, 3 * BLOCK + 7 * STEP)


class _Shapes(TorchDispatchMode):
    """The number of tokens in each matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if "mm" in func.__name__:
            self.seen.add(args[0].shape[0])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("tokens", LENGTHS)
def test_blocks_give_the_product_of_the_whole(tokens: int) -> None:
    torch.manual_seed(0)
    x, above, weight = torch.randn(tokens, 24), torch.randn(tokens, 8), torch.randn(24, 8)
    torch.testing.assert_close(multiply(x, weight), x @ weight)
    torch.testing.assert_close(add_product(above.clone(), x, weight), above + x @ weight)
    # Summed in another order: fp32 agrees to about 1e-7 of the sum of the absolute values.
    torch.testing.assert_close(product_over_tokens(x, above), x.t() @ above, rtol=1e-4, atol=1e-4)
    out = torch.empty(tokens, 8)
    assert multiply(x, weight, out=out) is out
    torch.testing.assert_close(out, x @ weight)


def test_sums_over_many_tokens_are_fp32() -> None:
    ones = torch.ones(16 * BLOCK, 1, dtype=torch.bfloat16)
    total = product_over_tokens(ones, ones + 2**-7)
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(16 * BLOCK * (1 + 2**-7), rel=2**-8)


def test_any_length_is_made_of_few_shapes() -> None:
    weight = torch.randn(4, 4)
    with _Shapes() as shapes:
        for tokens in range(STEP, 5 * BLOCK, STEP):
            products.multiply(torch.empty(tokens, 4), weight)
    assert shapes.seen == set(range(STEP, BLOCK + 1, STEP))
