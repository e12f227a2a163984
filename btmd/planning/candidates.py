"""Every shape a training could take here, best first, whatever the memory.

The order is the type, then the length, then the speed. It does not depend on how much memory is free, and the more is
free the more of the shapes fit: so more memory never gives a worse type, at the same type never a shorter length, and
at the same type and length never a slower plan.
"""

from collections.abc import Iterator, Mapping

from msgspec import Struct

from btmd.errors import InvalidValue
from btmd.planning.devices import Device, devices_for
from btmd.planning.hyperparameters import HyperparameterValue
from btmd.planning.length import LengthOption, asked_length, length_options
from btmd.planning.memory import Shape
from btmd.planning.request import PlanRequest
from btmd.planning.row_kinds import PACKED_TYPE, PAIR_TYPE, packed_tokens, refuse_unfit_rows
from btmd.planning.time_estimate import StepWork, usual_step_seconds
from btmd.planning.training_types import TypeOption, training_type_of, type_options

CPU_MICRO_BATCH = 4
"""Rows computed at once on a CPU: measured 303, 368, 378 and 417 tokens a second with 1, 2, 4 and 8."""
GPU_MICRO_BATCH = 64
CPU_PATIENCE_S = 24 * 3600
"""A training on the CPU that takes longer gives way to a lesser one on the GPU, where that is permitted too."""


class Candidate(Struct, frozen=True):
    """One shape, with the permissions that it makes use of."""

    option: TypeOption
    device: Device
    length: LengthOption
    shape: Shape
    micro_batch_size: int
    changed: tuple[str, ...]


def candidates(
    request: PlanRequest, chosen: Mapping[str, HyperparameterValue], allow: frozenset[str]
) -> Iterator[Candidate]:
    """All shapes, best first. Raises InvalidValue and DatasetRefused for a wish that none could meet."""
    asked_type = training_type_of(request, chosen)
    refuse_unfit_rows(request.tokens, asked_type)
    options = type_options(request, chosen)
    devices = devices_for(request, chosen)
    lengths = _lengths(request, chosen, asked_type)
    for option in options:
        for length in lengths:
            sensible = [
                device for device in devices if _is_sensible(option, device, length, options, request, chosen, allow)
            ]
            yield from _fastest_first(option, length, sensible, request, chosen)


def _lengths(request: PlanRequest, chosen: Mapping[str, HyperparameterValue], asked_type: str) -> list[LengthOption]:
    context = request.model.context_length
    asked = chosen.get("max_length")
    if asked is not None:
        assert isinstance(asked, int)
        return [asked_length(asked, context)]
    tokens = packed_tokens(request.tokens, request.preset) if asked_type == PACKED_TYPE else request.tokens
    options = length_options(request.preset, tokens, context)
    limit = request.shorter_than
    return options if limit is None else [option for option in options if option.max_length < limit]


def _is_sensible(
    option: TypeOption,
    device: Device,
    length: LengthOption,
    options: list[TypeOption],
    request: PlanRequest,
    chosen: Mapping[str, HyperparameterValue],
    allow: frozenset[str],
) -> bool:
    """Whether anybody would want this on this device. Nothing in it may depend on memory."""
    if option.quantised and not device.quantises:
        return False
    if device.needs != "cpu":
        return True
    if length.is_raised:
        return False
    lesser = [other for other in options[options.index(option) + 1 :] if other.needs in allow]
    return not lesser or _cpu_seconds(option, device, request, chosen) <= CPU_PATIENCE_S


def _cpu_seconds(
    option: TypeOption, device: Device, request: PlanRequest, chosen: Mapping[str, HyperparameterValue]
) -> float:
    """About how long the whole training takes on the CPU."""
    epochs = chosen.get("num_epochs", request.preset.num_epochs)
    assert isinstance(epochs, int)
    return request.tokens.rows * epochs * _row_seconds(option, device, False, request)


def _fastest_first(
    option: TypeOption,
    length: LengthOption,
    devices: list[Device],
    request: PlanRequest,
    chosen: Mapping[str, HyperparameterValue],
) -> Iterator[Candidate]:
    """The shapes of one type and length by their pace; of equal ones the one that computes most rows at once."""
    twice = [bool(chosen["gradient_checkpointing"])] if "gradient_checkpointing" in chosen else [False, True]
    paced = [
        (_row_seconds(option, device, again, request), -micro, place, again)
        for place, device in enumerate(devices)
        for again in twice
        for micro in micro_batches(request, chosen, device)
    ]
    for _, less_micro, place, again in sorted(paced):
        yield _candidate(option, length, devices[place], again, -less_micro, request, chosen)


def _candidate(
    option: TypeOption,
    length: LengthOption,
    device: Device,
    again: bool,
    micro: int,
    request: PlanRequest,
    chosen: Mapping[str, HyperparameterValue],
) -> Candidate:
    names = chosen.get("target_modules", request.preset.target_modules)
    assert isinstance(names, tuple)
    needs = (option.needs, device.needs, "shorter" if length.needs_permission else "")
    shape = Shape(
        micro,
        length.max_length,
        device.precision,
        again,
        option.lora_r,
        device.name,
        names,
        quantised_base=option.quantised,
        # A pair is two sequences that are computed together.
        rows_an_example=2 if option.training_type == PAIR_TYPE else 1,
    )
    return Candidate(option, device, length, shape, micro, tuple(need for need in needs if need))


def _row_seconds(option: TypeOption, device: Device, again: bool, request: PlanRequest) -> float:
    """About how long a usual row takes; ``again`` where activations are computed twice."""
    model, tokens = request.model, request.tokens
    work = StepWork(
        model=model,
        trained=0 if option.lora_r > 0 else model.parameters,
        precision=device.precision,
        gradient_checkpointing=again,
        batch_size=1,
        mean_length=max(1.0, tokens.mean_length),
    )
    return usual_step_seconds(work, request.hardware, device=device.name, threads=request.hardware.cpu.usable_cores)


def micro_batches(request: PlanRequest, chosen: Mapping[str, HyperparameterValue], device: Device) -> list[int]:
    """Rows at once, largest first, balanced so that the last part of a step is not a small rest."""
    batch_size = chosen.get("batch_size", request.preset.batch_size)
    assert isinstance(batch_size, int)
    asked = chosen.get("micro_batch_size")
    if asked is not None:
        assert isinstance(asked, int)
        if asked > batch_size:
            raise InvalidValue(
                f"micro_batch_size cannot be {asked}: a step has only {batch_size} rows.",
                hint="Make batch_size larger, or micro_batch_size smaller.",
            )
        return [asked]
    most = min(batch_size, CPU_MICRO_BATCH if device.is_cpu else GPU_MICRO_BATCH)
    parts = {-(-batch_size // limit) for limit in range(1, most + 1)}
    return sorted({-(-batch_size // count) for count in parts}, reverse=True)
