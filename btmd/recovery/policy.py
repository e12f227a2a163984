"""From failure and history to the next attempt.

What is free is tried first: it changes how a step is computed, never what is learned from which rows (but for rows in
quarantine and a lower rate, where the training would fail otherwise). What changes more needs a permission, given
beforehand or asked for now. The effective batch is never touched.

``history`` holds the troubles since a checkpoint last came further than all before it, the present one left out: so
progress resets the count, and a training of finitely many steps ends.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from btmd.domain.job_state import CRASHES, Trouble
from btmd.recovery.decisions import Ask, Decision, Failure, GiveUp, Limits, Retry, Wait, Way
from btmd.recovery.numbers import steadier

FINAL = ("data", "model", "model_changed")
"""What no other attempt can change."""
NUMBERS = ("not_a_number", "loss_diverging", "loss_spiking")
HANGS = ("hung", "stalled")
MEMORY_WAYS = ("shorter", "lora", "qlora", "cpu", "simpler")
"""What may give way to memory, in the order in which it is tried."""
DEVICE_WAYS = ("cpu",)
WAIT_FACTOR = 4
REPETITIONS = ("again", "again_later")


def decide(
    failure: Failure,
    history: Sequence[Trouble],
    plan: Mapping[str, Any],
    allowed: frozenset[str],
    limits: Limits,
    ways: Sequence[Way] | None = None,
) -> Decision:
    """What to do about a failure.

    ``plan`` is the trainer plan with all earlier changes. ``ways`` are changes of what was asked for that would help;
    None: not looked for yet, and a GiveUp then names those to look for. An action that was the last one tried is never
    returned again with the same changes, but for plain repetition, which waits longer each time.
    """
    reason = failure.reason
    if reason in FINAL:
        return GiveUp(reason)
    if reason == "disk_full":
        return _disk(history, plan, limits)
    # Crashes have a bound of their own, which people have set for themselves.
    exhausted = sum(not _is_crash(one.reason) for one in history) >= limits.attempts
    if (_is_crash(reason) or not exhausted) and (free := _free(failure, history, plan, limits)) is not None:
        return free
    wanted = _wanted_ways(reason, plan)
    return _with_ways(failure, history, wanted, allowed, limits, ways, exhausted=exhausted)


def _free(failure: Failure, history: Sequence[Trouble], plan: Mapping[str, Any], limits: Limits) -> Retry | Wait | None:
    """What needs no permission; None when nothing of it is left."""
    reason = failure.reason
    if reason == "out_of_memory":
        return _less_memory(history, plan)
    if reason in NUMBERS:
        before = [one for one in history if one.reason in NUMBERS]
        return steadier(failure, before, plan, limits)
    if reason == "device":
        return _device(history, limits)
    if reason in HANGS or reason == "reboot":
        return _again(history, limits)
    # Anything unknown is taken for a crash.
    crashes = sum(_is_crash(one.reason) for one in history)
    return _again(history, limits) if crashes < limits.crash_resumes else None


_KNOWN = (*FINAL, *NUMBERS, *HANGS, "out_of_memory", "disk_full", "device", "reboot")


def _is_crash(reason: str) -> bool:
    return reason in CRASHES or reason not in _KNOWN


def _count(history: Sequence[Trouble], reasons: Sequence[str]) -> int:
    return sum(one.reason in reasons for one in history)


def _again(history: Sequence[Trouble], limits: Limits, *, at_once: bool = True) -> Retry:
    """The same once more: at once the first time, then later and later, whatever it was that failed meanwhile."""
    before = sum(one.action in REPETITIONS for one in history)
    if before == 0 and at_once:
        return Retry("again", {}, {"times": 1})
    wait_s = min(limits.longest_wait_s, limits.first_wait_s * WAIT_FACTOR ** max(0, before - 1))
    return Retry("again_later", {}, {"times": len(history) + 1, "wait_s": wait_s}, wait_s)


def _less_memory(history: Sequence[Trouble], plan: Mapping[str, Any]) -> Retry | None:
    """Fewer rows at once and more of them added up, then activations computed twice."""
    size, batch = int(plan["micro_batch_size"]), int(plan["batch_size"])
    if size > 1:
        # By half the first time, then faster: each step down costs a start.
        tried = sum(one.action == "smaller_micro_batch" for one in history)
        smaller = max(1, size // 2 ** (tried + 1))
        return Retry(
            "smaller_micro_batch", {"micro_batch_size": smaller}, {"before": size, "now": smaller, "batch": batch}
        )
    if not plan["gradient_checkpointing"]:
        return Retry("checkpointing", {"gradient_checkpointing": True})
    return None


def _device(history: Sequence[Trouble], limits: Limits) -> Retry | Wait | None:
    before = _count(history, ("device",))
    if not limits.device_is_there:
        return Wait("wait_for_device", wait_s=limits.first_wait_s)
    return _again(history, limits, at_once=False) if before < limits.crash_resumes else None


def _disk(history: Sequence[Trouble], plan: Mapping[str, Any], limits: Limits) -> Decision:
    """Room is made by the daemon before it asks here; where that was not enough, somebody has to make some."""
    told = {"free_bytes": limits.free_bytes, "needed_bytes": limits.needed_bytes}
    before = _count(history, ("disk_full",))
    if before >= limits.attempts:
        # Full again and again although there seemed to be room: a quota, say, or a program that fills it each time.
        return Ask("try_again", {}, {**told, "times": before + 1}) if limits.may_ask else GiveUp("disk_full", told)
    if before == 0 and int(plan.get("keep_checkpoints") or 1) > 1:
        return _when_there_is_room("fewer_checkpoints", {"keep_checkpoints": 1}, told, limits, 0.0)
    wait_s = 0.0 if before == 0 else min(limits.longest_wait_s, limits.first_wait_s * WAIT_FACTOR ** (before - 1))
    return _when_there_is_room("again_with_room", {}, {**told, "wait_s": wait_s}, limits, wait_s)


def _when_there_is_room(
    action: str, changes: Mapping[str, Any], told: Mapping[str, object], limits: Limits, wait_s: float
) -> Decision:
    if limits.free_bytes < limits.needed_bytes:
        return Wait("wait_for_room", changes, told, max(wait_s, limits.first_wait_s))
    return Retry(action, changes, told, wait_s)


def _wanted_ways(reason: str, plan: Mapping[str, Any]) -> tuple[str, ...]:
    """The changes of what was asked for that could help against it."""
    if reason == "out_of_memory":
        return MEMORY_WAYS
    # Figures run away on the CPU as well; whatever else fails on a GPU may be the GPU's doing.
    return () if reason in NUMBERS or plan["device"] == "cpu" else DEVICE_WAYS


def _with_ways(
    failure: Failure,
    history: Sequence[Trouble],
    wanted: Sequence[str],
    allowed: frozenset[str],
    limits: Limits,
    ways: Sequence[Way] | None,
    *,
    exhausted: bool,
) -> Decision:
    """What was permitted, or else a question, or else the end."""
    told: dict[str, object] = {"times": len(history) + 1}
    end = GiveUp("crash_limit" if _is_crash(failure.reason) else failure.reason, told)
    if ways is None:
        return GiveUp(end.reason, told, tuple(wanted)) if wanted else _last_question(failure, limits, end, exhausted)
    last = history[-1] if history else None
    helpful = [
        way
        for permission in wanted
        for way in ways
        if way.permission == permission and not (last and _same(last, way.permission, way.changes))
    ]
    permitted = [way for way in helpful if way.permission in allowed]
    if permitted and not exhausted:
        return Retry(permitted[0].permission, permitted[0].changes, permitted[0].told)
    if helpful and limits.may_ask:
        first = (permitted or helpful)[0]
        return Ask(first.permission, first.changes, {**told, **first.told})
    return _last_question(failure, limits, end, exhausted)


def _last_question(failure: Failure, limits: Limits, end: GiveUp, exhausted: bool) -> Decision:
    """Whether to try once more what usually passes by itself; of anything else it would be in vain."""
    if exhausted and limits.may_ask and failure.reason in (*HANGS, "reboot", "device"):
        return Ask("try_again", {}, end.told)
    return end


def _same(trouble: Trouble, action: str, changes: Mapping[str, Any]) -> bool:
    return trouble.action == action and trouble.changes == changes
