"""What a restore does to own presets and to what people were granted."""

from collections.abc import Callable, Mapping, Set

from btmd.domain.access import STREAM, AccessGranted, AccessRevoked, Grant, rank
from btmd.domain.preset import Preset
from btmd.domain.preset_definition import differing, redefined, stream_name, values_of
from btmd.domain.restore import COMPONENTS, Manner, Restored, RestorePlan


def plan_preset(
    plan: RestorePlan,
    key: str,
    now: Preset | None,
    then: Preset | None,
    manner: Manner,
    why: str,
    unusable: Callable[[Preset], str],
) -> None:
    """One own preset. ``unusable`` says why this release cannot take an earlier definition, if it cannot."""
    if now == then or (then is None and manner.mode == "merge"):
        return
    if now is None or then is None:
        changed = [Restored("presets", key, "defined" if now else None, "defined" if then else None)]
    else:
        before, after = values_of(now), values_of(then)
        changed = [
            Restored("presets", f"{key}.{name}", _word(before[name]), _word(after[name]))
            for name in differing(now, then)
        ]
        if not all([plan.settle(one, manner) for one in changed]):
            return
    refusal = unusable(then) if then is not None else ""
    if refusal:
        plan.left_alone.append(f"presets: {key} cannot come back, {refusal}")
        return
    first, *more = changed
    plan.change(first, stream_name(key), *redefined(key, now, then, why, given_back=True))
    plan.changes += more


def plan_access(
    plan: RestorePlan,
    now: Mapping[str, Grant],
    then: Mapping[str, Grant],
    withdrawn: Set[str],
    manner: Manner,
    why: str,
    missing: Callable[[str, int], str],
) -> None:
    """Who may what. What was taken away since, from those in ``withdrawn``, comes back only where access is named.

    ``missing`` says why a subject with its kernel's number cannot be granted anything here, if it cannot.
    """
    named = "access" in manner.components and manner.components != COMPONENTS
    for subject in sorted(now.keys() | then.keys()):
        have, had = now.get(subject), then.get(subject)
        if have == had or (had is None and manner.mode == "merge"):
            continue
        changed = Restored("access", subject, have.role if have else None, had.role if had else None)
        if have is not None and had is not None and not plan.settle(changed, manner):
            continue
        if had is None:
            assert have is not None
            plan.change(changed, STREAM, AccessRevoked(subject, have.kernel_id, have.role, why, by_restore=True))
            continue
        if not named and subject in withdrawn and rank(had.role) > rank(have.role if have else None):
            plan.left_alone.append(f"access: {subject} does not get {had.role} again; --only access brings it back")
            continue
        lost = missing(subject, had.kernel_id)
        if lost:
            plan.left_alone.append(f"access: {subject} does not get {had.role} again, {lost}")
            continue
        granted = AccessGranted(subject, had.kernel_id, had.role, have.role if have else None, why, by_restore=True)
        plan.change(changed, STREAM, granted)


def _word(value: object) -> int | float | bool | str:
    return value if isinstance(value, (int, float, bool, str)) else ", ".join(map(str, value))  # type: ignore[call-overload]
