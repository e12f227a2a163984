"""How long `btmctl status` takes as a whole process, against `python -c pass`, interleaved, with a daemon running."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.results import Figure, Topic, record

ROUNDS = 40
TARGET = 4.0


def measure(command: list[str], environment: dict[str, str]) -> float:
    """Wall-clock seconds of one process. Raises CalledProcessError when it fails."""
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> int:
    btmctl = str(Path(sys.executable).with_name("btmctl"))
    with tempfile.TemporaryDirectory(prefix="btmd-") as folder:
        socket = os.path.join(folder, "btmd.sock")
        environment = {**os.environ, "BTMD_SOCKET": socket}
        daemon = subprocess.Popen(
            [sys.executable, "-m", "btmd", "--state-dir", folder, "--config-dir", folder, "--log-level", "error"],
            env=environment,
        )
        try:
            while not os.path.exists(socket) and daemon.poll() is None:
                time.sleep(0.05)
            nothing: list[float] = []
            status: list[float] = []
            for _ in range(ROUNDS):
                nothing.append(measure([sys.executable, "-c", "pass"], environment))
                status.append(measure([btmctl, "status"], environment))
        finally:
            daemon.terminate()
            daemon.wait()
    ratios = [one / other for one, other in zip(status, nothing, strict=True)]
    figures = [
        Figure("python -c pass", [value * 1000 for value in nothing], "ms", digits=0),
        Figure("btmctl status", [value * 1000 for value in status], "ms", digits=0),
        Figure("btmctl status / python -c pass", ratios, "x", f"<= {TARGET:.0f}"),
    ]
    notes = ["Whole processes, interleaved; the daemon's own time to answer is part of it."]
    record(Topic("Command line", "python -m benchmarks.cli_start", figures, notes=notes))
    return 0 if figures[-1].met else 1


if __name__ == "__main__":
    sys.exit(main())
