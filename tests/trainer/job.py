"""A small real job in a folder: rows, a tiny model, a plan; and a trainer that is started as in real life."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from btmd.frames import AnyFrame, Tick, read_frames
from btmd.job_folder import JobFolder, LoraPlan, TrainerPlan
from tests.fixtures.tiny_model import make_tiny_llama

_PLACES = ("harbour", "hive", "wood", "valley", "island", "mill", "market", "bridge")
_THINGS = ("bell", "lamp", "boat", "wheel", "gate", "clock", "well", "tower")


def write_rows(path: Path, *, count: int, held_out_every: int = 6) -> str:
    """Write question/answer rows of differing lengths, every so-manyth held out; returns the file's SHA-256."""
    lines = []
    for index in range(count):
        place, thing = _PLACES[index % 8], _THINGS[index // 8 % 8]
        question = f"Where is the {thing} number {index}?" + " Tell me." * (index % 5)
        answer = f"The {thing} stands in the {place}" + " by the sea" * (index % 7) + "."
        row: dict[str, Any] = {
            "line": index + 1,
            "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
            "split": "held_out" if held_out_every and index % held_out_every == 0 else "train",
        }
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines) + "\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_plan(root: Path, *, rows: int = 36, held_out_every: int = 6, **changes: Any) -> TrainerPlan:
    """A plan for a tiny Llama under ``root``; LoRA with dropout, fp32, one thread, ticks for every step."""
    model = root / "model"
    if not model.exists():
        make_tiny_llama(model, hidden=32, layers=2, heads=2, kv_heads=1, vocab=320)
    rows_path = root / "rows.jsonl"
    sha256 = write_rows(rows_path, count=rows, held_out_every=held_out_every)
    plan = TrainerPlan(
        job_id="abcdefghij",
        store_id="store",
        epoch=1,
        model_folder=str(model),
        rows_path=str(rows_path),
        rows_sha256=sha256,
        training_type="lora_adaptation",
        num_epochs=2,
        learning_rate=5e-3,
        batch_size=6,
        micro_batch_size=2,
        max_length=256,
        warmup_ratio=0.1,
        lr_scheduler="cosine",
        weight_decay=0.01,
        max_gradient_norm=1.0,
        precision="fp32",
        gradient_checkpointing=False,
        compile=False,
        packing=False,
        held_out_fraction=0.1,
        eval_every=0,
        save_every=4,
        patience=0,
        seed=7,
        threads=1,
        device="cpu",
        lora=LoraPlan(r=4, alpha=8, dropout=0.1),
        tick_every_s=0.0,
        sample_answers=1,
        sample_tokens=4,
        submitted_us=1_700_000_000_000_000,
    )
    return msgspec.structs.replace(plan, **changes)


def make_job(root: Path, name: str = "job", **changes: Any) -> JobFolder:
    """A job folder under ``root`` that is ready to be trained."""
    folder = JobFolder(root / name)
    folder.create(make_plan(root, **changes))
    return folder


def full_fine_tune() -> dict[str, Any]:
    """Changes that make a plan a full fine-tune."""
    return {"training_type": "fine_tuning", "lora": None, "learning_rate": 1e-3}


def start(folder: JobFolder, attempt: int = 1, *, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a trainer as the daemon does: the lock inherited, no stdin, output to the attempt's log, own session."""
    lock = folder.take_lock()
    assert lock is not None, "a trainer still holds the lock"
    try:
        with folder.log_path(attempt).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "btmd.trainer", str(folder.path), "--attempt", str(attempt)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )
    finally:
        os.close(lock)


def run_to_end(folder: JobFolder, attempt: int = 1, *, timeout_s: float = 120) -> int:
    """Run an attempt and return its exit status."""
    return start(folder, attempt).wait(timeout_s)


def frames_of(folder: JobFolder, attempt: int = 1) -> list[AnyFrame]:
    return [found.frame for found in read_frames(folder.spool_path(attempt))]


def wait_for(
    folder: JobFolder, wanted: Callable[[AnyFrame], bool], trainer: subprocess.Popen[bytes], attempt: int = 1
) -> AnyFrame:
    """The first frame that is wanted; fails when the trainer ends without it."""
    while True:
        ended = trainer.poll() is not None
        for frame in frames_of(folder, attempt):
            if wanted(frame):
                return frame
        assert not ended, f"the trainer ended without it: {log_of(folder, attempt)}"
        time.sleep(0.005)


def kill_at_step(folder: JobFolder, attempt: int, step: int) -> None:
    """Run an attempt and SIGKILL it as soon as it has told of ``step``."""
    trainer = start(folder, attempt)
    wait_for(folder, lambda frame: isinstance(frame, Tick) and frame.step >= step, trainer, attempt)
    trainer.send_signal(signal.SIGKILL)
    trainer.wait(30)


def losses_of(folder: JobFolder, attempts: Sequence[int] = (1,)) -> dict[int, float]:
    """The loss of each step as last told, over several attempts."""
    found: dict[int, float] = {}
    for attempt in attempts:
        for frame in frames_of(folder, attempt):
            if isinstance(frame, Tick):
                found.update(zip(frame.steps, frame.losses, strict=True))
    return found


def log_of(folder: JobFolder, attempt: int = 1) -> str:
    return folder.log_path(attempt).read_text(errors="replace")
