"""Writes a tokenizer as Hugging Face keeps it, from what a GGUF file says about its own.

Done by hand for byte-level BPE: the conversion in transformers 5 drops the rule by which text is cut into words
(``tokenizer.ggml.pre``), so that numbers, for one, may fall into other tokens than the model was trained with.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from btmd.errors import ModelDamaged, TokenizerMissing

_CONTROL, _USER_DEFINED = 3, 4
LLAMA_3_WORDS: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_2_WORDS: Final = LLAMA_3_WORDS.replace(r"\p{N}{1,3}", r"\p{N}")
_GPT_2_LIKE: Final = frozenset({"gpt-2", "gpt2", "phi-2", "olmo", "mpt", "default"})
_DIGIT_BY_DIGIT: Final = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell"})
_LLAMA_3_LIKE: Final = frozenset({"llama-bpe", "llama3", "llama-v3", "falcon3"})
_QWEN_2_LIKE: Final = frozenset({"qwen2", "deepseek-r1-qwen"})


def write_tokenizer(values: Mapping[str, Any], source: Path, folder: Path, context_length: int) -> list[str]:
    """Write tokenizer.json, tokenizer_config.json and generation_config.json; return warnings for people.

    Raises TokenizerMissing or ModelDamaged.
    """
    tokens = values.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not tokens:
        raise TokenizerMissing("The GGUF file has no tokenizer.", hint="Use a complete GGUF file of this model.")
    warnings: list[str] = []
    if values.get("tokenizer.ggml.model") == "gpt2":
        rule = values.get("tokenizer.ggml.pre", "default")
        if rule not in _GPT_2_LIKE | _DIGIT_BY_DIGIT | _LLAMA_3_LIKE | _QWEN_2_LIKE:
            warnings.append(f"The rule '{str(rule)[:40]}' for cutting text into words is not known; GPT-2's is used.")
        _byte_level(values, tokens, rule).save(str(folder / "tokenizer.json"))
    else:
        _by_transformers(source, folder)
    _write_configuration(values, tokens, folder, context_length)
    return warnings


def _byte_level(values: Mapping[str, Any], tokens: list[str], rule: str) -> Tokenizer:
    merges = [tuple(merge.split(" ", 1)) for merge in values.get("tokenizer.ggml.merges") or ()]
    vocab = {token: number for number, token in enumerate(tokens)}
    try:
        model = models.BPE(vocab=vocab, merges=merges, ignore_merges=rule in _LLAMA_3_LIKE)
    # The library below is not Python and raises a bare Exception for merges that do not fit the tokens.
    except Exception as error:
        raise ModelDamaged("The GGUF file's tokenizer is damaged.", hint="Copy or download the file again.") from error
    tokenizer = Tokenizer(model)
    if rule in _QWEN_2_LIKE:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _cutting_rule(rule)
    tokenizer.decoder = decoders.ByteLevel()
    kinds = values.get("tokenizer.ggml.token_type") or []
    for token, kind in zip(tokens, kinds, strict=False):
        if kind == _CONTROL:
            tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        elif kind == _USER_DEFINED:
            tokenizer.add_tokens([AddedToken(token, special=False, normalized=False)])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    bos = values.get("tokenizer.ggml.bos_token_id")
    if values.get("tokenizer.ggml.add_bos_token", rule in _LLAMA_3_LIKE) and isinstance(bos, int):
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{tokens[bos]} $A",
            pair=f"{tokens[bos]} $A {tokens[bos]}:1 $B:1",
            special_tokens=[(tokens[bos], bos)],
        )
    return tokenizer


def _cutting_rule(rule: str) -> pre_tokenizers.PreTokenizer:
    if rule in _LLAMA_3_LIKE | _QWEN_2_LIKE:
        pattern = Regex(LLAMA_3_WORDS if rule in _LLAMA_3_LIKE else QWEN_2_WORDS)
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(pattern, behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if rule in _DIGIT_BY_DIGIT:
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])
    return words


def _by_transformers(source: Path, folder: Path) -> None:
    from transformers import AutoTokenizer

    try:
        loaded: Any = AutoTokenizer.from_pretrained(
            source.parent, gguf_file=source.name, local_files_only=True, trust_remote_code=False
        )
        loaded.backend_tokenizer.save(str(folder / "tokenizer.json"))
    # Dozens of tokenizer classes raise what they like for files they cannot read or libraries they lack.
    except Exception as error:
        raise TokenizerMissing(
            f"The GGUF file's tokenizer could not be converted ({type(error).__name__}).",
            hint="Add the model's safetensors folder instead.",
        ) from error


def _write_configuration(values: Mapping[str, Any], tokens: list[str], folder: Path, context_length: int) -> None:
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": context_length or 1_000_000,
    }
    generation: dict[str, Any] = {}
    for name, ours in (("bos", "bos"), ("eos", "eos"), ("unknown", "unk"), ("padding", "pad")):
        token = values.get(f"tokenizer.ggml.{name}_token_id")
        if isinstance(token, int) and 0 <= token < len(tokens):
            config[f"{ours}_token"] = tokens[token]
            if ours != "unk":
                generation[f"{ours}_token_id"] = token
    ends = [values.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    known = [token for token in dict.fromkeys(ends) if isinstance(token, int) and 0 <= token < len(tokens)]
    if len(known) > 1:
        generation["eos_token_id"] = known
    template = values.get("tokenizer.chat_template")
    if isinstance(template, str) and template.strip():
        config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2), encoding="utf-8")
