"""From the submission to the first step, against a bare script that imports, loads and takes one step.

Run it with ``python -m benchmarks.start_up [--model FOLDER]``. Without a folder a Llama of the size of SmolLM2-135M
with random weights is made. Both sides train adapters on all linear layers in bf16 on the same rows.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from benchmarks.results import Figure, Topic, record
from btmd.frames import FrameWriter, Tick
from btmd.job_folder import JobFolder, LoraPlan
from btmd.trainer.reporter import Reporter
from tests.fixtures.daemon import Client, DaemonProcess, config_of, rows
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama
from tests.trainer.job import make_job, start, wait_for

BARE = """
import json, sys
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, rows, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.set_num_threads(threads)
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
texts = [tokenizer.apply_chat_template(json.loads(line)["messages"], tokenize=False) for line in open(rows)]
batch = tokenizer(texts[:6], return_tensors="pt", padding=True)
labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
loss = model(**batch, labels=labels).loss
loss.backward()
optimizer.step()
print(float(loss.detach()))
"""
TICKS = 2000


def main() -> int:
    """1 when the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        model = given.model or make_tiny_llama(
            root / "model", hidden=576, layers=30, heads=9, kv_heads=3, intermediate=1536, vocab=49152, dtype="bfloat16"
        )
        with short_folder() as folder:
            figures = [*measure_start(root, folder, model, given.rounds), *measure_reporting(root)]
    record(
        Topic(
            title="Start of a training",
            command="make proof-start-up",
            figures=figures,
            packages=("torch", "transformers", "peft"),
            notes=(
                "Ratios of one round each, the sides in turns; no evaluation on any. A submission's time ends when the "
                "first step is in the daemon's log, planning and the measuring of the rows' tokens included; the "
                "trainer's when its first tick is in the spool; the script's when it ends.",
            ),
        )
    )
    return 0 if all(figure.met is not False for figure in figures) else 1


def measure_start(root: Path, short: Path, model: Path, rounds: int) -> list[Figure]:
    """Seconds to the first step through the daemon, by the trainer alone, and in the bare script, in turns."""
    submitted_s, ours_s, bare_s, cpu_ratios = [], [], [], []
    with DaemonProcess(config_of(short)) as daemon:
        model_id = daemon.client.add_model(model)["model_id"]
        daemon.client.add_dataset(rows(200))
        daemon.client.patch("/settings", {"changes": {"training.tick_every_s": 0.1}}).ok()
        for number in range(rounds):
            submitted_s.append(time_submission(daemon.client, model_id))
            folder = make_job(
                root,
                f"job-{number}",
                held_out_every=0,
                held_out_fraction=0.0,
                model_folder=str(model.resolve()),
                precision="bf16",
                threads=os.cpu_count() or 1,
                lora=LoraPlan(r=16, alpha=32, dropout=0.0),
                micro_batch_size=6,
                max_steps=1,
                save_every=0,
                sample_answers=0,
            )
            our_wall_s, our_cpu_s = time_trainer(folder)
            bare_wall_s, bare_cpu_s = time_bare(model, folder)
            ours_s.append(our_wall_s)
            bare_s.append(bare_wall_s)
            cpu_ratios.append(our_cpu_s / bare_cpu_s)
    return [
        Figure("submission to first step", submitted_s, "s"),
        Figure("trainer, start to first step", ours_s, "s"),
        Figure("bare script", bare_s, "s"),
        Figure(
            "submission to first step / bare script",
            [ours / bare for ours, bare in zip(submitted_s, bare_s, strict=True)],
            target="<= 1.3",
        ),
        Figure("trainer / bare script", [ours / bare for ours, bare in zip(ours_s, bare_s, strict=True)]),
        Figure("ratio of processor time, trainer / bare script", cpu_ratios),
    ]


def time_submission(client: Client, model_id: str) -> float:
    """Seconds from asking the daemon to the first step in its log."""
    overrides = {"held_out_fraction": 0.0, "sample_answers": 0, "batch_size": 6, "micro_batch_size": 6, "max_steps": 1}
    asked_us = time.time_ns() // 1000
    job_id = client.start(model_id=model_id, overrides=overrides)
    client.wait_until(job_id, "completed")
    first = next(one for one in client.events(stream=f"ticks-{job_id}") if one["type"] == "TrainingProgressed")
    recorded = datetime.fromisoformat(first["recorded_at"])
    return recorded.timestamp() - asked_us / 1e6


def time_trainer(folder: JobFolder) -> tuple[float, float]:
    """Wall seconds to the first tick, and processor seconds of the whole attempt, its result included."""
    started_us = time.time_ns() // 1000
    before = os.times()
    trainer = start(folder)
    tick = wait_for(folder, lambda frame: isinstance(frame, Tick), trainer)
    trainer.wait()
    after = os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return (tick.at_us - started_us) / 1e6, cpu_s


def time_bare(model: Path, folder: JobFolder) -> tuple[float, float]:
    """Wall and processor seconds of the script from start to end."""
    plan = folder.read_plan()
    before, started_s = os.times(), time.monotonic()
    subprocess.run(
        [sys.executable, "-c", BARE, str(model), plan.rows_path, str(plan.threads)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"},
    )
    wall_s, after = time.monotonic() - started_s, os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return wall_s, cpu_s


def measure_reporting(root: Path) -> list[Figure]:
    """What telling of one step costs, for a tick at every step and for one that waits its turn."""
    costs_us = []
    for name, tick_every_s in (("every", 0.0), ("seldom", 3600.0)):
        reporter = Reporter(FrameWriter(root / f"{name}.spool"), tick_every_s=tick_every_s)
        before_s = time.process_time()
        for step in range(1, TICKS + 1):
            reporter.step_done(
                step=step,
                total_steps=TICKS,
                epoch=0,
                loss=1.5 / step,
                tokens=2000,
                seconds=1.0,
                learning_rate=1e-4,
                gradient_norm=0.5,
            )
        costs_us.append((time.process_time() - before_s) / TICKS * 1e6)
    with_tick_us, without_us = costs_us
    return [
        Figure("telling of a step with a tick of its own", [with_tick_us], "us of processor time", digits=0),
        Figure("noting a step until the next tick", [without_us], "us of processor time"),
        Figure(
            "reporting, steps of 0.1 s, a tick a second", [(without_us + with_tick_us / 10) / 1e5 * 100], "%", "< 1", 4
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
