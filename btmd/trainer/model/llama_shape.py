"""Whether a model folder is one that the fused implementation computes exactly, and its sizes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from btmd.errors import ModelDamaged

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM")


@dataclass(frozen=True, slots=True)
class LlamaShape:
    """Sizes from ``config.json``. ``qkv_bias`` and ``output_bias``, ``mlp_bias``: which layers carry a bias."""

    vocabulary: int
    width: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    epsilon: float
    rope_theta: float
    tied: bool
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` as it stands; raises ModelDamaged."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelDamaged(f"The model's config.json cannot be read: {error}.") from error
    if not isinstance(config, dict):
        raise ModelDamaged("The model's config.json does not hold an object.")
    return config


def llama_shape(config: dict[str, Any]) -> LlamaShape | None:
    """The sizes, or None for anything that is not plainly Llama's layer (the plain implementation is for these)."""
    if not _is_llama(config):
        return None
    heads = config["num_attention_heads"]
    qwen = config["architectures"][0] == "Qwen2ForCausalLM"
    rope = config.get("rope_parameters") or {}
    return LlamaShape(
        vocabulary=config["vocab_size"],
        width=config["hidden_size"],
        intermediate=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_width=config.get("head_dim") or config["hidden_size"] // heads,
        epsilon=config.get("rms_norm_eps", 1e-6),
        rope_theta=rope.get("rope_theta") or config.get("rope_theta", 10000.0),
        tied=bool(config.get("tie_word_embeddings", False)),
        qkv_bias=qwen or bool(config.get("attention_bias", False)),
        output_bias=not qwen and bool(config.get("attention_bias", False)),
        mlp_bias=bool(config.get("mlp_bias", False)),
    )


def _is_llama(config: dict[str, Any]) -> bool:
    sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    # Mistral looks back over a window unless told not to; Qwen2 only when told to.
    windowed = {
        "MistralForCausalLM": config.get("sliding_window", 4096) is not None,
        "Qwen2ForCausalLM": bool(config.get("use_sliding_window", False)),
    }
    return (
        config.get("architectures") in [[name] for name in ARCHITECTURES]
        and all(isinstance(config.get(size), int) for size in sizes)
        and config.get("hidden_act", "silu") == "silu"
        and (rope.get("rope_type") or rope.get("type") or "default") == "default"
        and not windowed.get(config["architectures"][0], False)
        and rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0)) == 1.0
        and not config.get("quantization_config")
        and not config.get("auto_map")
    )
