"""What GGUF calls a model's parts, and what transformers calls them: configuration and tensor names.

Families whose weights need no arithmetic beyond the order of rows: Llama (Mistral included), Qwen2 and Qwen3.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from btmd.errors import ModelDamaged, WrongArchitecture
from btmd.inspection.gguf_header import GgufHeader, GgufTensor

_ARCHITECTURES: Final = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
_WHOLE: Final = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_BLOCK: Final = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_WHOLE_BACK: Final = {theirs: ours for ours, theirs in _WHOLE.items()}
_BLOCK_BACK: Final = {theirs: ours for ours, theirs in _BLOCK.items()}
_NEEDED: Final = (
    "attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"
)  # fmt: skip
ROPE_FACTORS: Final = "rope_freqs.weight"


def check_family(header: GgufHeader) -> str:
    """The family's name in both worlds. Raises WrongArchitecture for one that cannot be converted."""
    family = header.values.get("general.architecture")
    if not isinstance(family, str) or family not in _ARCHITECTURES:
        raise WrongArchitecture(
            f"A GGUF file of the architecture '{str(family)[:40]}' cannot be converted.",
            hint="Convertible are: " + ", ".join(_ARCHITECTURES) + ". Or add the model's safetensors folder instead.",
        )
    if header.values.get(f"{family}.expert_count"):
        raise WrongArchitecture(
            "A GGUF file of a model with several experts cannot be converted.",
            hint="Add the model's safetensors folder instead.",
        )
    if header.values.get("split.count", 1) not in (0, 1):
        raise WrongArchitecture(
            "This GGUF model is in several files, of which only one was given.",
            hint="Join them first: gguf-split --merge FIRST.gguf WHOLE.gguf",
        )
    return family


def hugging_face_names(header: GgufHeader) -> dict[str, GgufTensor]:
    """The tensors under the names of transformers, in the file's order.

    Raises ModelDamaged when some are missing, WrongArchitecture when there are some of unknown meaning.
    """
    named: dict[str, GgufTensor] = {}
    for tensor in header.tensors:
        if tensor.name == ROPE_FACTORS:
            continue
        name = _WHOLE.get(tensor.name) or _block_name(tensor.name)
        if name is None:
            raise WrongArchitecture(
                f"The GGUF file has a tensor '{tensor.name[:60]}' that is not known for its architecture.",
                hint="Add the model's safetensors folder instead.",
            )
        named[name] = tensor
    layers = header.values.get(f"{header.values['general.architecture']}.block_count", 0)
    # Before anything is counted up to it: each layer has tensors of its own.
    if not isinstance(layers, int) or not 0 < layers <= len(header.tensors):
        raise ModelDamaged("The GGUF file does not give its number of layers.", hint="Copy or download the file again.")
    needed = {f"model.layers.{layer}.{_BLOCK[part]}.weight" for layer in range(layers) for part in _NEEDED}
    missing = ({"model.embed_tokens.weight", "model.norm.weight"} | needed) - set(named)
    if missing:
        raise ModelDamaged(
            f"The GGUF file lacks {len(missing)} of the model's tensors.", hint="Copy or download the file again."
        )
    return named


def gguf_name(name: str) -> str | None:
    """What GGUF calls a tensor of transformers; None for one that it does not know in these families."""
    if name in _WHOLE_BACK:
        return _WHOLE_BACK[name]
    found = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
    if found is None or found[2] not in _BLOCK_BACK:
        return None
    return f"blk.{found[1]}.{_BLOCK_BACK[found[2]]}.{found[3]}"


def _block_name(name: str) -> str | None:
    found = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
    if found is None or found[2] not in _BLOCK:
        return None
    return f"model.layers.{found[1]}.{_BLOCK[found[2]]}.{found[3]}"


def rows_interleaved(family: str, name: str) -> bool:
    """Whether the rows of each head were re-ordered for GGUF's form of rotary positions (Llama's queries and keys)."""
    return family == "llama" and re.search(r"self_attn\.[qk]_proj\.(?:weight|bias)$", name) is not None


