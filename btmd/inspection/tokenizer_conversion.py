"""Makes a tokenizer.json from the older kinds of tokenizer files, once, with transformers.

What a model's files say of its tokenizer is handed to transformers as arguments, and some of those name files that it
then reads: a model could have any file of ours read as its vocabulary. So it is given a folder of our own making.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from btmd.errors import TokenizerMissing
from btmd.inspection.requests import aside
from btmd.model_fingerprint import SLOW_TOKENIZERS

_VOCABULARIES: Final = (*SLOW_TOKENIZERS, "merges.txt", "added_tokens.json")
_CLASS: Final = re.compile(r"[A-Za-z0-9_]*(?:Tokenizer|TokenizerFast|Backend)")
_TOKENS: Final = ("added_tokens_decoder", "additional_special_tokens", "extra_special_tokens")
_WORDS: Final = ("chat_template", "errors", "padding_side", "prepend_scheme", "truncation_side")
"""Beside the tokens themselves, what may be said in words."""
_OF_FILES: Final = re.compile(r"vocab|merges|.*_?(?:files?|path|dir|object|inputs|kwargs)")


def convert_tokenizer(model_folder: Path, tokenizer_folder: Path) -> None:
    """Write tokenizer.json and what belongs to it into a new folder, which appears whole or not at all.

    Raises TokenizerMissing when the installed libraries cannot read the tokenizer.
    """
    from transformers import AutoTokenizer

    part = Path(aside(str(tokenizer_folder)))
    shutil.rmtree(part, ignore_errors=True)
    read = part / "read"
    try:
        try:
            _lay_out(model_folder, read)
            tokenizer: Any = AutoTokenizer.from_pretrained(
                read, local_files_only=True, trust_remote_code=False, use_fast=True
            )
            tokenizer.save_pretrained(part)
        # Dozens of tokenizer classes raise what they like for files they cannot read or libraries they lack.
        except Exception as error:
            raise TokenizerMissing(
                f"The model's tokenizer is of an old kind and could not be converted ({type(error).__name__}).",
                hint="Use a version of the model that has tokenizer.json.",
            ) from error
        shutil.rmtree(read)
        if not (part / "tokenizer.json").is_file():
            raise TokenizerMissing(
                "The model's tokenizer is of an old kind that has no tokenizer.json form.",
                hint="Use a version of the model that has tokenizer.json.",
            )
        # The end tokens are named in these too, and the folder has to be enough to encode with.
        for name in ("config.json", "generation_config.json"):
            if (model_folder / name).is_file():
                shutil.copyfile(model_folder / name, part / name)
        tokenizer_folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.replace(part, tokenizer_folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _lay_out(model_folder: Path, read: Path) -> None:
    """The vocabulary under its usual names, and of the configuration what names no other file. Raises OSError."""
    read.mkdir(parents=True, mode=0o700)
    for name in _VOCABULARIES:
        if (model_folder / name).is_file():
            (read / name).symlink_to((model_folder / name).resolve())
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        _write(read / name, _harmless(_object(model_folder / name)))
    template = model_folder / "chat_template.jinja"
    if template.is_file():
        shutil.copyfile(template, read / template.name)
    config = _object(model_folder / "config.json")
    kept = {name: config[name] for name in ("model_type", "tokenizer_class") if isinstance(config.get(name), str)}
    _write(read / "config.json", _harmless(kept) | {"model_type": kept.get("model_type", "")})


def _harmless(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Tokens and switches; nothing that could be taken for the name of a file or for another program."""
    return {name: value for name, value in settings.items() if _is_harmless(name, value)}


def _is_harmless(name: str, value: Any) -> bool:
    if name == "tokenizer_class":
        return isinstance(value, str) and _CLASS.fullmatch(value) is not None
    if _OF_FILES.fullmatch(name) is not None:
        return False
    return name.endswith("_token") or name in _TOKENS or name in _WORDS or not isinstance(value, str | list | dict)


def _object(path: Path) -> dict[str, Any]:
    """Empty where there is no such file. Raises ValueError, RecursionError."""
    if not path.is_file():
        return {}
    content = json.loads(path.read_bytes())
    return content if isinstance(content, dict) else {}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    if content:
        path.write_text(json.dumps(content), encoding="utf-8")
