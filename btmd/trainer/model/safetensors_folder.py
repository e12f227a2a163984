"""Weights of a model folder, one tensor at a time, without a second copy in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from btmd.errors import ModelDamaged, NotAModel


class SafetensorsFolder:
    """All tensors of a folder's ``*.safetensors`` by name; raises NotAModel without any, ModelDamaged when cut."""

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("*.safetensors"))
        if not paths:
            raise NotAModel(f"{folder.name} has no safetensors weights.")
        self._files = ExitStack()
        self._places: dict[str, Any] = {}
        try:
            for path in paths:
                file = self._files.enter_context(safe_open(path, framework="pt"))
                self._places.update(dict.fromkeys(file.keys(), file))
        except (OSError, SafetensorError) as error:
            self._files.close()
            raise ModelDamaged(f"The model's weights cannot be read: {error}.") from error

    def __enter__(self) -> SafetensorsFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor ``name``; raises ModelDamaged when it is missing or of another shape."""
        if name not in self._places:
            raise ModelDamaged(f"The model lacks the weight {name}.")
        tensor: Tensor = self._places[name].get_tensor(name)
        if tuple(tensor.shape) != shape:
            raise ModelDamaged(f"The weight {name} has shape {tuple(tensor.shape)}; config.json says {shape}.")
        return tensor
