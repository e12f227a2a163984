"""What follows on a failed attempt: decided once it is in the log, also when the daemon died in between."""

import logging
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from btmd.command_handler import CommandHandler
from btmd.domain import settings
from btmd.domain.event import Actor
from btmd.domain.job import (
    AskPerson,
    ExpireQuestion,
    FailJob,
    GiveUpJob,
    JobCommand,
    JobState,
    MarkDue,
    PlanRecovery,
    Trouble,
    stream_name,
)
from btmd.domain.job_events import AnswerAsked, AttemptFailed, RecoveryPlanned
from btmd.domain.job_state import WAITS, WAITS_ON
from btmd.domain.settings import SettingChanged, SettingsState
from btmd.domain.units import GIB, format_duration
from btmd.errors import BtmdError
from btmd.job_folder import JobFolder
from btmd.jobs.disk_room import free_bytes, free_own, needed_bytes
from btmd.jobs.recovery_words import action_text, gave_up_text, hint_text, question_text
from btmd.jobs.ways_out import WaysOut
from btmd.monitoring.texts import text
from btmd.projections.job import JobPlanRow, JobRow, checkpoints, job_plan, troubled_jobs
from btmd.recovery import Ask, Decision, Failure, GiveUp, Limits, Retry, Wait, decide
from btmd.store.event_log import Store
from btmd.subscriptions import subscribe

log = logging.getLogger("btmd.recovery")

LOOK_AGAIN_S = 30.0
"""How often it is looked whether what a job waits for is there; the clock may be set meanwhile, too."""
LEAVING_S = 0.2
"""Until a trainer that has said its last word is gone."""
ASK_AFTER_S = 1800.0
"""Of waiting for a GPU or for room: what is not there by then does not come back by itself."""
_CHANGES = frozenset(one.TYPE for one in (AttemptFailed, AnswerAsked, RecoveryPlanned, SettingChanged))


