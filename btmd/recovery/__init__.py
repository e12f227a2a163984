"""From a failed attempt and what was tried before to the next attempt. Pure: clock and planner are asked outside."""

from btmd.recovery.causes import Death, cause_of
from btmd.recovery.decisions import Ask, Decision, Failure, GiveUp, Limits, Retry, Wait, Way
from btmd.recovery.policy import decide

__all__ = [
    "Ask",
    "Death",
    "Decision",
    "Failure",
    "GiveUp",
    "Limits",
    "Retry",
    "Wait",
    "Way",
    "cause_of",
    "decide",
]
