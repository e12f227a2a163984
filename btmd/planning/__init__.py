"""From preset, model, data and machine to a plan with reasons. Pure: no clock, no IO, no randomness."""

from btmd.planning.plan import Plan, Value
from btmd.planning.planner import make_plan
from btmd.planning.recommend import SIMPLEST_PRESET, choose_preset, guess_preset, recommend, why_untrainable_by_name
from btmd.planning.request import PlanRequest, TokenFacts

__all__ = [
    "SIMPLEST_PRESET",
    "Plan",
    "PlanRequest",
    "TokenFacts",
    "Value",
    "choose_preset",
    "guess_preset",
    "make_plan",
    "recommend",
    "why_untrainable_by_name",
]