def configuration(header: GgufHeader, rope_factors: list[float] | None) -> dict[str, Any]:
    """The model's config.json. ``rope_factors`` are the file's own, for models that stretch their positions."""
    family = header.values["general.architecture"]
    values = _Values(header.values, family)
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    hidden, heads = values.number("embedding_length"), values.number("attention.head_count")
    if hidden < 1 or heads < 1:
        raise ModelDamaged("The GGUF file does not give the model's size.", hint="Copy or download the file again.")
    head_size = values.number("attention.key_length") or hidden // heads
    config = {
        "architectures": [_ARCHITECTURES[family]],
        "model_type": family,
        "hidden_size": hidden,
        "intermediate_size": values.number("feed_forward_length"),
        "num_hidden_layers": values.number("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": values.number("attention.head_count_kv") or heads,
        "head_dim": head_size,
        "vocab_size": shapes["token_embd.weight"][0],
        "max_position_embeddings": values.number("context_length"),
        "rms_norm_eps": values.real("attention.layer_norm_rms_epsilon", 1e-5),
        "rope_theta": values.real("rope.freq_base", 10000.0),
        "hidden_act": "silu",
        "attention_bias": "blk.0.attn_q.bias" in shapes,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "tie_word_embeddings": "output.weight" not in shapes,
        "dtype": "bfloat16",
        "use_cache": True,
    }
    if family == "llama":
        config["mlp_bias"] = "blk.0.ffn_up.bias" in shapes
    scaling = _rope_scaling(values, config["rope_theta"], head_size, rope_factors)
    if scaling is not None:
        config["rope_scaling"] = scaling
    for name in ("bos", "eos", "padding"):
        token = header.values.get(f"tokenizer.ggml.{name}_token_id")
        if isinstance(token, int):
            config["pad_token_id" if name == "padding" else f"{name}_token_id"] = token
    return config


class _Values:
    """The file's values of its own architecture; a list (one per layer) counts if all its items agree."""

    def __init__(self, values: Mapping[str, Any], family: str) -> None:
        self._values = values
        self._family = family

    def get(self, name: str) -> Any:
        value = self._values.get(f"{self._family}.{name}")
        if isinstance(value, list) and value and len(set(value)) == 1:
            return value[0]
        return value

    def number(self, name: str) -> int:
        value = self.get(name)
        if isinstance(value, list):
            raise WrongArchitecture(
                "The layers of this GGUF model differ in size from each other; it cannot be converted.",
                hint="Add the model's safetensors folder instead.",
            )
        return value if isinstance(value, int) else 0

    def real(self, name: str, otherwise: float) -> float:
        value = self.get(name)
        # The file holds 32-bit numbers: seven digits are what was meant.
        return float(f"{value:.7g}") if isinstance(value, int | float) else otherwise


def _rope_scaling(values: _Values, theta: float, head_size: int, factors: list[float] | None) -> dict[str, Any] | None:
    if factors is not None:
        return _llama_3_scaling(theta, head_size, factors)
    kind = values.get("rope.scaling.type")
    factor = values.real("rope.scaling.factor", 1.0)
    if kind == "linear" and factor != 1.0:
        return {"rope_type": "linear", "factor": factor}
    if kind == "yarn" and factor != 1.0:
        original = values.number("rope.scaling.original_context_length")
        return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
    return None


def _llama_3_scaling(theta: float, head_size: int, factors: list[float]) -> dict[str, Any]:
    """The four numbers of Llama 3's stretched positions, recovered from the factors that GGUF keeps instead.

    Raises WrongArchitecture unless the numbers reproduce every factor.
    """
    original, low, high = 8192, 1.0, 4.0
    factor = round(max(factors), 4)
    for position, given in enumerate(factors):
        wave = 2 * math.pi * theta ** (2 * position / head_size)
        if wave < original / high:
            expected = 1.0
        elif wave > original / low:
            expected = factor
        else:
            smooth = (original / wave - low) / (high - low)
            expected = 1 / ((1 - smooth) / factor + smooth)
        if not math.isclose(expected, given, rel_tol=1e-3):
            raise WrongArchitecture(
                "The GGUF file stretches its positions in a way that is not known.",
                hint="Add the model's safetensors folder instead.",
            )
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": original,
    }
