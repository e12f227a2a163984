"""What the machine has to give at this moment, as far as the queue asks for it."""

import os
from pathlib import Path

from msgspec import Struct

from btmd.domain.hardware import Gpu
from btmd.hardware.gpu import read_gpus
from btmd.hardware.memory import read_memory
from btmd.hardware.power import read_power


class Seen(Struct, frozen=True):
    """Sizes in bytes. ``gpus`` are there only where they were asked for."""

    memory_free_bytes: int
    disk_free_bytes: int
    on_battery: bool
    gpus: tuple[Gpu, ...] = ()


def look(state_dir: Path, with_gpus: bool) -> Seen:
    """Read it now; blocks for some milliseconds where GPUs are asked for. Raises OSError."""
    space = os.statvfs(state_dir)
    return Seen(
        read_memory().available_bytes,
        space.f_bavail * space.f_frsize,
        read_power().source == "battery",
        read_gpus().gpus if with_gpus else (),
    )
