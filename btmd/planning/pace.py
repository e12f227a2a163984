"""The rough pace of a plan that is still being made; the forecast of the finished plan is another matter."""

from btmd.planning.choices import Choices
from btmd.planning.fit import Fit
from btmd.planning.time_estimate import StepWork, usual_step_seconds


def planned_step_seconds(choices: Choices, fit: Fit) -> float:
    """Seconds of one optimizer step as chosen so far, within a factor of about three."""
    request = choices.request
    work = StepWork(
        model=request.model,
        trained=0 if fit.adapter else request.model.parameters,
        precision=fit.precision,
        gradient_checkpointing=fit.gradient_checkpointing,
        batch_size=choices.integer("batch_size"),
        mean_length=max(1.0, min(request.tokens.mean_length, fit.length.max_length)),
    )
    return usual_step_seconds(work, request.hardware, device=fit.device, threads=choices.integer("threads"))
