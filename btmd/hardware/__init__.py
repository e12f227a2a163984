"""What this machine can do, read without torch and read anew each time it matters."""

from pathlib import Path

from btmd.domain.hardware import Hardware
from btmd.hardware.cpu import read_cpu
from btmd.hardware.disk import read_disk
from btmd.hardware.gpu import read_gpus
from btmd.hardware.memory import read_memory

__all__ = ["probe"]


def probe(state_dir: Path) -> Hardware:
    """Everything a plan looks at; ``state_dir`` says which disk counts. Blocks for some milliseconds."""
    found = read_gpus()
    return Hardware(
        cpu=read_cpu(),
        memory=read_memory(),
        disk=read_disk(state_dir),
        gpus=found.gpus,
        problems=found.problems,
        driver_version=found.driver_version,
        other_gpus=found.other_gpus,
    )
