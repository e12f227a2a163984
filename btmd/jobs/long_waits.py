"""Tells of jobs that have waited for long for what does not come by itself: a GPU that is gone, room on the disk."""

import logging
from collections.abc import Mapping

from btmd.command_handler import CommandHandler
from btmd.domain import warning
from btmd.domain.event import Actor
from btmd.domain.job import stream_name
from btmd.domain.warning import CRITICAL, WARNING, Finding, ReportFindings, WatchState
from btmd.errors import BtmdError
from btmd.jobs.turns import Wait

log = logging.getLogger("btmd.scheduler")

LONG_S = 1800.0
TOLD = {"gpu_missing": "waits_for_gpu", "disk": "waits_for_room"}
"""By what is waited for, the warning. Memory and other programs' GPUs come free by themselves."""


class LongWaits:
    """Raises a warning for each, and withdraws it when the wait is over."""

    def __init__(self, handler: CommandHandler, actor: Actor) -> None:
        self._handler, self._actor = handler, actor
        self._since_s: dict[tuple[str, str], float] = {}
        self._told: dict[str, str] = {}

    async def look(self, waits: Mapping[str, Wait], now_s: float) -> None:
        """Take in what each job waits for now; ``now_s`` is of a clock that never goes back."""
        present = [(job_id, TOLD[wait.kind]) for job_id, wait in waits.items() if wait.kind in TOLD]
        self._since_s = {one: self._since_s.get(one, now_s) for one in present}
        waited_s = {one: now_s - since_s for one, since_s in self._since_s.items() if now_s - since_s >= LONG_S}
        long = {job_id: kind for job_id, kind in waited_s}
        for job_id in sorted({*long, *self._told}):
            kind = long.get(job_id, "")
            if kind != self._told.get(job_id, "") and await self._report(job_id, kind, waited_s.get((job_id, kind), 0)):
                self._told[job_id] = kind
        self._told = {job_id: kind for job_id, kind in self._told.items() if kind}

    async def _report(self, job_id: str, kind: str, waited_s: float) -> bool:
        """Whether it is recorded; where it cannot be now, the next look tries again."""
        job, _ = await self._handler.state(stream_name(job_id))
        found, _ = await self._handler.state(warning.stream_name(job_id))
        # What else is wrong with it is not ours to withdraw.
        others = [one for one in (found or WatchState()).open if one not in TOLD.values()]
        findings = [Finding(one, WARNING, {}) for one in others]
        if kind:
            findings.append(Finding(kind, CRITICAL, {"waited_s": round(waited_s)}))
        command = ReportFindings(job_id, 0 if job is None else job.attempt, tuple(findings))
        try:
            await self._handler.handle(command, actor=self._actor)
        except BtmdError as error:
            log.warning("job %s: that it waits for long cannot be recorded: %s", job_id, error.detail)
            return False
        return True