class Recovering:
    """Follows the log for failures; ``clock`` gives microseconds since the epoch."""

    def __init__(
        self,
        *,
        store: Store,
        handler: CommandHandler,
        jobs_dir: Path,
        ways_out: WaysOut,
        device_is_there: Callable[[], bool],
        actor: Actor,
        clock: Callable[[], int],
        troubles: MutableMapping[str, str],
    ) -> None:
        self._store, self._handler, self._actor, self._clock = store, handler, actor, clock
        self._jobs_dir, self._ways_out, self._device_is_there = jobs_dir, ways_out, device_is_there
        self._troubles = troubles
        self._changed = anyio.Event()

    async def run(self) -> None:
        """Decide, wait and ask until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow, self._store.head.seq)
            while True:
                self._changed = anyio.Event()
                with anyio.move_on_after(await self.look()):
                    await self._changed.wait()

    async def _follow(self, position: int) -> None:
        async for rows in subscribe(self._store, position):
            if any(row.type in _CHANGES for row in rows):
                self._changed.set()

    async def look(self) -> float | None:
        """Take every job that failed one further; the seconds until the next look, None where nothing waits."""
        async with self._store.session() as session:
            rows = await troubled_jobs(session)
        waits = [wait_s for row in rows if (wait_s := await self._guarded(row)) is not None]
        return min(waits, default=None)

    async def _guarded(self, row: JobRow) -> float | None:
        """One job's trouble in deciding is a delay for that job, not the end of deciding."""
        trouble = f"recovery of job {row.job_id}"
        try:
            wait_s = await self._look_at(row)
        except BtmdError as error:
            log.error("job %s: what follows its failure cannot be recorded yet: %s", row.job_id, error.detail)
            self._troubles[trouble] = error.detail
            return LEAVING_S * 10
        except Exception:
            log.exception("job %s: it cannot be decided what follows its failure", row.job_id)
            self._troubles[trouble] = f"It cannot be decided how job {row.job_id} goes on; the daemon's log says why."
            return LOOK_AGAIN_S
        self._troubles.pop(trouble, None)
        return wait_s

    async def _look_at(self, row: JobRow) -> float | None:
        state, _ = await self._handler.state(stream_name(row.job_id))
        assert isinstance(state, JobState)
        now_us = self._clock()
        if state.undecided:
            return await self._decide(row, state)
        if state.question is not None:
            if state.question.action in WAITS and await self._is_there(row, state):
                await self._do(MarkDue(row.job_id, state.attempt))
                return None
            if now_us >= state.question.deadline_us:
                await self._do(ExpireQuestion(row.job_id, now_us))
                return None
            return min(LOOK_AGAIN_S, (state.question.deadline_us - now_us) / 1e6)
        if state.not_before_us > now_us:
            return min(LOOK_AGAIN_S, (state.not_before_us - now_us) / 1e6)
        if state.not_before_us and state.state == "recovering":
            if await self._is_there(row, state):
                await self._do(MarkDue(row.job_id, state.attempt))
            elif (command := await self._after_long(row, state, now_us)) is not None:
                await self._do(command)
            else:
                return LOOK_AGAIN_S
        return None

    async def _after_long(self, row: JobRow, state: JobState, now_us: int) -> JobCommand | None:
        """What follows on waiting for long in vain: a question; an end where only the result is still to be made."""
        waited_s = (now_us - state.not_before_us) / 1e6
        if state.not_before_us == WAITS_ON or waited_s < ASK_AFTER_S:
            return None
        answer_s, trouble = await self._answer_s(), state.troubles[-1]
        if state.asked == "stop":
            if waited_s < answer_s:
                return None
            said = text("gave_up_waiting", waited=format_duration(waited_s))
            hint = hint_text(trouble.reason, row.job_id, state.best_step)
            return FailJob(row.job_id, trouble.reason, f"{trouble.text} {said}", hint)
        told: dict[str, object] = {"waited_s": waited_s}
        if trouble.action == "wait_for_room":
            told["needed_bytes"] = await self._needed_bytes(row)
            told["free_bytes"] = await anyio.to_thread.run_sync(free_bytes, self._jobs_dir)
        has_checkpoint = state.best_step is not None
        question = question_text(trouble.action, told, answer_s=answer_s, has_checkpoint=has_checkpoint)
        deadline_us = now_us + int(answer_s * 1e6)
        return AskPerson(row.job_id, state.attempt, question, trouble.action, dict(trouble.changes), deadline_us)

    async def _answer_s(self) -> float:
        found, _ = await self._handler.state(settings.STREAM)
        return 3600 * float((found or SettingsState()).get("recovery.answer_hours"))

    async def _is_there(self, row: JobRow, state: JobState) -> bool:
        """Whether what the planned attempt waits for is there."""
        action = state.troubles[-1].action if state.troubles else ""
        if action == "wait_for_device":
            return await anyio.to_thread.run_sync(self._device_is_there)
        if action == "wait_for_room":
            needed = await self._needed_bytes(row)
            return await anyio.to_thread.run_sync(free_bytes, self._jobs_dir) >= needed
        return True

    async def _decide(self, row: JobRow, state: JobState) -> float | None:
        folder = JobFolder(self._jobs_dir / row.job_id)
        if await anyio.to_thread.run_sync(folder.is_alive):
            # Its last word is there, it is not gone yet: what it leaves behind is looked at afterwards.
            return LEAVING_S
        async with self._store.session() as session:
            frozen = await job_plan(session, row.job_id)
        assert frozen is not None
        planned = msgspec.json.decode(frozen.trainer_plan_json)
        plan = {**planned, **state.changes}
        if (tried := await anyio.to_thread.run_sync(_tried_size, folder)) is not None:
            plan["micro_batch_size"] = min(int(plan["micro_batch_size"]), tried)
        trouble, history = state.troubles[-1], state.troubles[:-1]
        failure = Failure(trouble.reason, trouble.step, trouble.rows, trouble.evidence)
        limits = await self._limits(row, state, planned, trouble.reason)
        allowed = frozenset(state.allow)
        decision = decide(failure, history, plan, allowed, limits)
        if isinstance(decision, GiveUp) and decision.ways:
            ways = await self._ways_out.find(row, frozen, plan, decision.ways)
            decision = decide(failure, history, plan, allowed, limits, ways)
        log.info("job %s: attempt %d failed (%s): %s", row.job_id, state.attempt, trouble.reason, _named(decision))
        await self._do(await self._command(row, state, trouble, decision))
        return None

    async def _limits(self, row: JobRow, state: JobState, planned: dict[str, Any], reason: str) -> Limits:
        found, _ = await self._handler.state(settings.STREAM)
        chosen = found or SettingsState()
        room = needed = 0
        if reason == "disk_full":
            async with self._store.session() as session:
                kept = await checkpoints(session, row.job_id)
            keep = {one.name for one in kept if one.best} | {one.name for one in kept[-1:]}
            folder = JobFolder(self._jobs_dir / row.job_id)
            freed = await anyio.to_thread.run_sync(free_own, folder, keep)
            log.info("job %s: %d bytes of its own were freed", row.job_id, freed)
            needed = await self._needed_bytes(row)
            room = await anyio.to_thread.run_sync(free_bytes, self._jobs_dir)
        is_there = True
        if reason == "device":
            is_there = await anyio.to_thread.run_sync(self._device_is_there)
        return Limits(
            attempts=int(chosen.get("recovery.attempts")),
            crash_resumes=int(chosen.get("jobs.crash_resumes")),
            first_wait_s=float(chosen.get("recovery.wait_s")),
            may_ask=state.asked != "stop",
            total_steps=row.total_steps,
            planned_rate=float(planned["learning_rate"]),
            best_step=row.best_step,
            free_bytes=room,
            needed_bytes=needed,
            device_is_there=is_there,
        )

    async def _needed_bytes(self, row: JobRow) -> int:
        found, _ = await self._handler.state(settings.STREAM)
        reserve = int(float((found or SettingsState()).get("disk.reserve_gb")) * GIB)
        async with self._store.session() as session:
            kept, frozen = await checkpoints(session, row.job_id), await job_plan(session, row.job_id)
        sizes = [one.size_bytes for one in kept]
        if not sizes and isinstance(frozen, JobPlanRow):
            disk = msgspec.json.decode(frozen.plan_json).get("disk") or {}
            sizes = [int(disk.get("checkpoint_bytes") or 0)]
        return max(reserve, needed_bytes(max(sizes, default=0)))

    async def _command(self, row: JobRow, state: JobState, trouble: Trouble, decision: Decision) -> JobCommand:
        job_id, attempt = row.job_id, state.attempt
        now_us = self._clock()
        match decision:
            case Retry() | Wait():
                waits = decision.wait_s > 0 or isinstance(decision, Wait)
                not_before_us = now_us + int(decision.wait_s * 1e6) if waits else 0
                text = action_text(decision.action, decision.told)
                return PlanRecovery(job_id, attempt, decision.action, dict(decision.changes), text, not_before_us)
            case Ask():
                answer_s = await self._answer_s()
                question = question_text(
                    decision.action, decision.told, answer_s=answer_s, has_checkpoint=state.best_step is not None
                )
                deadline_us = now_us + int(answer_s * 1e6)
                return AskPerson(job_id, attempt, question, decision.action, dict(decision.changes), deadline_us)
            case GiveUp():
                text = f"{trouble.text} {gave_up_text(decision)}".strip()
                hint = hint_text(decision.reason, job_id, state.best_step)
                return GiveUpJob(job_id, attempt, decision.reason, text, hint)

    async def _do(self, command: JobCommand) -> None:
        await self._handler.handle(command, actor=self._actor)


class _Tried(msgspec.Struct):
    micro_batch_size: int


def _tried_size(folder: JobFolder) -> int | None:
    """How many rows at once the trial came down to by itself; None where it has not said."""
    try:
        return msgspec.json.decode(folder.trial_path.read_bytes(), type=_Tried).micro_batch_size
    except (OSError, msgspec.DecodeError):
        return None


def _named(decision: Decision) -> str:
    return f"given up ({decision.reason})" if isinstance(decision, GiveUp) else decision.action
