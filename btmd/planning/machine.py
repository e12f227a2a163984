"""What has to be right with the machine before anything is planned on it."""

from collections.abc import Mapping

from msgspec.structs import replace

from btmd.errors import GpuUnusable
from btmd.planning.hyperparameters import HyperparameterValue
from btmd.planning.request import PlanRequest


def on_usable_devices(
    request: PlanRequest, chosen: Mapping[str, HyperparameterValue], allow: frozenset[str]
) -> PlanRequest:
    """The request with only those GPUs that torch can use.

    Raises GpuUnusable where that would leave the CPU to somebody who did not ask for it.
    """
    refusal = request.hardware.gpu_refusal
    if refusal is None:
        return request
    device = chosen.get("device")
    if device != "cpu" and (device is not None or "cpu" not in allow):
        raise GpuUnusable(refusal.detail, hint=refusal.remedy)
    hardware = request.hardware
    problems = (*hardware.problems, f"{refusal.detail} The CPU is used, as you allowed. {refusal.remedy}")
    return replace(request, hardware=replace(hardware, gpus=(), problems=problems))
