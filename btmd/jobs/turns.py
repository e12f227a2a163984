"""Whose turn it is and on which device, and what each of the others waits for: a function of plain values.

Jobs are gone through in order. One that cannot start keeps later ones from what it waits for, so that nobody is
overtaken; one that has waited for long for what btmd has no hand in lets them pass.
"""

from collections import Counter
from collections.abc import Mapping, Sequence, Set

from msgspec import Struct, field

from btmd.domain.hardware import Gpu
from btmd.domain.units import format_bytes
from btmd.jobs.device_locks import CPU
from btmd.monitoring.texts import WEEKDAYS, text
from btmd.planning.memory import usable_bytes

OUTSIDE = frozenset({"memory", "gpu_memory", "gpu_program", "gpu_missing", "disk", "later"})
"""What is not over with a turn: who waits for it for long lets others pass."""
MOST_PROGRAMS = 3


class Wait(Struct, frozen=True):
    """Why a job does not start now: a stable word, and a sentence."""

    kind: str
    text: str


class Candidate(Struct, frozen=True):
    """A job that waits; sizes in bytes. ``device`` is the planned one, ``cpu`` or ``cuda:N``."""

    job_id: str
    device: str
    owner_uid: int = 0
    pinned: bool = False
    """Whether a person named the device."""
    held: bool = False
    missing_dataset: str = ""
    """Its dataset's name where a restore took that away."""
    postponed: bool = False
    """Whether it waits for a while after a failure, at least until ``not_before_us``, before it is tried again."""
    not_before_us: int = 0
    memory_bytes: int = 0
    """Of main memory, with the machine to itself."""
    memory_beside_bytes: int = 0
    """Of main memory, to be safe beside others."""
    gpu_memory_bytes: int = 0
    disk_bytes: int = 0


class Running(Struct, frozen=True):
    """A job at work, and what it is still going to take."""

    job_id: str
    device: str
    owner_uid: int = 0
    memory_growth_bytes: int = 0
    disk_growth_bytes: int = 0


class Sight(Struct, frozen=True):
    """The machine now. ``weekday`` and ``minute`` are local time, Monday being 0."""

    now_us: int
    weekday: int
    minute: int
    memory_free_bytes: int
    disk_free_bytes: int
    quiet_minutes: int = 0
    """For how much longer the quiet hours last; 0 outside of them."""
    on_battery: bool = False
    gpus: tuple[Gpu, ...] = ()


class Limits(Struct, frozen=True):
    """What a person set."""

    reserve_bytes: int = 0
    only_on_mains: bool = False
    running_jobs: Mapping[int, int] = field(default_factory=dict)
    """By owner that is limited, how many trainings they may have at work."""


class Start(Struct, frozen=True):
    job_id: str
    device: str


class Turns(Struct, frozen=True):
    """``start`` is the one job to start next; ``waits`` are complete only where there is none."""

    start: Start | None
    waits: Mapping[str, Wait]


def device_words(device: str) -> str:
    """``the CPU`` or ``GPU 0``."""
    return text("the_cpu") if device == CPU else text("a_gpu", index=device.rpartition(":")[2])


def decide_turns(
    line: Sequence[Candidate],
    running: Sequence[Running],
    sight: Sight,
    limits: Limits,
    *,
    unclaimable: Mapping[str, Wait] | None = None,
    patient: Set[str] = frozenset(),
) -> Turns:
    """The first job of ``line`` that can start. ``unclaimable``: devices whose lock cannot be had, with the reason.

    ``patient`` are jobs that have waited long enough to let others pass.
    """
    room = _Room(running, sight, limits, dict(unclaimable or {}))
    waits: dict[str, Wait] = {}
    at_work = Counter(one.owner_uid for one in running)
    for one in line:
        wait = _not_now(one, sight, limits) or _over_limit(one, at_work, limits)
        if wait is not None:
            waits[one.job_id] = wait
            continue
        found = _after_failure(one, sight) or room.place(one)
        if isinstance(found, Start):
            return Turns(found, waits)
        waits[one.job_id] = found
        if not (one.job_id in patient and found.kind in OUTSIDE):
            room.keep_for(one, found)
    return Turns(None, waits)


