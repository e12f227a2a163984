"""What a GGUF file says of a tokenizer, from the tokenizer.json of the model's folder.

Byte-level BPE whose rule for cutting text into words GGUF has a name for, and the BPE of SentencePiece with bytes to
fall back on. Others are refused: a file whose text is cut in another way answers worse without anybody knowing why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from btmd.data.encoding import Encoder
from btmd.errors import WrongArchitecture
from btmd.inspection.gguf_tokenizer import LLAMA_3_WORDS, QWEN_2_WORDS

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
_SPACE: Final = "\u2581"


class GgufVocabulary(Struct, frozen=True):
    """The values of a GGUF file's ``tokenizer.ggml``. ``scores`` and ``add_space_prefix`` are SentencePiece's alone."""

    model: str
    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    scores: list[float]
    add_space_prefix: bool
    special: dict[str, int]
    """Ids by GGUF's names: bos, eos, eot, unknown, padding."""
    add_bos: bool


def vocabulary(folder: Path, size: int) -> GgufVocabulary:
    """The tokenizer of a model's folder with ``size`` rows of embeddings. Raises WrongArchitecture."""
    stored = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    model = stored["model"]
    if model.get("type") != "BPE":
        raise _unknown(f"its tokenizer is of the kind {str(model.get('type'))[:40]}")
    kind, pre = ("llama", "default") if _is_sentencepiece(stored) else ("gpt2", _rule(stored))
    added = {int(one["id"]): one for one in stored.get("added_tokens") or ()}
    named = {int(number): token for token, number in model["vocab"].items()}
    named |= {number: str(one["content"]) for number, one in added.items()}
    if max(named) >= size:
        raise _unknown("its tokenizer has more tokens than the model has rows for")
    tokens = [named.get(number, f"[PAD{number}]") for number in range(size)]
    merges = [one if isinstance(one, str) else " ".join(one) for one in model.get("merges") or ()]
    unknown = model.get("unk_token")
    types = [_type(number, token, added, named, unknown, kind) for number, token in enumerate(tokens)]
    return GgufVocabulary(
        model=kind,
        pre=pre,
        tokens=tokens,
        types=types,
        merges=merges if kind == "gpt2" else [],
        scores=_scores(tokens, types, merges) if kind == "llama" else [],
        add_space_prefix="Prepend" in _normalising(stored),
        special=_special(folder, tokens),
        add_bos=_adds_bos(folder),
    )


def _type(number: int, token: str, added: dict[int, Any], named: dict[int, str], unknown: str | None, kind: str) -> int:
    if number not in named:
        return _UNUSED
    if kind == "llama" and token == unknown:
        return _UNKNOWN
    if number in added:
        return _CONTROL if added[number].get("special") else _USER_DEFINED
    if kind == "llama" and len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return _BYTE
    return _NORMAL


def _scores(tokens: list[str], types: list[int], merges: list[str]) -> list[float]:
    """By the rank at which a token is merged: the earlier, the higher. Tokens that are not merged need none."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        left, _, right = merge.partition(" ")
        ranks.setdefault(left + right, rank)
    last = float(len(merges))
    return [
        0.0 if kind != _NORMAL else -float(ranks[token]) if token in ranks else -last
        for token, kind in zip(tokens, types, strict=True)
    ]


def _is_sentencepiece(stored: dict[str, Any]) -> bool:
    """Whether blanks are marks and other letters bytes. A blank before the first word alone GGUF cannot say."""
    return (
        bool(stored["model"].get("byte_fallback"))
        and "Replace" in _normalising(stored)
        and (not stored.get("pre_tokenizer"))
    )


def _normalising(stored: dict[str, Any]) -> list[str]:
    found = stored.get("normalizer") or {}
    return [str(step.get("type")) for step in found.get("normalizers") or [found]]


def read_as_llama_cpp_does(values: Mapping[str, Any], folder: Path) -> None:
    """transformers' reader sets a blank before the first word only; llama.cpp does before each that follows a mark."""
    if values["tokenizer.ggml.model"] != "llama":
        return
    path = folder / "tokenizer.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    steps: list[dict[str, Any]] = [{"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}]
    if values.get("tokenizer.ggml.add_space_prefix", True):
        steps.insert(0, {"type": "Prepend", "prepend": _SPACE})
    stored["normalizer"], stored["pre_tokenizer"] = {"type": "Sequence", "normalizers": steps}, None
    path.write_text(json.dumps(stored, ensure_ascii=False), encoding="utf-8")


def _rule(stored: dict[str, Any]) -> str:
    """GGUF's name for how text is cut into words. Raises WrongArchitecture for one that has none."""
    pre = stored.get("pre_tokenizer") or {}
    steps = pre.get("pretokenizers") or [pre]
    kinds = [step.get("type") for step in steps]
    words = next((step["pattern"].get("Regex") for step in steps if step.get("type") == "Split"), None)
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True) and not steps[0].get("add_prefix_space"):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits"):
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and words == LLAMA_3_WORDS:
        return "llama-bpe"
    if kinds == ["Split", "ByteLevel"] and words == QWEN_2_WORDS:
        return "qwen2"
    raise _unknown("GGUF has no name that is known here for how its tokenizer cuts text into words")


def _special(folder: Path, tokens: list[str]) -> dict[str, int]:
    config = _read(folder / "tokenizer_config.json")
    numbers = {token: number for number, token in enumerate(tokens)}
    found: dict[str, int] = {}
    for ours, theirs in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        token = config.get(f"{ours}_token")
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str) and text in numbers:
            found[theirs] = numbers[text]
    ends = sorted(Encoder.load(folder).eos_ids)
    if "eos" not in found and ends:
        found["eos"] = ends[0]
    further = [one for one in ends if one != found.get("eos")]
    if further:
        found["eot"] = further[0]
    return found


def _adds_bos(folder: Path) -> bool:
    from tokenizers import Tokenizer

    config = _read(folder / "tokenizer_config.json")
    bos = config.get("bos_token")
    text = bos.get("content") if isinstance(bos, dict) else bos
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode("a").tokens
    return bool(ids) and ids[0] == text


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _unknown(why: str) -> WrongArchitecture:
    return WrongArchitecture(
        f"This model cannot be written as GGUF: {why}.",
        hint="`btmctl jobs export J --format merged` writes it as safetensors; llama.cpp's converter may know more.",
    )
