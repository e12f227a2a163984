"""Forecasts with this machine's own record behind them, and what a trainer needs to make a better one."""

from msgspec import Struct

from btmd.domain.forecast import GPU_MEMORY, MEMORY, TIME, TRIAL, Forecast
from btmd.domain.hardware import Hardware
from btmd.domain.model import ModelFacts
from btmd.job_folder import TrialPlan
from btmd.planning import Plan, TokenFacts
from btmd.planning.calibration import History, factors
from btmd.planning.forecast import forecast_plan, row_bytes, trial_seconds
from btmd.planning.time_estimate import sustained_rates
from btmd.projections.forecast import machine_rate, outcomes
from btmd.store.event_log import Store


class Foretold(Struct, frozen=True):
    """A forecast, and the trial that is to better it; no trial where it would not repay itself."""

    forecast: Forecast
    trial: TrialPlan | None


async def foretell(store: Store, plan: Plan, model: ModelFacts, tokens: TokenFacts, hardware: Hardware) -> Foretold:
    """The forecast for a plan."""
    device = plan.text("device")
    kind = "cpu" if device == "cpu" else "cuda"
    async with store.session() as session:
        rate = await machine_rate(session, kind, plan.text("precision"), plan.integer("threads"))
        history = await outcomes(session, kind)
    rates = None if rate is None else sustained_rates(rate.flops, rate.copied_bytes_s, device=kind)
    forecast = forecast_plan(plan, model, tokens, hardware, rates=rates, history=history)
    most_s = trial_seconds(forecast, plan.number("time_limit_s"))
    if not most_s:
        return Foretold(forecast, None)
    disk = forecast.disk_bytes
    return Foretold(
        forecast,
        TrialPlan(
            most_s=most_s,
            memory_factors=_factors(history, MEMORY),
            gpu_memory_factors=_factors(history, GPU_MEMORY),
            time_factors=_factors(history, TIME),
            disk_bytes=(disk.low, disk.middle, disk.high),
            row_bytes=row_bytes(plan, model),
            limit_bytes=hardware.memory.limit_bytes or 0,
            measures_rates=rate is None,
        ),
    )


def _factors(history: History, quantity: str) -> tuple[float, float, float]:
    found = factors(history, quantity, TRIAL)
    return found.low, found.middle, found.high
