"""What is needed only at the end of a training, loaded before its first step.

A training goes on while btmd is upgraded: what it imported later would be of other versions than what it runs with, or
not there at all while it is being written.
"""

from importlib import metadata

import numpy.ctypeslib  # safetensors, writing
import numpy.ma  # noqa: F401 - np.unique
from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: F401 - btmd.data.answers_file

_PACKAGES = ("btmd", "torch", "transformers", "peft", "safetensors", "tokenizers", "numpy")


def _found() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


VERSIONS = _found()
"""Of the packages as they were when this was loaded."""
