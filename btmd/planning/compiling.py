"""Whether compiling the model repays itself."""

from btmd.domain.units import format_duration
from btmd.planning.choices import Choices
from btmd.planning.fit import Fit
from btmd.planning.memory import FUSED_ARCHITECTURES
from btmd.planning.pace import planned_step_seconds

COMPILE_S = {"cpu": 360.0, "gpu": 120.0}
"""What compiling the passes for training and for measuring takes."""
SPEED_UP = 1.3
"""Measured once, after compiling, on two cores."""
DOUBT = 3.0
"""The pace is only known within this factor, so what is saved has to be worth so much more."""


def choose_compile(choices: Choices, fit: Fit, total_steps: int) -> None:
    """Choose whether to compile: only what certainly repays its minutes is worth them."""
    request = choices.request
    if request.model.architecture in FUSED_ARCHITECTURES:
        text = "This model is computed by layers of btmd's own, which compiling does not make faster."
        choices.choose("compile", False, "model", text)
        return
    if not request.hardware.has_compiler:
        text = "There is no C++ compiler on this machine, which compiling needs."
        choices.choose("compile", False, "hardware", text)
        return
    cost_s = COMPILE_S["cpu" if fit.device == "cpu" else "gpu"]
    run_s = total_steps * planned_step_seconds(choices, fit)
    saved_s = run_s * (1 - 1 / SPEED_UP)
    repays = saved_s > DOUBT * cost_s
    text = (
        f"It takes about {format_duration(cost_s)} once and saves about {format_duration(saved_s)} of "
        f"{format_duration(run_s)}: " + ("that repays itself." if repays else "too little to be sure that it pays.")
    )
    choices.choose("compile", repays, "hardware", text)
