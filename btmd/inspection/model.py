"""Tells what a model folder holds, from its configuration and the headers of its weights; no weight is loaded."""

import json
import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from btmd.data.encoding import Encoder
from btmd.errors import (
    FileMissing,
    ModelDamaged,
    ModelRefused,
    NotAModel,
    RemoteCode,
    TokenizerMissing,
    WrongArchitecture,
)
from btmd.inspection.facts import ModelFacts
from btmd.inspection.safetensors_header import Tensor
from btmd.inspection.weights import check_embedding, check_layers, linear_layers, main_dtype, read_headers
from btmd.model_fingerprint import SLOW_TOKENIZERS, fingerprint

# fmt: off
_ENCODERS: Final = frozenset({
    "albert", "bert", "bert-generation", "bigbird", "big_bird", "camembert", "canine", "clip", "convbert",
    "data2vec-text", "deberta", "deberta-v2", "distilbert", "electra", "ernie", "esm", "flaubert", "fnet",
    "funnel", "ibert", "layoutlm", "longformer", "luke", "mobilebert", "modernbert", "mpnet", "nezha",
    "nomic_bert", "nystromformer", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer",
    "siglip", "splinter", "squeezebert", "vit", "wav2vec2", "xlm", "xlm-roberta", "xlm-roberta-xl", "xmod",
    "yoso",
})
# fmt: on
_FAMILY: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,79}")
_MOST_FACTS_BYTES: Final = 64 * 1024
"""They are recorded for good, and read whenever models are listed."""
_CODE_FAMILIES: Final = frozenset({"codegen", "gpt_bigcode", "starcoder2"})
CONVERSION_NOTE: Final = "conversion.json"
"""Written beside weights that btmd itself made from a GGUF file."""

Progress = Callable[[float, str], None]


def inspect_model(folder: Path, *, tokenizer_folder: Path | None, progress: Progress) -> ModelFacts:
    """Read a Hugging Face model folder's facts.

    A model with only an old kind of tokenizer gets a tokenizer.json in ``tokenizer_folder``, if that is given; its
    own folder is never written. Raises FileMissing or ModelRefused in one of its kinds.
    """
    config = _read_config(folder)
    architecture = _architecture(config)
    _refuse_unusable(config)
    headers = read_headers(folder)
    progress(0.5, "Reading the tokenizer")
    tensors = {name: tensor for header in headers.values() for name, tensor in header.tensors.items()}
    tokenizer, readable = _tokenizer(folder, tokenizer_folder)
    encoder = Encoder.load(readable) if readable is not None else None
    shape = _shape(config, tensors)
    check_layers(tensors, shape.layers)
    # OPT's embedding is narrower than its layers in one of its sizes.
    check_embedding(tensors, shape.vocab_size, {shape.hidden_size, _number(config, "word_embed_proj_dim")} - {0})
    has_template = encoder is not None and encoder.template_kind == "model"
    template_problem = encoder.mask_problem() if encoder is not None else ""
    facts = ModelFacts(
        architecture=architecture,
        family=str(config["model_type"]),
        parameters=sum(tensor.elements for tensor in tensors.values()),
        dtype=main_dtype(tensors),
        layers=shape.layers,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_size=shape.head_size,
        vocab_size=shape.vocab_size,
        context_length=shape.context_length,
        tied_embeddings=shape.tied_embeddings,
        size_bytes=sum(header.size_bytes for header in headers.values()),
        weight_files=len(headers),
        tokenizer=tokenizer,
        has_chat_template=has_template,
        is_chat=has_template,
        is_code=_is_code(folder, config),
        fingerprint=fingerprint(folder, {name: (header.raw, header.size_bytes) for name, header in headers.items()}),
        license=_license(folder),
        quantised=_quantised(folder),
        linear_layers=linear_layers(tensors),
        warnings=(
            *_warnings(config, shape, encoder),
            *([template_problem] if template_problem else []),
            *_noted_warnings(folder),
        ),
        template_problem=template_problem,
    )
    if len(msgspec.json.encode(facts)) > _MOST_FACTS_BYTES:
        raise ModelRefused(
            "Names and notes in the model's files are longer than those of any model.",
            hint="Use the model as it was published.",
        )
    return facts


