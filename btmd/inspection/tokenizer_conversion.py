"""Makes a tokenizer.json from the older kinds of tokenizer files, once, with transformers."""

import os
import shutil
from pathlib import Path
from typing import Any

from btmd.errors import TokenizerMissing
from btmd.inspection.requests import aside


def convert_tokenizer(model_folder: Path, tokenizer_folder: Path) -> None:
    """Write tokenizer.json and what belongs to it into a new folder, which appears whole or not at all.

    Raises TokenizerMissing when the installed libraries cannot read the tokenizer.
    """
    from transformers import AutoTokenizer

    part = Path(aside(str(tokenizer_folder)))
    shutil.rmtree(part, ignore_errors=True)
    try:
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(
                model_folder, local_files_only=True, trust_remote_code=False, use_fast=True
            )
            tokenizer.save_pretrained(part)
        # Dozens of tokenizer classes raise what they like for files they cannot read or libraries they lack.
        except Exception as error:
            raise TokenizerMissing(
                f"The model's tokenizer is of an old kind and could not be converted ({type(error).__name__}).",
                hint="Use a version of the model that has tokenizer.json.",
            ) from error
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
