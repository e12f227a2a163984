from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from btmd.trainer.model.workspace import SMALLEST_BLOCK_BYTES, Workspace
from tests.trainer.model.models import CPU


@given(st.lists(st.tuples(st.sampled_from([torch.bfloat16, torch.float32]), st.integers(1, 300)), max_size=20))
def test_tensors_that_are_held_at_once_do_not_touch_each_other(wanted: list[tuple[torch.dtype, int]]) -> None:
    workspace = Workspace(CPU)
    taken = [workspace.take(dtype, length, 3).fill_(number) for number, (dtype, length) in enumerate(wanted)]
    for number, (tensor, (dtype, length)) in enumerate(zip(taken, wanted, strict=True)):
        assert (tensor.dtype, tensor.shape, tensor.is_contiguous()) == (dtype, (length, 3), True)
        assert bool((tensor == number).all())


def test_what_was_borrowed_is_given_out_again_and_what_was_taken_before_is_not() -> None:
    workspace = Workspace(CPU)
    kept = workspace.take(torch.float32, 100)
    with workspace.borrowed():
        borrowed = workspace.take(torch.float32, 100)
    again = workspace.take(torch.float32, 50)
    assert again.data_ptr() == borrowed.data_ptr()
    assert kept.data_ptr() != again.data_ptr()
    workspace.clear()
    assert workspace.like(kept).data_ptr() == kept.data_ptr()


def test_after_the_largest_batch_no_other_needs_more_memory() -> None:
    workspace = Workspace(CPU)
    places = SMALLEST_BLOCK_BYTES // 10 * 3

    def take_batch(size: int) -> set[int]:
        workspace.clear()
        return {workspace.take(torch.uint8, size).untyped_storage().data_ptr() for _ in range(10)}

    largest = take_batch(places)
    assert len(largest) > 1
    for size in (places // 7, places // 2, places - 1, places):
        assert take_batch(size) <= largest


def test_a_tensor_larger_than_a_block_is_whole() -> None:
    workspace = Workspace(CPU)
    workspace.take(torch.uint8, 10)
    large = workspace.take(torch.uint8, SMALLEST_BLOCK_BYTES + 1)
    assert large.numel() == SMALLEST_BLOCK_BYTES + 1
    assert large.untyped_storage().nbytes() >= large.numel()


def test_autograd_holds_a_change_of_one_tensor_against_no_other() -> None:
    workspace = Workspace(CPU)
    one, other = workspace.take(torch.float32, 4).fill_(2.0), workspace.take(torch.float32, 4)
    scale = torch.ones(4, requires_grad=True)
    product = (one * scale).sum()
    other.zero_()
    product.backward()  # type: ignore[no-untyped-call]
    assert scale.grad is not None
    assert scale.grad.tolist() == [2.0] * 4