def _read_config(folder: Path) -> dict[str, Any]:
    if not folder.exists():
        raise FileMissing(f"There is no folder '{folder.name}'.", hint="Check the path; relative ones start here.")
    if not folder.is_dir():
        raise NotAModel(
            f"'{folder.name}' is a file; a model is a folder or a single .gguf file.",
            hint="Give the folder that holds config.json and the .safetensors files.",
        )
    path = folder / "config.json"
    if not path.is_file():
        raise NotAModel(f"'{folder.name}' is not a model: it has no config.json.", hint=_hint_without_config(folder))
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelDamaged("The model's config.json is not valid JSON.", hint="Fetch the file again.") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise NotAModel(
            "The config.json does not say what kind of model this is (no model_type).",
            hint="Use a folder in the Hugging Face transformers format.",
        )
    return config


def _hint_without_config(folder: Path) -> str:
    if (folder / "adapter_config.json").is_file():
        return "It is an adapter; give the model it was trained on."
    found = sorted(path.name for path in folder.glob("*.gguf"))
    if found:
        return f"It holds GGUF files; add one of them: {found[0]}"
    return "Give the folder that holds config.json, tokenizer.json and the .safetensors files."


def _architecture(config: Mapping[str, Any]) -> str:
    named = config.get("architectures") or []
    architecture = named[0] if isinstance(named, list) and named and isinstance(named[0], str) else ""
    family = config["model_type"]
    if config.get("is_encoder_decoder"):
        raise _wrong(f"{architecture or family} reads with an encoder and writes with a decoder")
    if family in _ENCODERS:
        raise _wrong(f"{architecture or family} is an encoder: it reads text but cannot write any")
    if not architecture:
        return f"({family})"
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        return architecture
    if architecture.endswith("ForConditionalGeneration"):
        raise _wrong(f"{architecture} takes more than text")
    raise _wrong(f"{architecture} does not write text")


def _wrong(what: str) -> WrongArchitecture:
    return WrongArchitecture(
        f"This model cannot be trained here: {what}.",
        hint="Use a model that writes text word by word; its architecture ends in ForCausalLM.",
    )


def _refuse_unusable(config: Mapping[str, Any]) -> None:
    if config.get("auto_map"):
        raise RemoteCode(
            "The model brings its own program code (auto_map in config.json), and code of others is never run.",
            hint="If transformers knows this architecture itself, a copy without the auto_map entry can be added.",
        )
    family = str(config["model_type"])
    if not _is_known(family):
        raise WrongArchitecture(
            f"The installed transformers does not know the architecture {family[:60]!r}.",
            hint="A newer transformers may: `btmctl help wrong_architecture` shows the command.",
        )
    if config.get("transformers_weights") is not None:
        # Of older releases of transformers it may lead to any file; and what was looked at is not what would be loaded.
        raise ModelRefused(
            "The config.json names another file as the model's weights (transformers_weights).",
            hint="Take that entry out; model.safetensors, or the files that its index names, are read.",
        )
    quantisation = config.get("quantization_config")
    if isinstance(quantisation, dict) and quantisation:
        method = str(quantisation.get("quant_method", "an unnamed method"))[:40]
        raise ModelRefused(
            f"The weights are stored quantised ({method}) and cannot be trained in this form.",
            hint="Use the model's version in bf16, fp16 or fp32, or a GGUF of it, which is converted.",
        )


def _tokenizer(folder: Path, tokenizer_folder: Path | None) -> tuple[str, Path | None]:
    """The kind of tokenizer, and the folder it can be read from now, if there is one."""
    if (folder / "tokenizer.json").is_file():
        return "fast", folder
    if not any((folder / name).is_file() for name in SLOW_TOKENIZERS):
        raise TokenizerMissing(
            "The model folder has no tokenizer, so text cannot be turned into tokens.",
            hint="Fetch tokenizer.json and tokenizer_config.json too.",
        )
    if tokenizer_folder is None:
        return "slow", None
    if not (tokenizer_folder / "tokenizer.json").is_file():
        from btmd.inspection.tokenizer_conversion import convert_tokenizer

        convert_tokenizer(folder, tokenizer_folder)
    return "slow", tokenizer_folder


class _Shape(Struct, frozen=True):
    layers: int
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    head_size: int
    vocab_size: int
    context_length: int
    tied_embeddings: bool


