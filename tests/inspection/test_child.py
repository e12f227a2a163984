"""The child answers on standard output alone, whatever libraries print, and ends with its parent."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

from btmd.hardware.memory import read_memory
from btmd.inspection.requests import AnyRequest
from btmd.inspection.tasks import TASKS
from tests.fixtures.tiny_model import make_tiny_llama

CHILD = [sys.executable, "-m", "btmd.inspection"]


def asked(request: dict[str, Any] | str) -> tuple[int, list[dict[str, Any]]]:
    line = request if isinstance(request, str) else json.dumps(request)
    # Standard input stays open until the answer is there, as the daemon keeps it.
    with subprocess.Popen(CHILD, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(line.encode() + b"\n")
        child.stdin.flush()
        answers = [json.loads(answer) for answer in child.stdout.read().splitlines()]
        child.stdin.close()
        return child.wait(), answers


def test_a_request_is_answered_with_one_result(tmp_path: Path) -> None:
    source = tmp_path / "data"
    source.write_text('{"question": "Why?", "answer": "Because."}\n')
    request = {"what": "dataset", "source": str(source), "name": "data.jsonl", "rows": str(tmp_path / "rows")}
    code, answers = asked(request)
    assert code == 0
    assert all("progress" in answer for answer in answers[:-1])
    assert answers[-1]["result"]["rows_kept"] == 1
    assert (tmp_path / "rows").stat().st_mode & 0o777 == 0o600


def test_a_refusal_is_answered_with_its_code(tmp_path: Path) -> None:
    request = {"what": "model", "folder": str(tmp_path)}
    code, answers = asked(request)
    assert code == 1
    assert answers[-1]["error"]["code"] == "not_a_model"
    assert answers[-1]["error"]["detail"]
    assert answers[-1]["error"]["hint"]


def test_a_request_it_does_not_know_is_answered_too() -> None:
    for line in ('{"what": "dinner"}', "not json", ""):
        code, answers = asked(line)
        assert (code, answers[-1]["error"]["code"]) == (1, "child_failed")


def test_what_a_library_prints_does_not_reach_the_answers(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path / "model")
    noisy = tmp_path / "noisy"
    noisy.mkdir()
    (noisy / "sitecustomize.py").write_text(
        "import builtins, os\n"
        "real = builtins.__import__\n"
        "def loud(name, *rest, **more):\n"
        "    if name.startswith('tokenizers') or name.startswith('btmd.inspection.model'):\n"
        "        print('Hello from a library'); os.write(1, b'and from below it\\n')\n"
        "        os.write(2, b'x' * 1000)\n"
        "    return real(name, *rest, **more)\n"
        "import sys\n"
        "if 'btmd.inspection' in sys.orig_argv: builtins.__import__ = loud\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(noisy)}
    request = json.dumps({"what": "model", "folder": str(folder)}) + "\n"
    child = subprocess.Popen(
        CHILD, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    with child:
        child.stdin.write(request.encode())
        child.stdin.flush()
        answers = [json.loads(line) for line in child.stdout.read().splitlines()]
        assert b"Hello from a library" in child.stderr.read()
    assert answers[-1]["result"]["family"] == "llama"


def test_it_ends_when_its_parent_is_gone(tmp_path: Path) -> None:
    fifo = tmp_path / "endless"
    os.mkfifo(fifo)
    # Opening a named pipe that nobody writes to waits for ever: the child can only end by noticing its parent's end.
    request = json.dumps({"what": "tokens", "rows": str(fifo), "model": str(make_tiny_llama(tmp_path / "model"))})
    with subprocess.Popen(CHILD, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        assert child.stdin is not None
        child.stdin.write(request.encode() + b"\n")
        child.stdin.close()
        assert child.wait(timeout=60) == 1


def test_a_template_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    # Less than the machine has, more than a child may take.
    size_bytes = max(read_memory().available_bytes, 4 * 1024**3) * 3 // 4
    folder = make_tiny_llama(tmp_path / "model", chat_template="{{ 'a' * " + str(size_bytes) + " }}")
    code, answers = asked({"what": "model", "folder": str(folder)})
    assert (code, answers[-1]["error"]["code"]) == (1, "not_enough_memory")


def test_every_kind_of_request_has_its_task_and_loads_nothing_before() -> None:
    assert set(TASKS) == set(get_args(AnyRequest))
    program = "import sys, btmd.inspection.__main__; print(*sorted(m for m in sys.modules if m in sys.argv[1:]))"
    heavy = ["numpy", "torch", "transformers", "tokenizers", "pyarrow", "pypdfium2", "charset_normalizer", "sqlite3"]
    assert subprocess.check_output([sys.executable, "-c", program, *heavy], text=True).split() == []
