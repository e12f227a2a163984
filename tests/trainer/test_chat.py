"""The chat child: loads once, answers line by line, and nothing else is on its standard output."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from btmd.data.encoding import Encoder
from btmd.trainer.chat import pieces
from tests.trainer.here import train_here
from tests.trainer.job import full_fine_tune, make_job


def ask(arguments: list[str], *questions: dict[str, Any] | str) -> list[dict[str, Any]]:
    lines = [question if isinstance(question, str) else json.dumps(question) for question in questions]
    command = [sys.executable, "-m", "btmd.trainer.chat", *arguments, "--precision", "fp32", "--threads", "1"]
    done = subprocess.run(
        command, input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def answers(told: list[dict[str, Any]]) -> list[str]:
    """The text of each question that was answered."""
    found, text = [], ""
    for line in told:
        text += line.get("token", "")
        if "done" in line:
            found.append(text)
            text = ""
    return found


QUESTION = {"messages": [{"role": "user", "content": "Where is the bell number 0?"}], "max_new_tokens": 24}


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_base_and_tuned_answer_as_the_job_saw_them(kind: str, tmp_path: Path) -> None:
    changes = full_fine_tune() if kind == "full" else {}
    folder = make_job(tmp_path, **changes, num_epochs=25, sample_tokens=24, save_every=0)
    train_here(folder)
    [sample] = json.loads(folder.answers_path.read_bytes())["samples"]
    model = folder.read_plan().model_folder
    told = ask(
        [model, "--full" if kind == "full" else "--adapter", str(folder.result)],
        QUESTION | {"which": "base"},
        QUESTION | {"which": "tuned"},
        "this is no question",
        QUESTION | {"which": "base"},
    )
    assert told[0] == {"ready": True}
    base, tuned, again = answers(told)
    assert base.strip() == again.strip() == sample["base"]
    assert tuned != base
    if kind == "lora":  # a full result is rounded to bf16
        assert tuned.strip() == sample["tuned"]
    assert [line["error"]["code"] for line in told if "error" in line] == ["bad_request"]
    assert [line["which"] for line in told if "done" in line] == ["base", "tuned", "base"]


class ByteEncoder(Encoder):
    """Tokens are bytes."""

    def __init__(self) -> None:
        pass

    def decode(self, ids: Any) -> str:
        return bytes(ids).decode("utf-8", "replace")


@pytest.mark.parametrize("text", ["plain", "naïve café", "日本語 ok", "🙂"])
def test_a_character_of_several_tokens_comes_out_whole(text: str) -> None:
    tokens: Iterator[int] = iter(text.encode())
    found = [piece for piece, _ in pieces(ByteEncoder(), tokens)]
    assert "".join(found) == text
    assert all(len(piece) == 1 for piece in found)


def test_an_answer_cut_inside_a_character_is_told_to_its_end() -> None:
    cut = "é".encode()[:1]
    assert [piece for piece, _ in pieces(ByteEncoder(), iter(b"a" + cut))] == ["a", "\ufffd"]