def _shape(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> _Shape:
    hidden = _number(config, "hidden_size", "n_embd", "d_model")
    heads = _number(config, "num_attention_heads", "n_head", "num_heads")
    layers = _number(config, "num_hidden_layers", "n_layer", "num_layers")
    vocab = _number(config, "vocab_size")
    if min(hidden, heads, layers, vocab) < 1:
        raise ModelDamaged(
            "The config.json does not give the model's size (layers, hidden size, heads, vocabulary).",
            hint="Fetch the file again.",
        )
    tied = config.get("tie_word_embeddings")
    return _Shape(
        layers=layers,
        hidden_size=hidden,
        intermediate_size=_number(config, "intermediate_size", "n_inner", "ffn_dim") or 4 * hidden,
        heads=heads,
        kv_heads=_number(config, "num_key_value_heads") or heads,
        head_size=_number(config, "head_dim") or hidden // heads,
        vocab_size=vocab,
        context_length=_number(config, "max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"),
        tied_embeddings=tied if isinstance(tied, bool) else not any("lm_head" in name for name in tensors),
    )


def _number(config: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return 0


def _is_code(folder: Path, config: Mapping[str, Any]) -> bool:
    if config["model_type"] in _CODE_FAMILIES:
        return True
    names = f"{folder.name} {config.get('_name_or_path', '')}".lower()
    if re.search(r"(?:^|[^a-z])(?:\w*coder?|codellama|codegemma|codestral)(?:[^a-z]|$)", names):
        return True
    return bool(re.search(r"^\s*-\s*code\s*$", _front_matter(folder), re.MULTILINE))


def _front_matter(folder: Path) -> str:
    """The part of a model card between its first two rules; empty without one."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8", errors="replace")[:20_000]
    except OSError:
        return ""
    parts = re.split(r"^---\s*$", text, maxsplit=2, flags=re.MULTILINE)
    return parts[1] if len(parts) == 3 and not parts[0].strip() else ""


def _license(folder: Path) -> str | None:
    named = re.search(r"^license:\s*[\"']?([\w.+-]{1,40})", _front_matter(folder), re.MULTILINE)
    if named is not None:
        return named[1]
    note = _note(folder).get("license")
    if isinstance(note, str):
        return note
    for name in ("LICENSE", "LICENSE.txt", "LICENSE.md"):
        try:
            begins = (folder / name).read_text(encoding="utf-8", errors="replace")[:400].lower()
        except OSError:
            continue
        for words, code in (("apache license", "apache-2.0"), ("mit license", "mit"), ("llama", "llama")):
            if words in begins:
                return code
        return "see " + name
    return None


def _note(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / CONVERSION_NOTE).read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _quantised(folder: Path) -> str | None:
    value = _note(folder).get("quantised")
    return value if isinstance(value, str) else None


def _noted_warnings(folder: Path) -> list[str]:
    warnings = _note(folder).get("warnings", [])
    return [warning for warning in warnings if isinstance(warning, str)] if isinstance(warnings, list) else []


def _warnings(config: Mapping[str, Any], shape: _Shape, encoder: Encoder | None) -> tuple[str, ...]:
    found: list[str] = []
    if encoder is not None and encoder.template_kind == "plain":
        found.append("The model has no chat template; questions and answers are set under plain headings.")
    if encoder is not None and encoder.vocab_size > shape.vocab_size:
        found.append(
            f"The tokenizer has {encoder.vocab_size:,} tokens, the model only {shape.vocab_size:,}: "
            "text that needs the others cannot be trained."
        )
    if shape.context_length == 0:
        found.append("The configuration does not say how long a text the model can take.")
    return tuple(found)


def _is_known(family: str) -> bool:
    """Whether transformers has this ``model_type``; without transformers nobody can say that it has not."""
    if _FAMILY.fullmatch(family) is None:
        return False
    spec = find_spec("transformers")
    places = (spec.submodule_search_locations if spec is not None else None) or ()
    if any((Path(place) / "models" / family.replace("-", "_")).is_dir() for place in places) or not places:
        return True
    # A few are not called as their folders are: then its own list, which takes longer to load.
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES  # type: ignore[attr-defined]

    return family in CONFIG_MAPPING_NAMES
