"""The tuned model's weights one tensor at a time: the base's, with what the adapter adds to them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from btmd.errors import ModelDamaged
from btmd.inspection.weights import read_headers
from btmd.trainer.model.adapter import PREFIX, read_settings, read_tensors

_LORA = re.compile(rf"{re.escape(PREFIX)}(.+)\.lora_([AB])\.weight")


class TunedWeights:
    """Weights by name, in the order of the files. Holds the adapter and one tensor of the base at a time.

    ``base`` may be a whole tuned model itself, without an adapter. Raises ModelDamaged, NotAModel, Conflict for a form
    of LoRA that is not plain.
    """

    def __init__(self, base: Path, adapter: Path | None) -> None:
        self.folder = base
        self._headers = read_headers(base)
        self._adapter: dict[str, tuple[Tensor, Tensor]] = {}
        self._scale = 0.0
        if adapter is not None:
            self._scale = read_settings(adapter).scale
            self._adapter = _pairs(read_tensors(adapter))
        self._stack = ExitStack()
        self._files: dict[str, Any] = {}

    def __enter__(self) -> TunedWeights:
        for name in self._headers:
            try:
                self._files[name] = self._stack.enter_context(safe_open(self.folder / name, framework="pt"))
            except (OSError, SafetensorError) as error:
                self._stack.close()
                raise ModelDamaged(f"The weights file {name} cannot be read.", hint="Fetch it again.") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape by its name."""
        return {name: one.shape for header in self._headers.values() for name, one in header.tensors.items()}

    @property
    def dtypes(self) -> dict[str, str]:
        """Every tensor's type, as safetensors spells it (``BF16``)."""
        return {name: one.dtype for header in self._headers.values() for name, one in header.tensors.items()}

    def fits(self) -> bool:
        """Whether the adapter's layers are tensors of the files as they stand, so that each can be added to its own."""
        shapes = self.shapes
        return all(
            shapes.get(f"{module}.weight") == (up.shape[0], down.shape[1])
            for module, (down, up) in self._adapter.items()
        ) and (not self._adapter or _model_type(self.folder) != "gpt2")

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for file, header in self._headers.items():
            for name in header.tensors:
                yield name, self._tuned(name, self._files[file].get_tensor(name))

    def read(self, name: str) -> Tensor:
        """One tensor in fp32, the adapter's part added."""
        file = next(file for file, header in self._headers.items() if name in header.tensors)
        return self._tuned(name, self._files[file].get_tensor(name)).float()

    def _tuned(self, name: str, weight: Tensor) -> Tensor:
        pair = self._adapter.get(name.removesuffix(".weight")) if name.endswith(".weight") else None
        if pair is None:
            return weight
        down, up = pair
        # Added in fp32: a small difference is lost in 16 bits before it is rounded once.
        return torch.addmm(weight.float(), up, down, alpha=self._scale)


def _pairs(tensors: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        found = _LORA.fullmatch(name)
        if found is None:
            raise ModelDamaged(f"The adapter has a tensor {name[:80]} that is no part of LoRA.")
        parts.setdefault(found[1], {})[found[2]] = tensor
    lone = [module for module, pair in parts.items() if pair.keys() != {"A", "B"}]
    if lone:
        raise ModelDamaged(f"The adapter lacks half of its part at {lone[0][:80]}.")
    return {module: (pair["A"], pair["B"]) for module, pair in parts.items()}


def _model_type(folder: Path) -> str:
    return str(json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type"))
