"""What can be seen of a trainer's end: the kernel's counters before and after, its memory when last looked, its log."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from btmd.files.durable import write_atomically
from btmd.hardware.control_groups import control_groups, read_text
from btmd.hardware.memory import read_memory
from btmd.job_folder import JobFolder, read_boot_id
from btmd.recovery.causes import DISK_SIGNS, MEMORY_SIGNS, Death

LOOK_EVERY_S = 2.0
LOG_TAIL_BYTES = 8192
UNLIMITED = 1 << 62
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")


class KillCounts(msgspec.Struct, frozen=True):
    """How many processes the kernel had killed for memory, and in which boot of the machine."""

    boot_id: str
    group: int
    machine: int


class TrainerEnd:
    """Looks at one trainer now and then while it lives, so that its end can be told afterwards."""

    def __init__(self, folder: JobFolder, attempt: int, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._attempt, self._clock_s = folder, attempt, clock_s
        self._counts_path = folder.path / "kills.json"
        self._looked_s: float | None = None
        self._pid: int | None = None
        self._before: KillCounts | None = None
        self._groups: list[Path] = []
        self._limit_bytes: int | None = None
        self._used_share: float | None = None
        self._resident_bytes: int | None = None
        self._address_bytes: int | None = None
        self._address_limit_bytes: int | None = None
        self._state = ""

    def begin(self, pid: int, *, adopted: bool) -> None:
        """Note how things stand as it starts; of one that was found again, how they stood when it did."""
        self._pid = pid
        self._groups = [group.folder for group in control_groups("memory", process=str(pid))][:1]
        found = self._read_counts() if adopted else None
        self._before = found or self._counts()
        if found is None:
            write_atomically(self._counts_path, msgspec.json.encode(self._before))
        self.look(now=True)

    def look(self, *, now: bool = False) -> None:
        """Read what it takes, at most every LOOK_EVERY_S."""
        at_s = self._clock_s()
        if self._pid is None or (not now and self._looked_s is not None and at_s - self._looked_s < LOOK_EVERY_S):
            return
        self._looked_s = at_s
        root = Path("/proc") / str(self._pid)
        fields = read_text(root / "stat").rpartition(")")[2].split()
        if not fields or fields[0] in "ZX":
            return
        self._state = fields[0]
        memory = read_memory(process=str(self._pid))
        self._limit_bytes = memory.limit_bytes
        if memory.total_bytes > 0:
            self._used_share = 1 - memory.available_bytes / memory.total_bytes
        if resident := read_text(root / "statm").split():
            self._resident_bytes = int(resident[1]) * _PAGE_BYTES
        self._groups = [group.folder for group in control_groups("memory", process=str(self._pid))][:1] or self._groups
        self._look_at_address_space(root)

    def _look_at_address_space(self, root: Path) -> None:
        self._address_limit_bytes = _address_limit(read_text(root / "limits"))
        if self._address_limit_bytes is None:
            return
        for line in read_text(root / "status").splitlines():
            if line.startswith("VmPeak:"):
                self._address_bytes = int(line.split()[1]) * 1024

    def evidence(self) -> dict[str, int | float | str]:
        """What was seen of it when last looked, for a failure that it has told itself."""
        known = {
            "resident_bytes": self._resident_bytes,
            "limit_bytes": self._limit_bytes,
            "used_share": None if self._used_share is None else round(self._used_share, 3),
            "address_bytes": self._address_bytes,
            "address_limit_bytes": self._address_limit_bytes,
        }
        return {name: value for name, value in known.items() if value is not None}

    def death(self, *, signal: int | None, exit_code: int | None) -> Death:
        """What is known of it now that it is gone; ``signal`` and ``exit_code`` are None for another daemon's child."""
        before, after = self._before or self._read_counts(), self._counts()
        same_boot = before is not None and before.boot_id == after.boot_id
        return Death(
            signal=signal,
            exit_code=exit_code,
            group_kills=max(0, after.group - before.group) if before is not None and same_boot else 0,
            machine_kills=max(0, after.machine - before.machine) if before is not None and same_boot else 0,
            used_share=self._used_share,
            resident_bytes=self._resident_bytes,
            limit_bytes=self._limit_bytes,
            address_bytes=self._address_bytes,
            address_limit_bytes=self._address_limit_bytes,
            log_signs=self._log_signs(),
            process_state="T" if self._state in ("T", "t") else "",
        )

    def _counts(self) -> KillCounts:
        group = sum(_group_kills(folder) for folder in self._groups)
        return KillCounts(read_boot_id(), group, _number_after("oom_kill", read_text(Path("/proc/vmstat"))))

    def _read_counts(self) -> KillCounts | None:
        try:
            return msgspec.json.decode(self._counts_path.read_bytes(), type=KillCounts)
        except (OSError, msgspec.DecodeError):
            return None

    def _log_signs(self) -> tuple[str, ...]:
        try:
            with self._folder.log_path(self._attempt).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
                tail = file.read().decode("utf-8", "replace").lower()
        except OSError:
            return ()
        return tuple(sign for sign in (*MEMORY_SIGNS, *DISK_SIGNS) if sign in tail)


def _group_kills(folder: Path) -> int:
    """Of version 2 in ``memory.events``, of version 1 in ``memory.oom_control``."""
    text = read_text(folder / "memory.events") or read_text(folder / "memory.oom_control")
    return _number_after("oom_kill", text)


def _number_after(key: str, text: str) -> int:
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if name == key and number.strip().isdigit():
            return int(number)
    return 0


def _address_limit(text: str) -> int | None:
    """The lower of the limits on address space and data; None without one."""
    found = []
    for line in text.splitlines():
        if line.startswith(("Max address space", "Max data size")):
            soft = line.split()[-3]
            if soft.isdigit() and int(soft) < UNLIMITED:
                found.append(int(soft))
    return min(found, default=None)
