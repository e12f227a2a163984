"""fp32 masters beside weights that compute in a shorter format."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from btmd.errors import Damaged

PROBES = 8


class Masters:
    """The fp32 parameters the optimizer changes, and the weights that follow them.

    A bf16 weight has 8 bits of mantissa: a step smaller than 1/256 of it would be lost, so steps are taken
    in fp32. ``follow`` rounds anew only after the masters have changed. Version counters alone do not tell that:
    torch's fused AdamW leaves them as they were, and the model would go on with its first weights. So values at
    PROBES places of every master are compared too; an optimizer's step changes far more than those.
    """

    def __init__(self, masters: dict[str, nn.Parameter]) -> None:
        self._masters = masters
        self._targets: list[Tensor] = []
        self._sources: list[Tensor] = []
        self._probes: list[Tensor] | None = None
        self._seen: tuple[int, Tensor] | None = None

    def __getitem__(self, name: str) -> nn.Parameter:
        return self._masters[name]

    def __contains__(self, name: str) -> bool:
        return name in self._masters

    def follow_from(self, name: str, target: Tensor) -> nn.Parameter:
        """``add_follower``, and the master."""
        self.add_follower(name, target)
        return self._masters[name]

    def add_follower(self, name: str, target: Tensor) -> None:
        """Let ``target`` (any dtype, same shape) hold the rounded value of master ``name``.

        An fp32 target in one piece becomes the master's own memory, and needs no copy ever after.
        """
        master = self._masters[name]
        if target.dtype == torch.float32 and target.is_contiguous() and target.device == master.device:
            target.copy_(master.detach())
            master.data = target
            self._probes = None
            return
        self._sources.append(master)
        self._targets.append(target)
        self._seen = None

    def parameters(self) -> list[nn.Parameter]:
        return list(self._masters.values())

    def tensors(self) -> dict[str, Tensor]:
        return {name: master.detach() for name, master in self._masters.items()}

    def count(self) -> int:
        return sum(master.numel() for master in self._masters.values())

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Copy values in; raises Damaged, before anything changed, when a name or a shape differs."""
        if tensors.keys() != self._masters.keys():
            odd = sorted(tensors.keys() ^ self._masters.keys())
            raise Damaged(f"The saved state has other tensors than this model; the first that differs is {odd[0]}.")
        for name, tensor in tensors.items():
            if tensor.shape != self._masters[name].shape:
                raise Damaged(f"The saved tensor {name} has shape {tuple(tensor.shape)}, not this model's.")
        for name, tensor in tensors.items():
            self._masters[name].copy_(tensor)
        self._seen = None

    @torch.no_grad()
    def follow(self) -> bool:
        """Bring the followers up to date; True if anything was copied."""
        if self._probes is None:
            self._probes = [_spread(master.detach()) for master in self._masters.values()]
        versions = sum(master._version for master in self._masters.values())
        values = torch.cat(self._probes).view(torch.int32)
        if self._seen is not None and self._seen[0] == versions and torch.equal(self._seen[1], values):
            return False
        if self._targets:
            torch._foreach_copy_(self._targets, self._sources)
        self._seen = (versions, values)
        return True


def _spread(master: Tensor) -> Tensor:
    """A view of up to PROBES values of ``master``, evenly spread."""
    return master.view(-1)[:: max(1, master.numel() // PROBES)]
