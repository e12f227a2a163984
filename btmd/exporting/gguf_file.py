"""The tuned model as one GGUF file in F16 or Q8_0: Llama's family (Mistral included), Qwen2 and Qwen3."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from gguf import GGUFWriter
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType, RopeScalingType
from gguf.quants import quantize

from btmd.child.answering import Progress
from btmd.errors import WrongArchitecture
from btmd.exporting.gguf_tokenizer import GgufVocabulary, vocabulary
from btmd.exporting.merged import plain_template
from btmd.exporting.requests import Quant
from btmd.exporting.weights import TunedWeights
from btmd.inspection.gguf_names import ROPE_FACTORS, gguf_name, rows_interleaved

Floats = npt.NDArray[np.float32]

FAMILIES: Final = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
_LARGEST_F16: Final = 65504.0
_HINT: Final = "`btmctl jobs export J --format merged` writes it as safetensors."


def family_of(config: dict[str, Any]) -> str:
    """GGUF's name of the family. Raises WrongArchitecture in words for one that cannot be written with certainty."""
    named = (config.get("architectures") or ["?"])[0]
    if named not in FAMILIES:
        raise WrongArchitecture(
            f"A model of the kind {str(named)[:60]} cannot be written as GGUF here: only "
            f"{', '.join(one.removesuffix('ForCausalLM') for one in FAMILIES)} are known for certain.",
            hint=_HINT,
        )
    # Where a window over the past is in use, GGUF's form of it is not what every reader makes of it.
    windowed = config.get("sliding_window") is not None and config.get("use_sliding_window", named[:7] == "Mistral")
    if windowed and config["sliding_window"] < config.get("max_position_embeddings", 0):
        raise WrongArchitecture(
            "A model that looks back over a window only cannot be written as GGUF here.", hint=_HINT
        )
    if config.get("hidden_act", "silu") != "silu":
        raise WrongArchitecture("This model's layers compute with another function than GGUF says.", hint=_HINT)
    return FAMILIES[named]


def write_gguf(
    weights: TunedWeights,
    file: Path,
    *,
    quant: Quant,
    name: str,
    license: str,
    training_type: str,
    progress: Progress,
) -> str:
    """Write ``file``, tensor by tensor; returns the type of the numbers. Raises WrongArchitecture."""
    config = json.loads((weights.folder / "config.json").read_text(encoding="utf-8"))
    family = family_of(config)
    named = _named(weights, config)
    writer = GGUFWriter(file, family)
    _add_description(writer, name, license, quant)
    _add_sizes(writer, config, family)
    _add_vocabulary(writer, vocabulary(weights.folder, weights.shapes["model.embed_tokens.weight"][0]))
    template = _template(weights.folder, training_type)
    if template:
        writer.add_chat_template(template)
    factors = _rope_factors(config)
    kinds = {ours: _kind(weights.shapes[theirs], quant) for ours, theirs in named.items()}
    if factors is not None:
        writer.add_tensor_info(ROPE_FACTORS, factors.shape, factors.dtype, factors.nbytes)
    for ours, theirs in named.items():
        _add_info(writer, ours, weights.shapes[theirs], kinds[ours])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    try:
        if factors is not None:
            writer.write_tensor_data(factors)
        for done, (ours, theirs) in enumerate(named.items()):
            progress(done / len(named), "Writing the GGUF file")
            values = weights.read(theirs).numpy()
            writer.write_tensor_data(_stored(_ordered(values, family, theirs, config), kinds[ours], ours))
    finally:
        writer.close()
    return quant


def _named(weights: TunedWeights, config: dict[str, Any]) -> dict[str, str]:
    """Transformers' names by GGUF's, in the order of the files."""
    named: dict[str, str] = {}
    for theirs in weights.shapes:
        if theirs.endswith("rotary_emb.inv_freq") or (theirs == "lm_head.weight" and config.get("tie_word_embeddings")):
            continue
        ours = gguf_name(theirs)
        if ours is None:
            raise WrongArchitecture(
                f"This model has a tensor {theirs[:80]} that GGUF does not know in its family.", hint=_HINT
            )
        named[ours] = theirs
    return named


def _kind(shape: tuple[int, ...], quant: Quant) -> GGMLQuantizationType:
    if len(shape) == 1:
        return GGMLQuantizationType.F32
    fits = shape[-1] % GGML_QUANT_SIZES[GGMLQuantizationType.Q8_0][0] == 0
    return GGMLQuantizationType.Q8_0 if quant == "q8_0" and fits else GGMLQuantizationType.F16


def _add_info(writer: GGUFWriter, name: str, shape: tuple[int, ...], kind: GGMLQuantizationType) -> None:
    block, block_bytes = GGML_QUANT_SIZES[kind]
    row_bytes = shape[-1] // block * block_bytes
    size = math.prod(shape[:-1]) * row_bytes
    if kind == GGMLQuantizationType.Q8_0:
        writer.add_tensor_info(name, (*shape[:-1], row_bytes), np.dtype(np.uint8), size, raw_dtype=kind)
    else:
        number = np.dtype(np.float32 if kind == GGMLQuantizationType.F32 else np.float16)
        writer.add_tensor_info(name, shape, number, size)


