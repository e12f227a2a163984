"""Is the verdict right? Twelve prepared trainings of a small real model, three seeds each.

`python -m benchmarks.verdict [--only NAME] [--seeds 3] [--model FOLDER]`. Each training is a trainer process as the
daemon starts it; what came of it is kept in benchmarks/kept/verdict, so that an interrupted proof goes on where it was,
on another machine as well. With `--judge` nothing is trained, and what is kept is judged anew.
"""

import argparse
import hashlib
import json
import random
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.results import Figure, Topic, record
from benchmarks.training_speed import demo_model
from benchmarks.verdict_cases import CASES, Case, Rows
from btmd.frames import Finished, HeldOutEvaluated, Tick, as_data
from btmd.hardware.cpu import read_cpu
from btmd.job_folder import JobFolder, LoraPlan, TrainerPlan
from btmd.jobs.outcome import LAST_STEPS, to_evidence
from btmd.monitoring.verdict import Evidence, Verdict, judge
from tests.trainer.job import frames_of, log_of, run_to_end

WORK = Path(__file__).parents[1] / ".proof" / "verdict"
KEPT = Path(__file__).parent / "kept" / "verdict"
SEEDS = 3
TRAINING_S = 3600.0


def main() -> int:
    """1 when a verdict is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", metavar="NAME", help="cases whose name holds this")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--judge", action="store_true", help="judge what was trained before")
    given = parser.parse_args()
    model = given.model or demo_model()
    found: list[tuple[Case, int, Verdict]] = []
    for case in CASES:
        for seed in range(1, given.seeds + 1):
            if given.only not in case.name:
                continue
            evidence = _evidence(case, seed, model, train=not given.judge)
            if evidence is not None:
                found.append((case, seed, judge(evidence)))
                _tell(case, seed, evidence, found[-1][2])
    if not given.only and len(found) == len(CASES) * given.seeds:
        _record(found)
    return 0 if all(case.right(verdict) for case, _, verdict in found) else 1


def _evidence(case: Case, seed: int, model: Path, *, train: bool) -> Evidence | None:
    """What a case's training came to, from an earlier run of this program or from a training now."""
    name = f"{case.name.replace(' ', '-')}-{seed}"
    kept = KEPT / f"{name}-{_key(case, seed, model)}.json"
    if kept.exists():
        return msgspec.json.decode(kept.read_bytes(), type=Evidence)
    if not train:
        return None
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    draw, start = random.Random(seed), None
    if case.first is not None:
        first = _train(WORK / "first", case.first(draw), seed, model, case.first_plan, None)
        start = first.result
    folder = _train(WORK / "case", case.rows(draw), seed, model, case.plan, start)
    evidence = _read(folder)
    KEPT.mkdir(parents=True, exist_ok=True)
    for older in KEPT.glob(f"{name}-*"):
        older.unlink()
    kept.write_bytes(msgspec.json.encode(evidence) + b"\n")
    shutil.rmtree(WORK)
    return evidence


def _key(case: Case, seed: int, model: Path) -> str:
    """Changes with the rows, the plan and what trains, so that nothing old is taken for what it would be now."""
    draw = random.Random(seed)
    rows = [] if case.first is None else [case.first(draw)]
    parts = [str([(one.train, one.held_out) for one in [*rows, case.rows(draw)]]), str(case.plan), str(case.first_plan)]
    return hashlib.sha256("\n".join([*parts, model.name, _trained_by()]).encode()).hexdigest()[:10]


@cache
def _trained_by() -> str:
    """Of the programs that a result hangs on."""
    programs = Path(__file__).parents[1] / "btmd"
    files = sorted(path for part in ("trainer", "data") for path in (programs / part).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _train(root: Path, rows: Rows, seed: int, model: Path, changes: dict[str, Any], start: Path | None) -> JobFolder:
    root.mkdir()
    lines = [
        {
            "line": number,
            "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
            "split": split,
        }
        for number, (question, answer, split) in enumerate(
            [(*pair, "train") for pair in rows.train] + [(*pair, "held_out") for pair in rows.held_out], 1
        )
    ]
    path = root / "rows.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    folder = JobFolder(root / "job")
    folder.create(_plan(path, seed, model, changes, start))
    code = run_to_end(folder, timeout_s=TRAINING_S)
    if code != 0 or not any(isinstance(frame, Finished) for frame in frames_of(folder)):
        sys.exit(f"a training ended with {code}: {log_of(folder)[-2000:]}")
    return folder


def _plan(rows: Path, seed: int, model: Path, changes: dict[str, Any], start: Path | None) -> TrainerPlan:
    plan = TrainerPlan(
        job_id="proof",
        store_id="proof",
        epoch=1,
        model_folder=str(model),
        rows_path=str(rows),
        rows_sha256=hashlib.sha256(rows.read_bytes()).hexdigest(),
        training_type="lora_adaptation",
        num_epochs=1,
        learning_rate=1e-3,
        batch_size=8,
        micro_batch_size=8,
        max_length=256,
        warmup_ratio=0.1,
        lr_scheduler="cosine",
        weight_decay=0.0,
        max_gradient_norm=1.0,
        # As a plan would have it: without instructions for bf16 a step takes many times as long in it.
        precision="bf16" if read_cpu().native_bf16 else "fp32",
        gradient_checkpointing=False,
        compile=False,
        packing=False,
        held_out_fraction=0.1,
        eval_every=0,
        save_every=0,
        patience=0,
        seed=seed,
        threads=2,
        device="cpu",
        lora=LoraPlan(r=16, alpha=32, dropout=0.0),
        sample_answers=0,
        sample_tokens=32,
        scored_answers=30,
        general_questions=60,
        submitted_us=1_700_000_000_000_000,
        adapter_folder=None if start is None else str(start),
    )
    return msgspec.structs.replace(plan, **changes)


def _read(folder: JobFolder) -> Evidence:
    frames = frames_of(folder)
    finished = next(frame for frame in frames if isinstance(frame, Finished))
    history = {one.step: one.loss for one in frames if isinstance(one, HeldOutEvaluated) and one.when == "during"}
    losses = [loss for one in frames if isinstance(one, Tick) for loss in one.losses]
    return to_evidence(as_data(finished), history, losses[-LAST_STEPS:])


def _tell(case: Case, seed: int, seen: Evidence, verdict: Verdict) -> None:
    right = "right" if case.right(verdict) else "WRONG"
    print(f"{right}: {case.kind}: {case.name}, seed {seed}: {verdict}", flush=True)
    print(f"    {seen}", flush=True)


def _record(found: list[tuple[Case, int, Verdict]]) -> None:
    figures = [Figure("verdicts", [len(found)], digits=0)]
    wrong = [(case, seed, verdict) for case, seed, verdict in found if not case.right(verdict)]
    figures.append(Figure("wrong ones", [len(wrong)], "", "<= 0", digits=0))
    for kind in dict.fromkeys(case.kind for case in CASES):
        right = sum(case.right(verdict) for case, _, verdict in found if case.kind == kind)
        total = sum(case.kind == kind for case, _, _ in found)
        figures.append(Figure(f"right: {kind}", [100 * right / total], "%", ">= 100", digits=0))
    notes = [f"Wrong: {case.name}, seed {seed}: {verdict.kind}" for case, seed, verdict in wrong]
    notes.append(
        "Trainings of the demo model (135 M parameters), two cases of each kind, with rows made up for each seed."
    )
    record(Topic("Verdict", "make proof-verdict", figures, ("torch",), notes))


if __name__ == "__main__":
    sys.exit(main())
