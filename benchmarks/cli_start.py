"""How long `btmctl status`, and a name completed by a shell, take as whole processes with a daemon running.

Against `python -c pass`, interleaved.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.results import Figure, Topic, record

ROUNDS = 40
TARGET = 4.0
COMPLETION_TARGET_MS = 100


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
            names: list[float] = []
            for _ in range(ROUNDS):
                nothing.append(measure([sys.executable, "-c", "pass"], environment))
                status.append(measure([btmctl, "status"], environment))
                names.append(measure([btmctl, "__complete", "settings", ""], environment))
        finally:
            daemon.terminate()
            daemon.wait()
    more_ms = [(one - other) * 1000 for one, other in zip(names, nothing, strict=True)]
    ratios = [one / other for one, other in zip(status, nothing, strict=True)]
    figures = [
        Figure("python -c pass", [value * 1000 for value in nothing], "ms", digits=0),
        Figure("btmctl status", [value * 1000 for value in status], "ms", digits=0),
        Figure("btmctl status / python -c pass", ratios, "x", f"<= {TARGET:.0f}"),
        Figure("completing a name - python -c pass", more_ms, "ms", f"<= {COMPLETION_TARGET_MS}", digits=0),
    ]
    notes = ["Whole processes, interleaved; the daemon's own time to answer is part of it."]
    record(Topic("Command line", "python -m benchmarks.cli_start", figures, notes=notes))
    return 0 if all(figure.met is not False for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
