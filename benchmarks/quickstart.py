"""The quickstart as a new user runs it after the install: how long it takes and what it achieves.

The time allowed is six minutes on two cores that multiply bf16 matrices at 408 GFLOP/s, and in proportion where this
machine is slower; the rate is measured before and after the run.
"""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.results import Figure, Topic, record

ALLOWED_S = 360.0
REFERENCE_GFLOPS = 408.0
MATRIX_SIDE = 2048
RATE_PROGRAM = f"""
import time, torch
a = torch.randn({MATRIX_SIDE}, {MATRIX_SIDE}, dtype=torch.bfloat16); b = a.clone()
a @ b
rates = []
for _ in range(9):
    start = time.perf_counter(); a @ b; rates.append(2 * {MATRIX_SIDE}**3 / (time.perf_counter() - start) / 1e9)
print(sorted(rates)[len(rates) // 2])
"""


def matrix_rate_gflops() -> float:
    """GFLOP/s of a bf16 matrix product, in a process of its own so that this one stays small."""
    done = subprocess.run([sys.executable, "-c", RATE_PROGRAM], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> int:
    btmctl = str(Path(sys.executable).with_name("btmctl"))
    with tempfile.TemporaryDirectory(prefix="btmd-") as folder:
        names = ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "HOME")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BTMD_")}
        environment |= dict.fromkeys(names, folder)
        rates = [matrix_rate_gflops()]
        start = time.perf_counter()
        done = subprocess.run([btmctl, "quickstart", "--json"], env=environment, stdout=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - start
        rates.append(matrix_rate_gflops())
        if health := _health(btmctl, environment):
            end_daemon(int(health["pid"]))
    if done.returncode != 0:
        return done.returncode
    report = json.loads(done.stdout)
    allowed_s = ALLOWED_S * max(1.0, REFERENCE_GFLOPS / (sum(rates) / len(rates)))
    figures = [
        Figure("bf16 matrix product", rates, "GFLOP/s", digits=0),
        Figure(
            "from the command to the answers", [seconds], "s", f"<= {allowed_s:.0f} (6 min at 408 GFLOP/s)", digits=0
        ),
        Figure("held-out loss before", [report["held_out_loss_before"]], digits=3),
        Figure("held-out loss after", [report["held_out_loss_after"]], digits=3),
        Figure("held-out loss fell by", [report["loss_fell_percent"]], "%", ">= 40", digits=1),
        Figure("right facts, base model", [100 * report["right_before"]], "%", "< 10", digits=1),
        Figure("right facts, tuned model", [100 * report["right_after"]], "%", ">= 60", digits=1),
    ]
    notes = [
        f"All {report['questions']} held-out questions answered by both models; conversion of the GGUF file included.",
        "State, cache and settings folders were empty before.",
    ]
    record(Topic("Quickstart", "python -m benchmarks.quickstart", figures, ("torch", "transformers"), notes))
    return 1 if any(figure.met is False for figure in figures) else 0


def end_daemon(pid: int) -> None:
    """End the private daemon, and wait until it writes nothing more into its folder."""
    daemon = os.pidfd_open(pid)
    os.kill(pid, signal.SIGTERM)
    select.select([daemon], [], [], 10)
    os.close(daemon)


def _health(btmctl: str, environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run([btmctl, "daemon", "status", "--json"], env=environment, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout)) if done.returncode == 0 else {}


if __name__ == "__main__":
    sys.exit(main())
