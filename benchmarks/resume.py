"""Exact resume, the long form: ten SIGKILLs at different steps and two pauses, for each way of training.

Run it with ``python -m benchmarks.resume``. Every loss told by any attempt is compared, bit by bit, with the same step
of a run that nobody disturbed.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.results import Figure, Topic, record
from btmd.frames import Finished, Stopped, Tick
from btmd.job_folder import JobFolder
from tests.trainer.job import (
    frames_of,
    full_fine_tune,
    kill_at_step,
    log_of,
    losses_of,
    make_job,
    run_to_end,
    start,
    wait_for,
)
from tests.trainer.test_continued_pretraining import make_text_job
from tests.trainer.test_preference import make_pairs_job

KILLS = 10
PAUSES = 2
STEPS_APART = 6
KINDS: dict[str, tuple[Callable[..., JobFolder], dict[str, Any]]] = {
    "adapters": (make_job, {}),
    "all weights": (make_job, full_fine_tune()),
    "pairs": (make_pairs_job, {}),
    "pairs, all weights": (make_pairs_job, {"lora": None, "learning_rate": 1e-3}),
    "plain text": (make_text_job, {}),
}


def main() -> int:
    """1 when any number differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    precision = parser.parse_args().precision
    figures: list[Figure] = []
    for kind, (make, changes) in KINDS.items():
        with tempfile.TemporaryDirectory() as root:
            figures += measure(Path(root), kind, make, changes | {"precision": precision})
    record(
        Topic(
            title=f"Exact resume ({precision})",
            command="make proof-resume"
            if precision == "fp32"
            else f"python -m benchmarks.resume --precision {precision}",
            figures=figures,
            packages=("torch", "transformers", "peft"),
            notes=(
                "A tiny Llama, adapters with dropout 0.1, a full fine-tune, preference tuning and plain text; "
                "micro-batches of 2 in steps of 6 rows (4 blocks of text), "
                f"a checkpoint every 3 steps. {KILLS} SIGKILLs, each {STEPS_APART} steps or more after the last, then "
                f"{PAUSES} pauses by SIGTERM (where they fall in a step is left to chance; the tests pause in the "
                "middle of one), then to the end.",
            ),
        )
    )
    return 0 if all(figure.met is not False for figure in figures) else 1


def measure(root: Path, kind: str, make: Callable[..., JobFolder], changes: dict[str, Any]) -> list[Figure]:
    """Run the job twice, calm and disturbed, and compare."""
    changes = changes | {"num_epochs": 30, "save_every": 3, "eval_every": 10, "sample_answers": 0}
    calm = make(root, "calm", **changes)
    if run_to_end(calm):
        raise RuntimeError(log_of(calm))
    disturbed = make(root, "disturbed", **changes)
    attempts = disturb(disturbed)
    expected = losses_of(calm)
    compared = differing = 0
    for attempt in range(1, attempts + 1):
        for step, loss in losses_of(disturbed, [attempt]).items():
            compared += 1
            differing += loss != expected[step]
    missing = expected.keys() - losses_of(disturbed, range(1, attempts + 1)).keys()
    one, other = finished(calm, 1), finished(disturbed, attempts)
    same_end = (one.held_out_after, one.best_step) == (other.held_out_after, other.best_step)
    return [
        Figure(f"{kind}: losses compared", [compared], digits=0),
        Figure(f"{kind}: losses that differ", [differing], target="<= 0", digits=0),
        Figure(f"{kind}: steps never told of", [len(missing)], target="<= 0", digits=0),
        Figure(f"{kind}: held-out loss and best step at the end differ", [int(not same_end)], target="<= 0", digits=0),
    ]


def disturb(folder: JobFolder) -> int:
    """Kill, pause, and let it end; returns the number of attempts."""
    attempt = 0
    for _ in range(KILLS):
        attempt += 1
        kill_at_step(folder, attempt, STEPS_APART * attempt)
    for _ in range(PAUSES):
        attempt += 1
        trainer = start(folder, attempt)
        wait_for(folder, lambda frame: isinstance(frame, Tick), trainer, attempt)
        trainer.send_signal(signal.SIGTERM)
        trainer.wait(120)
        if not isinstance(frames_of(folder, attempt)[-1], Stopped | Finished):
            raise RuntimeError(log_of(folder, attempt))
    attempt += 1
    if run_to_end(folder, attempt):
        raise RuntimeError(log_of(folder, attempt))
    return attempt


def finished(folder: JobFolder, attempt: int) -> Finished:
    frame = frames_of(folder, attempt)[-1]
    if not isinstance(frame, Finished):
        raise RuntimeError(f"attempt {attempt} did not finish: {log_of(folder, attempt)}")
    return frame


if __name__ == "__main__":
    sys.exit(main())
