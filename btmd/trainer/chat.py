"""``python -m btmd.trainer.chat <model folder> [--adapter F | --full F]``: answers questions from stdin until it ends.

A line in: ``{"messages": [...], "which": "base" | "tuned", "max_new_tokens": 256, "temperature": 0, "seed": 0}``.
Lines out: ``{"ready": true}`` once loaded, then for each question ``{"token": "text"}`` as they come and
``{"done": true, "which": ..., "tokens": n, "seconds": s}``, or ``{"error": {"code", "detail", "hint"}}``.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import msgspec

from btmd.data.encoding import Encoder
from btmd.data.rows import Message
from btmd.errors import BadRequest, BtmdError, Conflict
from btmd.no_network import OFFLINE, leave_the_network_with_gpus
from btmd.trainer.process import number_devices_as_the_driver_does, share_processors

if TYPE_CHECKING:
    from btmd.trainer.model import Precision, TrainableModel

_UNFINISHED = "\ufffd"
"""What the decoder gives for a character of which some bytes are still to come."""


class Question(msgspec.Struct, forbid_unknown_fields=True):
    messages: list[Message]
    which: Literal["base", "tuned"] = "tuned"
    max_new_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0


class Answerer:
    """The loaded model, or for a full fine-tune the two models. The base model is only loaded when it is asked."""

    def __init__(
        self, base: Path, *, adapter: Path | None, full: Path | None, precision: "Precision", threads: int
    ) -> None:
        self._base_folder, self._full_folder = base, full
        self._has_adapter = adapter is not None
        self._precision = precision
        if threads:
            import torch

            torch.set_num_threads(threads)
        self.encoder = Encoder.load(full or base)
        self._models = {full or base: self._load(full or base, adapter)}

    def _load(self, folder: Path, adapter: Path | None) -> "TrainableModel":
        import torch

        from btmd.trainer.model import LoraSettings, load_trainable

        # Without an adapter the smallest one is put on and always left out: that keeps the weights in 16 bits,
        # where loading them as trainable would hold a second copy in 32.
        return load_trainable(
            folder,
            training_type="lora_adaptation",
            precision=self._precision,
            lora=LoraSettings(r=1) if adapter is None else None,
            gradient_checkpointing=False,
            seed=0,
            device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
            adapter_folder=adapter,
        )

    def answer(self, question: Question) -> Iterator[int]:
        """The answer's tokens; raises Conflict when there is no tuned model."""
        tuned = question.which == "tuned"
        if tuned and not self._has_adapter and self._full_folder is None:
            raise Conflict("Only the base model is loaded.", hint="Name a finished job's result.")
        folder = self._full_folder if tuned and self._full_folder is not None else self._base_folder
        if folder not in self._models:
            self._models[folder] = self._load(folder, None)
        tokens: Iterator[int] = self._models[folder].generate(
            self.encoder.prompt_ids(question.messages),
            max_new_tokens=question.max_new_tokens,
            eos_ids=set(self.encoder.eos_ids),
            temperature=question.temperature,
            seed=question.seed,
            base=not (tuned and self._has_adapter),
        )
        return tokens


def pieces(encoder: Encoder, tokens: Iterator[int]) -> Iterator[tuple[str, int]]:
    """The text that each token adds, with the number of tokens so far; bytes of a character wait for the rest."""
    ids: list[int] = []
    told = ""
    for token in tokens:
        ids.append(token)
        text = encoder.decode(ids)
        if not text.endswith(_UNFINISHED):
            yield text[len(told) :], len(ids)
            told = text
    text = encoder.decode(ids)
    if text != told:
        yield text[len(told) :], len(ids)


def serve(answerer: Answerer, questions: BinaryIO, out: BinaryIO) -> None:
    """Answer one question after the other until the input ends."""
    _tell(out, {"ready": True})
    for line in questions:
        started_s = time.monotonic()
        try:
            question = msgspec.json.decode(line, type=Question)
            count = 0
            for text, so_far in pieces(answerer.encoder, answerer.answer(question)):
                _tell(out, {"token": text})
                count = so_far
        except msgspec.DecodeError as error:
            _tell(out, {"error": _as_data(BadRequest(f"The question cannot be read: {error}"))})
        except BtmdError as error:
            _tell(out, {"error": _as_data(error)})
        else:
            seconds = round(time.monotonic() - started_s, 3)
            _tell(out, {"done": True, "which": question.which, "tokens": count, "seconds": seconds})


def _tell(out: BinaryIO, message: dict[str, object]) -> None:
    out.write(msgspec.json.encode(message) + b"\n")
    out.flush()


def _as_data(error: BtmdError) -> dict[str, str]:
    return {"code": error.code, "detail": error.detail, "hint": error.hint}


def main(arguments: list[str] | None = None) -> int:
    """0 when the input ended, 1 when the model cannot be loaded (the error is the only line)."""
    parser = argparse.ArgumentParser(prog="python -m btmd.trainer.chat")
    parser.add_argument("model", type=Path)
    tuned = parser.add_mutually_exclusive_group()
    tuned.add_argument("--adapter", type=Path)
    tuned.add_argument("--full", type=Path)
    parser.add_argument("--precision", choices=("bf16", "fp16", "fp32"), default="bf16")
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args(arguments)
    leave_the_network_with_gpus()
    os.environ.update(OFFLINE)
    share_processors()
    number_devices_as_the_driver_does()
    # Whatever a library prints goes to stderr: the answers have the real standard output to themselves.
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)
        try:
            answerer = Answerer(
                given.model, adapter=given.adapter, full=given.full, precision=given.precision, threads=given.threads
            )
        except BtmdError as error:
            _tell(out, {"error": _as_data(error)})
            return 1
        serve(answerer, sys.stdin.buffer, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
