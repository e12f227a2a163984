"""What a model can be trained as on this machine: one plan for each way of training, made and thrown away."""

from collections.abc import Mapping

from msgspec import Struct

from btmd.domain.hardware import Hardware
from btmd.domain.model import ModelFacts
from btmd.domain.preset import Preset
from btmd.domain.units import format_bytes
from btmd.errors import BtmdError
from btmd.planning import PlanRequest, TokenFacts, make_plan

WAYS = ("lora_adaptation", "qlora_adaptation", "fine_tuning")
"""Training types that differ in what they need of the machine, the least demanding for speed first."""
WAY_TEXTS = {
    "lora_adaptation": "an adapter (LoRA)",
    "qlora_adaptation": "an adapter on a 4-bit base (QLoRA)",
    "fine_tuning": "all weights",
}
_LARGE_ON_CPU = 2_000_000_000
"""Weights above which a training without a GPU takes days."""
USUAL_ROWS = TokenFacts(rows=1000, total_tokens=150_000, learned_tokens=80_000, longest_row=256)


def estimated_tokens(rows: int, average_chars: float, longest_chars: int) -> TokenFacts:
    """A dataset in the tokens of no tokenizer in particular: about four characters each, three in the longest row."""
    total = max(rows, round(rows * average_chars / 4))
    return TokenFacts(
        rows=rows, total_tokens=total, learned_tokens=max(1, total // 2), longest_row=max(1, longest_chars // 3)
    )


class Compatibility(Struct, frozen=True):
    """One way of training on this machine; ``needed_bytes`` is None where no plan could be made."""

    training_type: str
    fits: bool
    reason: str
    needed_bytes: int | None = None


class Verdict(Struct, frozen=True):
    """A model on this machine, in a word and a sentence. ``rank`` sorts: the best first."""

    verdict: str
    """``fits``, ``slow``, ``too_large`` or ``no_template``."""
    reason: str
    ways: tuple[Compatibility, ...]
    rank: tuple[int, int, int]


def compatibility(
    model: ModelFacts, hardware: Hardware, presets: Mapping[str, Preset], tokens: TokenFacts = USUAL_ROWS
) -> tuple[Compatibility, ...]:
    """Each way of training with the reason why it fits or does not. ``presets`` must hold ``quick_test``."""
    return tuple(_try(way, model, hardware, presets["quick_test"], tokens) for way in WAYS)


def _try(way: str, model: ModelFacts, hardware: Hardware, preset: Preset, tokens: TokenFacts) -> Compatibility:
    try:
        plan = make_plan(PlanRequest(preset, model, tokens, hardware, {}, {"training_type": way}))
    except BtmdError as error:
        return Compatibility(way, False, error.detail)
    needed, free = plan.memory.total_bytes, plan.memory_available_bytes
    reason = f"Needs about {format_bytes(needed)}; {format_bytes(free)} are free."
    return Compatibility(way, True, reason, needed)


def judge(
    model: ModelFacts, hardware: Hardware, presets: Mapping[str, Preset], tokens: TokenFacts = USUAL_ROWS
) -> Verdict:
    """Whether this model is worth choosing here, and why."""
    ways = compatibility(model, hardware, presets, tokens)
    possible = [one for one in ways if one.fits]
    chat = 0 if model.has_chat_template else 1
    if not possible:
        return Verdict("too_large", f"Not on this machine: {ways[0].reason}", ways, (3, chat, model.parameters))
    if model.template_problem:
        return Verdict("no_template", model.template_problem, ways, (2, chat, -model.parameters))
    words = " or ".join(WAY_TEXTS[one.training_type] for one in possible)
    reason = f"Trains {words}. {possible[0].reason}"
    if not model.has_chat_template:
        reason += " It has no chat template: better for plain text than for a chat."
    if not hardware.gpus and model.parameters > _LARGE_ON_CPU:
        return Verdict("slow", f"{reason} Without a GPU it takes days.", ways, (1, chat, model.parameters))
    return Verdict("fits", reason, ways, (0, chat, -model.parameters))
