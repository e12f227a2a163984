"""How a process leaves the network: into a namespace of its own, where there is nothing to talk to."""

import ctypes
import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

_NEW_NETWORK, _NEW_USER = 0x4000_0000, 0x1000_0000
"""CLONE_NEWNET and CLONE_NEWUSER of unshare(2)."""
OFFLINE: Final = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""For libraries that would ask a hub."""
NVIDIA_DRIVER, NVIDIA_MEMORY = Path("/sys/module/nvidia"), Path("/dev/nvidia-uvm")
"""There with the driver; and the device that it needs besides those of the GPUs, made when it is first asked for."""
_DEVICE_LIMIT_S: Final = 20.0


def leave_the_network() -> None:
    """Take a network namespace of this process's own; what it starts is in there too. Before it has threads.

    Without rights that takes a user namespace, which some systems refuse; then there is only the offline mode.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NETWORK) == 0:
        return
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(_NEW_USER | _NEW_NETWORK) == 0:
        # We go on being called what we were. Where that is refused, files are still opened with our rights.
        with suppress(OSError):
            Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def leave_the_network_with_gpus() -> None:
    """As ``leave_the_network``, for what may compute on a GPU: it stays where that would take the GPU away."""
    if have_gpu_devices():
        leave_the_network()


def have_gpu_devices() -> bool:
    """Whether all devices of NVIDIA's driver are there, where it is; what is missing is made first.

    In a user namespace nobody could: the program that makes them becomes root for it.
    """
    if os.geteuid() == 0 or NVIDIA_MEMORY.exists() or not NVIDIA_DRIVER.exists():
        return True
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            ["nvidia-modprobe", "-c", "0", "-u"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_DEVICE_LIMIT_S,
            check=False,
        )
    return NVIDIA_MEMORY.exists()
