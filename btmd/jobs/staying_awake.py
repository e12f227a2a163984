"""Keeps the machine awake while a training runs, and looks at its devices again when it slept all the same."""

import logging
import time
from collections.abc import Callable, Collection, MutableMapping
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from btmd.command_handler import CommandHandler
from btmd.domain import settings
from btmd.domain.event import Actor
from btmd.domain.hardware import Hardware
from btmd.domain.machine import NoteWaking
from btmd.domain.settings import SettingsState
from btmd.domain.warning import CRITICAL, Finding
from btmd.errors import BtmdError
from btmd.hardware.sleep_lock import SleepLock, take_sleep_lock
from btmd.job_folder import JobFolder
from btmd.monitoring.texts import TEXTS
from btmd.projections.job import job
from btmd.store.event_log import Store

log = logging.getLogger("btmd.sleep")

LOOK_S = 5.0
"""How often it is looked whether a training runs still, and whether the machine slept."""
ASK_AGAIN_S = 600.0
"""After a refusal: rules change."""
LEAST_SLEEP_S = 2.0
WHY = "A training runs"
ABOUT = "sleep"

Intervene = Callable[[str, Finding, int, str], None]


def slept_s() -> float:
    """How long the machine has slept since it was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


class StayingAwake:
    """``busy`` are the jobs with a trainer; ``asides`` takes what a person may want to know.

    ``intervene`` ends a trainer whose device is gone; ``on_woke`` is called after devices were looked at.
    """

    def __init__(
        self,
        *,
        store: Store,
        handler: CommandHandler,
        jobs_dir: Path,
        actor: Actor,
        busy: Callable[[], Collection[str]],
        hardware: Callable[[], Hardware],
        intervene: Intervene,
        on_woke: Callable[[], None],
        asides: MutableMapping[str, str],
        take_lock: Callable[[str], SleepLock] = take_sleep_lock,
        slept: Callable[[], float] = slept_s,
    ) -> None:
        self._store, self._handler, self._jobs_dir, self._actor = store, handler, jobs_dir, actor
        self._busy, self._hardware, self._intervene, self._on_woke = busy, hardware, intervene, on_woke
        self._asides, self._take_lock, self._slept = asides, take_lock, slept
        self._lock: SleepLock | None = None
        self._asked_s = 0.0
        self._changed = anyio.Event()

    def wake(self) -> None:
        """A training has begun or ended."""
        self._changed.set()

    async def run(self) -> None:
        """Hold and let go until cancelled."""
        slept_before_s = self._slept()
        try:
            while True:
                self._changed = anyio.Event()
                busy = bool(self._busy())
                slept_s, slept_before_s = self._slept() - slept_before_s, self._slept()
                try:
                    if busy and slept_s >= LEAST_SLEEP_S:
                        await self._woke(slept_s)
                    await self._hold_or_release(busy)
                except Exception:
                    # Neither is worth a training.
                    log.exception("the machine's sleep is not looked after just now")
                with anyio.move_on_after(LOOK_S if busy else None):
                    await self._changed.wait()
        finally:
            self._release()

    async def _hold_or_release(self, busy: bool) -> None:
        state, _ = await self._handler.state(settings.STREAM)
        if not busy or not (state or SettingsState()).get("sleep.inhibit"):
            self._release()
            return
        whole = self._lock is not None and self._lock.whole
        if whole or (self._lock is not None and time.monotonic() - self._asked_s < ASK_AGAIN_S):
            return
        self._asked_s = time.monotonic()
        found = await anyio.to_thread.run_sync(self._take_lock, WHY)
        self._release()
        self._lock = found
        if found.whole:
            log.info("the machine is kept awake while a training runs")
        elif found.problem:
            key = "sleep_idle_only" if "idle" in found.descriptors else "sleep_refused"
            self._asides[ABOUT] = TEXTS[key].format(problem=found.problem)
            log.warning("%s", self._asides[ABOUT])

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
        self._lock = None
        self._asides.pop(ABOUT, None)

    async def _woke(self, slept_s: float) -> None:
        """Look at the devices; a training whose GPU is gone is ended; it goes on once that is back."""
        found = await anyio.to_thread.run_sync(self._hardware)
        there = {f"cuda:{gpu.index}" for gpu in found.gpus}
        lost = []
        for job_id in sorted(self._busy()):
            device = await anyio.to_thread.run_sync(self._device, job_id)
            if device.startswith("cuda") and device not in there:
                lost.append(job_id)
                async with self._store.session() as session:
                    row = await job(session, job_id)
                text = TEXTS["sleep_lost_gpu"].format(device=f"GPU {device.removeprefix('cuda:')}")
                step = 0 if row is None else row.step
                self._intervene(job_id, Finding("device", CRITICAL, {"slept_s": round(slept_s, 1)}, True), step, text)
        log.warning(
            "the machine slept for %.0f seconds; GPUs found: %d, trainings without theirs: %s",
            slept_s,
            len(there),
            lost,
        )
        names = tuple(f"{gpu.index}: {gpu.name}" for gpu in found.gpus)
        try:
            await self._handler.handle(NoteWaking(round(slept_s, 1), names, tuple(lost)), actor=self._actor)
        except BtmdError as error:
            log.error("that the machine slept cannot be recorded: %s", error.detail)
        self._on_woke()

    def _device(self, job_id: str) -> str:
        try:
            return JobFolder(self._jobs_dir / job_id).read_plan().device
        except (OSError, msgspec.DecodeError):
            return ""
