"""Why a process ended that could not say so itself, from what can be seen of it before and after."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV = 6, 7, 8, 4, 9, 11
FAULTS = {SIGABRT: "SIGABRT", SIGBUS: "SIGBUS", SIGFPE: "SIGFPE", SIGILL: "SIGILL", SIGSEGV: "SIGSEGV"}
"""Signals that a process brings on itself."""
NEAR_SHARE = 0.95
"""Of the memory that it could have had, in use when last looked: programs that kill for memory act about there."""
ADDRESS_SHARE = 0.85
"""Of a limited address space: an allocation that is refused is often a large one."""
MEMORY_SIGNS = ("bad_alloc", "out of memory", "cannot allocate memory", "can't allocate memory", "memoryerror")
DISK_SIGNS = ("no space left on device", "disk quota exceeded")


class Death(Struct, frozen=True):
    """What is known of a process that ended without a word. Bytes; None where it cannot be known."""

    signal: int | None = None
    exit_code: int | None = None
    group_kills: int = 0
    """Processes of its control group that the kernel has killed for memory meanwhile."""
    machine_kills: int = 0
    """The same of the whole machine."""
    used_share: float | None = None
    """Of the memory that it could have had, when last looked."""
    resident_bytes: int | None = None
    limit_bytes: int | None = None
    """The control group's limit."""
    address_bytes: int | None = None
    """The most address space it has had."""
    address_limit_bytes: int | None = None
    log_signs: tuple[str, ...] = ()
    """Of MEMORY_SIGNS and DISK_SIGNS, those at the end of what it wrote."""
    process_state: str = ""
    """As the kernel calls it when last looked: ``T`` is stopped by a signal."""


class Cause(Struct, frozen=True):
    """``reason`` as in AttemptFailed; ``key`` names the sentence; ``evidence`` is what it rests on."""

    reason: str
    key: str
    evidence: dict[str, Any] = field(default_factory=dict)


def cause_of(death: Death) -> Cause:
    """The likeliest cause of an end without a word."""
    evidence = _evidence(death)
    # Somebody else's signal is named first only where nothing points to memory.
    killed = death.signal == SIGKILL
    unseen = death.signal is None and death.exit_code is None
    if (killed or unseen) and death.group_kills > 0:
        return Cause("out_of_memory", "cause_group_memory", {**evidence, "where": "cgroup"})
    if (killed or unseen) and death.machine_kills > 0:
        return Cause("out_of_memory", "cause_machine_memory", {**evidence, "where": "machine"})
    if killed and death.used_share is not None and death.used_share >= NEAR_SHARE:
        return Cause("out_of_memory", "cause_memory_pressure", {**evidence, "where": "machine"})
    if any(sign in MEMORY_SIGNS for sign in death.log_signs) and not killed:
        where = "address_space" if death.address_limit_bytes else "process"
        return Cause("out_of_memory", "cause_refused_memory", {**evidence, "where": where})
    if death.signal in FAULTS and _near_address_limit(death):
        return Cause("out_of_memory", "cause_refused_memory", {**evidence, "where": "address_space"})
    if any(sign in DISK_SIGNS for sign in death.log_signs) and not killed:
        return Cause("disk_full", "cause_disk_full", evidence)
    if killed:
        return Cause("killed", "cause_killed", evidence)
    if death.signal in FAULTS:
        return Cause("crash", "cause_fault", {**evidence, "signal_name": FAULTS[death.signal]})
    if death.signal is not None:
        return Cause("killed", "cause_signal", evidence)
    if death.exit_code is not None:
        return Cause("crash", "cause_exit", evidence)
    return Cause("crash", "cause_unseen", evidence)


def _near_address_limit(death: Death) -> bool:
    limit, most = death.address_limit_bytes, death.address_bytes
    return limit is not None and most is not None and most >= ADDRESS_SHARE * limit


def _evidence(death: Death) -> dict[str, Any]:
    known: Mapping[str, Any] = {
        "signal": death.signal,
        "exit_code": death.exit_code,
        "group_kills": death.group_kills or None,
        "machine_kills": death.machine_kills or None,
        "used_share": None if death.used_share is None else round(death.used_share, 3),
        "resident_bytes": death.resident_bytes,
        "limit_bytes": death.limit_bytes,
        "address_bytes": death.address_bytes,
        "address_limit_bytes": death.address_limit_bytes,
        "log_signs": list(death.log_signs) or None,
        "process_state": death.process_state or None,
    }
    return {name: value for name, value in known.items() if value is not None}