def to_yield(running: Sequence[Running], sight: Sight, *, in_quiet_hours: bool, on_battery: bool) -> dict[str, str]:
    """The running jobs that give their device up for the time being, by job, with the reason; as the settings say."""
    if in_quiet_hours and sight.quiet_minutes:
        return dict.fromkeys((one.job_id for one in running), "quiet_hours")
    if on_battery and sight.on_battery:
        return dict.fromkeys((one.job_id for one in running), "battery")
    return {}


def _not_now(one: Candidate, sight: Sight, limits: Limits) -> Wait | None:
    """What keeps this job from starting anywhere; it keeps no other one from it."""
    if one.held:
        return Wait("held", text("wait_held", job=one.job_id))
    if one.missing_dataset:
        return Wait("data", text("wait_data", dataset=one.missing_dataset))
    if sight.quiet_minutes:
        always = sight.quiet_minutes >= 7 * 24 * 60
        when = _clock(sight, sight.quiet_minutes)
        return Wait("quiet_hours", text("wait_quiet_always") if always else text("wait_quiet_hours", when=when))
    if limits.only_on_mains and sight.on_battery:
        return Wait("mains", text("wait_mains"))
    return None


def _over_limit(one: Candidate, at_work: Mapping[int, int], limits: Limits) -> Wait | None:
    """A limit of its owner's; it keeps nobody else's job from starting."""
    most = limits.running_jobs.get(one.owner_uid)
    if most is None or at_work.get(one.owner_uid, 0) < most:
        return None
    return Wait("user_limit", text("wait_user_limit" if most else "wait_user_none", count=most))


