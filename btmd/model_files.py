"""Which files of a model's folder are needed to train it, by their names: no others are ever sent or taken."""

import re
from collections.abc import Collection
from typing import Final

from btmd.model_fingerprint import LARGEST_INDEX_BYTES, SLOW_TOKENIZERS

INDEX: Final = "model.safetensors.index.json"
PICKLED_INDEX: Final = "pytorch_model.bin.index.json"
SINGLE: Final = "model.safetensors"
PICKLED_SINGLE: Final = "pytorch_model.bin"
MOST_FILES: Final = 1000
LARGEST_BESIDE_BYTES: Final = 256 * 1024 * 1024
"""Of a file that holds no weights."""

_BESIDE: Final = frozenset(
    {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.jinja",
        "chat_template.json",
        "merges.txt",
        # Where the licence and what the model was converted from are told.
        "README.md",
        "LICENSE",
        "LICENSE.txt",
        "LICENSE.md",
        "conversion.json",
        *SLOW_TOKENIZERS,
    }
)
_PLAIN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,200}")


def is_weights(name: str) -> bool:
    """Whether a file of this name holds weights in safetensors."""
    return _is_plain(name) and name.endswith(".safetensors") and name != "adapter_model.safetensors"


def is_pickled(name: str) -> bool:
    """Whether a file of this name holds pickled weights of the kind that can be converted."""
    return _is_plain(name) and name.endswith(".bin")


def is_gguf(name: str) -> bool:
    """Whether a file of this name is a whole model by itself."""
    return _is_plain(name) and name.lower().endswith(".gguf")


def is_beside(name: str) -> bool:
    """Whether a file of this name is configuration, tokenizer or a word on the model."""
    return name in _BESIDE


def is_taken(name: str, *, convert: bool) -> bool:
    """Whether a file of this name is taken; pickled weights only to be converted."""
    return (
        name == INDEX
        or is_beside(name)
        or is_weights(name)
        or is_gguf(name)
        or (convert and (name == PICKLED_INDEX or is_pickled(name)))
    )


def is_too_large(name: str, size_bytes: int) -> bool:
    """Whether a file of this name, that is not weights, is larger than such a file ever is."""
    if name in (INDEX, PICKLED_INDEX):
        return size_bytes > LARGEST_INDEX_BYTES
    return is_beside(name) and size_bytes > LARGEST_BESIDE_BYTES


def has_weights(names: Collection[str]) -> bool:
    """Whether there is anything to train among files of these names."""
    return any(is_weights(name) or is_pickled(name) or is_gguf(name) for name in names)


def _is_plain(name: str) -> bool:
    return _PLAIN.fullmatch(name) is not None
