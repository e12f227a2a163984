"""A simpler preset in place of one of which nothing fits, where that was permitted.

Its shapes come after all of the asked preset's: of a lesser type, or of the least one permitted with shorter rows. So
more memory still never gives a worse type, nor shorter rows at the same type.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from btmd.planning.hyperparameters import HyperparameterValue
from btmd.planning.length import bucket
from btmd.planning.request import PlanRequest
from btmd.planning.training_types import EITHER_WAY_TYPES, FULL, LORA, QLORA, training_type_of, type_options

_RANK = {QLORA: 0, LORA: 1, FULL: 2}


def simpler_request(
    request: PlanRequest, chosen: Mapping[str, HyperparameterValue], allow: frozenset[str]
) -> PlanRequest | None:
    """The same wish with the simpler preset; None where there is none, or it was not permitted or would change nothing.

    The effective batch stays, as it does everywhere. Raises what ``type_options`` raises.
    """
    simpler, asked = request.simpler, request.preset
    if simpler is None or simpler.key == asked.key or "simpler" not in allow:
        return None
    if training_type_of(request, chosen) in EITHER_WAY_TYPES:
        return None
    least = _permitted(request, chosen, allow)[-1]
    training_type = min(simpler.training_type, least, key=_RANK.__getitem__)
    preset = replace(
        simpler,
        training_type=training_type,
        batch_size=asked.batch_size,
        max_length=min(simpler.max_length, asked.max_length),
    )
    made = replace(request, preset=preset, simpler=None)
    if max(_RANK[one] for one in _permitted(made, chosen, allow)) < _RANK[least]:
        return made
    length, limit = _free_length(made), _free_length(request)
    if "shorter" in allow or "max_length" in chosen or length >= limit:
        return None
    return replace(made, shorter_than=limit)


def _free_length(request: PlanRequest) -> int:
    """The shortest length that nobody has to permit."""
    return min(request.preset.max_length, request.model.context_length, bucket(request.tokens.longest_row))


def _permitted(request: PlanRequest, chosen: Mapping[str, HyperparameterValue], allow: frozenset[str]) -> list[str]:
    """Training types, the least one last."""
    options = type_options(request, chosen)
    return [option.training_type for option in options if not option.needs or option.needs in allow]