def _stored(values: Floats, kind: GGMLQuantizationType, name: str) -> npt.NDArray[Any]:
    if kind == GGMLQuantizationType.F32:
        return np.ascontiguousarray(values, np.float32)
    if kind == GGMLQuantizationType.Q8_0:
        packed: npt.NDArray[Any] = quantize(np.ascontiguousarray(values), kind)
        return packed
    if np.abs(values).max(initial=0.0) > _LARGEST_F16:
        raise WrongArchitecture(f"The tensor {name} holds numbers that F16 cannot.", hint="Use --quant q8_0.")
    return values.astype(np.float16)


def _ordered(values: Floats, family: str, name: str, config: dict[str, Any]) -> Floats:
    """Queries and keys of Llama's family: the two halves of a rotary pair go next to each other."""
    if not rows_interleaved(family, name):
        return values
    heads = config["num_attention_heads"]
    if re.search(r"k_proj", name):
        heads = config.get("num_key_value_heads") or heads
    size = values.shape[0] // heads
    apart = values.reshape(heads, 2, size // 2, *values.shape[1:])
    return np.ascontiguousarray(apart.swapaxes(1, 2)).reshape(values.shape)


def _add_description(writer: GGUFWriter, name: str, license: str, quant: Quant) -> None:
    writer.add_type("model")
    writer.add_name(name)
    if license:
        writer.add_license(license)
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0 if quant == "q8_0" else LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(2)


def _add_sizes(writer: GGUFWriter, config: dict[str, Any], family: str) -> None:
    heads = config["num_attention_heads"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_layer_norm_rms_eps(config.get("rms_norm_eps", 1e-6))
    writer.add_vocab_size(config["vocab_size"])
    if family == "llama":
        writer.add_rope_dimension_count(size)
    rope = _rope(config)
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    kind = rope["rope_type"]
    if kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(RopeScalingType.LINEAR if kind == "linear" else RopeScalingType.YARN)
        writer.add_rope_scaling_factor(float(rope["factor"]))
        if kind == "yarn":
            original = rope.get("original_max_position_embeddings") or config["max_position_embeddings"]
            writer.add_rope_scaling_orig_ctx_len(int(original))
    elif kind not in ("default", "llama3"):
        raise WrongArchitecture(
            f"This model stretches its positions in a way ({str(kind)[:40]}) that is not known for GGUF here.",
            hint=_HINT,
        )


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """How positions are turned, whichever of its two forms the configuration has."""
    found = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    found["rope_type"] = found.get("rope_type") or found.get("type") or "default"
    found["rope_theta"] = found.get("rope_theta") or config.get("rope_theta") or 10000.0
    return found


def _rope_factors(config: dict[str, Any]) -> Floats | None:
    """Llama 3's stretched positions, which GGUF keeps as one factor for each pair; None for other models."""
    rope = _rope(config)
    if rope["rope_type"] != "llama3":
        return None
    heads = config["num_attention_heads"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    return np.array(list(_llama_3_factors(rope, size)), np.float32)


def _llama_3_factors(rope: dict[str, Any], head_size: int) -> Iterator[float]:
    factor, low, high = float(rope["factor"]), float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    original = float(rope["original_max_position_embeddings"])
    for position in range(0, head_size, 2):
        wave = 2 * math.pi * float(rope["rope_theta"]) ** (position / head_size)
        if wave < original / high:
            yield 1.0
        elif wave > original / low:
            yield factor
        else:
            smooth = (original / wave - low) / (high - low)
            yield 1 / ((1 - smooth) / factor + smooth)


def _add_vocabulary(writer: GGUFWriter, words: GgufVocabulary) -> None:
    writer.add_tokenizer_model(words.model)
    writer.add_tokenizer_pre(words.pre)
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.types)
    if words.merges:
        writer.add_token_merges(words.merges)
    if words.scores:
        writer.add_token_scores(words.scores)
        writer.add_add_space_prefix(words.add_space_prefix)
    for name, number in words.special.items():
        {
            "bos": writer.add_bos_token_id,
            "eos": writer.add_eos_token_id,
            "eot": writer.add_eot_token_id,
            "unknown": writer.add_unk_token_id,
            "padding": writer.add_pad_token_id,
        }[name](number)
    writer.add_add_bos_token(words.add_bos)


def _template(folder: Path, training_type: str) -> str:
    """The chat template, or the headings that were used where the model has none; empty for a model of plain text."""
    from btmd.data.encoding import Encoder

    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    template = config.get("chat_template")
    if isinstance(template, list):
        template = next((one["template"] for one in template if one.get("name") == "default"), None)
    if isinstance(template, str) and template.strip():
        return template
    if Encoder.load(folder).template_kind == "plain" and training_type != "continued_pretraining":
        return plain_template(folder)
    return ""