def _after_failure(one: Candidate, sight: Sight) -> Wait | None:
    """A pause before the next attempt. It keeps the device: who was interrupted does not go to the end of the line."""
    if not one.postponed:
        return None
    minutes = -(-max(0, one.not_before_us - sight.now_us) // 60_000_000)
    return Wait("later", text("wait_later", when=_clock(sight, minutes)) if minutes else text("wait_failure"))


class _Room:
    """What is left of the machine while the line is gone through."""

    def __init__(self, running: Sequence[Running], sight: Sight, limits: Limits, unclaimable: dict[str, Wait]) -> None:
        self._sight, self._limits, self._unclaimable = sight, limits, unclaimable
        self._taken = {one.device: one.job_id for one in running}
        self._kept: dict[str, list[str]] = {}
        """By device, the jobs in front that wait for it."""
        self._shared = bool(running)
        free = sight.memory_free_bytes - sum(one.memory_growth_bytes for one in running)
        self._memory_bytes = max(0, usable_bytes(max(0, free)))
        self._disk_bytes = sight.disk_free_bytes - sum(one.disk_growth_bytes for one in running) - limits.reserve_bytes

    def place(self, one: Candidate) -> Start | Wait:
        """The device on which the job starts, or what it waits for."""
        devices = self._devices(one)
        if not devices:
            return Wait("gpu_missing", text("wait_gpu_missing", device=device_words(one.device)))
        wait = self._without_device(devices)
        if wait is not None:
            return wait
        wait = self._without_room(one)
        if wait is not None:
            return wait
        first: Wait | None = None
        for device in devices:
            if device in self._taken or device in self._kept:
                continue
            found = self._unclaimable.get(device) or self._without_gpu_memory(one, device)
            if found is None:
                return Start(one.job_id, device)
            first = first or found
        assert first is not None
        return first

    def keep_for(self, one: Candidate, wait: Wait) -> None:
        """Let nobody behind it take what a job waits for."""
        for device in self._devices(one) or [one.device]:
            self._kept.setdefault(device, []).append(one.job_id)
        if wait.kind == "memory":
            self._memory_bytes -= one.memory_beside_bytes
            self._shared = True
        if wait.kind == "disk":
            self._disk_bytes -= one.disk_bytes

    def _devices(self, one: Candidate) -> list[str]:
        """Where the job may run, the planned one first: on another GPU only of the same kind, for the same losses."""
        if one.device == CPU:
            return [CPU]
        planned = next((gpu for gpu in self._sight.gpus if one.device == f"cuda:{gpu.index}"), None)
        if planned is None:
            return []
        if one.pinned:
            return [one.device]
        alike = [gpu for gpu in self._sight.gpus if _kind(gpu) == _kind(planned) and gpu is not planned]
        return [one.device, *(f"cuda:{gpu.index}" for gpu in alike)]

    def _without_device(self, devices: Sequence[str]) -> Wait | None:
        if any(device not in self._taken and device not in self._kept for device in devices):
            return None
        before = list(dict.fromkeys(job_id for device in devices for job_id in self._kept.get(device, ())))
        if not before:
            words = device_words(devices[0])
            return Wait("training", text("wait_training", job=self._taken[devices[0]], device=words))
        if len(before) == 1:
            return Wait("turn", text("wait_turn_one", job=before[0]))
        return Wait("turn", text("wait_turn", count=len(before)))

    def _without_room(self, one: Candidate) -> Wait | None:
        needed = one.memory_beside_bytes if self._shared else one.memory_bytes
        if needed > self._memory_bytes:
            key, free = "wait_memory", self._sight.memory_free_bytes
            if self._shared:
                key, free = "wait_memory_beside", max(0, self._memory_bytes)
            return Wait("memory", text(key, needed=format_bytes(needed), free=format_bytes(free)))
        if one.disk_bytes > self._disk_bytes:
            return Wait(
                "disk",
                text(
                    "wait_disk",
                    needed=format_bytes(one.disk_bytes),
                    free=format_bytes(self._sight.disk_free_bytes),
                    reserve=format_bytes(self._limits.reserve_bytes),
                ),
            )
        return None

    def _without_gpu_memory(self, one: Candidate, device: str) -> Wait | None:
        gpu = next((gpu for gpu in self._sight.gpus if device == f"cuda:{gpu.index}"), None)
        if gpu is None or one.gpu_memory_bytes <= usable_bytes(gpu.free_bytes):
            return None
        values = {
            "device": device_words(device),
            "needed": format_bytes(one.gpu_memory_bytes),
            "free": format_bytes(gpu.free_bytes),
        }
        if not gpu.processes:
            return Wait("gpu_memory", text("wait_gpu_memory", **values))
        return Wait("gpu_program", text("wait_gpu_program", programs=_programs(gpu), **values))


def _kind(gpu: Gpu) -> tuple[object, ...]:
    return gpu.name, gpu.total_bytes, gpu.compute_capability


def _programs(gpu: Gpu) -> str:
    largest = sorted(gpu.processes, key=lambda one: -(one.used_bytes or 0))[:MOST_PROGRAMS]
    return ", ".join(
        text("program_unknown", pid=one.pid)
        if one.used_bytes is None
        else text("program", name=one.name or "a program", pid=one.pid, used=format_bytes(one.used_bytes))
        for one in largest
    )


def _clock(sight: Sight, minutes: int) -> str:
    """When so many minutes have passed: ``at 7:00``, ``tomorrow at 7:00``, ``on Monday at 7:00``."""
    days, minute = divmod(sight.minute + minutes, 24 * 60)
    clock = f"{minute // 60}:{minute % 60:02d}"
    if days == 0:
        return text("exactly_today", clock=clock)
    if days == 1:
        return text("exactly_tomorrow", clock=clock)
    return text("exactly_weekday", weekday=WEEKDAYS[(sight.weekday + days) % 7], clock=clock)
