"""What one machine can make of a preset, in a sentence."""

from collections.abc import Mapping

from msgspec import Struct

from btmd.domain.hardware import Hardware
from btmd.domain.model import ModelFacts
from btmd.domain.preset import Preset
from btmd.domain.units import GIB, format_bytes, format_duration
from btmd.errors import BtmdError, NotEnoughDisk, NotEnoughMemory
from btmd.planning.adapter_values import TYPE_TEXTS
from btmd.planning.forecast import forecast_plan
from btmd.planning.memory import Shape, estimate_memory
from btmd.planning.plan import Plan
from btmd.planning.planner import make_plan
from btmd.planning.request import ALLOWANCES, PlanRequest, TokenFacts
from btmd.planning.row_kinds import PACKED_TYPE, PAIR_TYPE
from btmd.planning.training_types import FULL, QLORA, quantises, require_package

USUAL_ROWS = 1000
FITS, FITS_CHANGED, IMPOSSIBLE = 0, 1, 2


class Verdict(Struct, frozen=True):
    """``rank``: FITS, FITS_CHANGED (with a permission) or IMPOSSIBLE; ``needed_bytes`` of memory as it stands."""

    rank: int
    needed_bytes: int
    text: str


def judge(preset: Preset, hardware: Hardware, model: ModelFacts | None = None) -> Verdict:
    """With a model the preset is planned for it and a thousand usual rows; else the catalogue's figure is compared."""
    return _for_model(preset, hardware, model) if model is not None else _by_catalogue(preset, hardware)


def usual_rows(preset: Preset) -> TokenFacts:
    """A thousand rows such as the preset is made for, half as long as it allows."""
    mean = max(1, preset.max_length // 2)
    learned = {PACKED_TYPE: mean, PAIR_TYPE: mean // 2}.get(preset.training_type, mean // 2)
    sides = 2 if preset.training_type == PAIR_TYPE else 1
    kind = {PACKED_TYPE: "text", PAIR_TYPE: "preference"}.get(preset.training_type, "conversation")
    return TokenFacts(
        rows=USUAL_ROWS,
        total_tokens=USUAL_ROWS * mean * sides,
        learned_tokens=USUAL_ROWS * learned * sides,
        longest_row=preset.max_length,
        kind=kind,
    )


def needed_bytes(preset: Preset, hardware: Hardware, model: ModelFacts | None) -> int:
    """Memory that a preset takes at least: for one model by formula, else the catalogue's figure."""
    if model is None:
        return int(preset.memory_requirements_gb * GIB)
    gpu = hardware.best_gpu
    native = gpu.native_bf16 if gpu else hardware.cpu.native_bf16
    shape = Shape(
        micro_batch_size=1,
        max_length=min(preset.max_length, model.context_length),
        precision="bf16" if native and preset.use_mixed_precision else "fp32",
        gradient_checkpointing=True,
        lora_r=0 if preset.training_type == FULL else preset.lora_r,
        device=f"cuda:{gpu.index}" if gpu else "cpu",
        target_modules=preset.target_modules,
        quantised_base=preset.training_type == QLORA and gpu is not None,
        rows_an_example=2 if preset.training_type == PAIR_TYPE else 1,
    )
    return estimate_memory(model, shape).total_bytes


def free_bytes(hardware: Hardware) -> int:
    """Memory of the device that would be used."""
    gpu = hardware.best_gpu
    return gpu.free_bytes if gpu else hardware.memory.available_bytes


def _by_catalogue(preset: Preset, hardware: Hardware) -> Verdict:
    gpu, free, needed = hardware.best_gpu, free_bytes(hardware), needed_bytes(preset, hardware, None)
    where = gpu.name if gpu else "this machine"
    if preset.training_type == QLORA and (why := _why_not_quantised(hardware)):
        return Verdict(IMPOSSIBLE, needed, f"Not on this machine, because {why}")
    figures = f"needs about {format_bytes(needed)}, {format_bytes(free)} are free."
    if needed > free:
        # Nobody has named a model: with a small one it may fit all the same.
        instead = "Close other programs, or choose a smaller preset."
        if preset.training_type == FULL:
            instead = "With --allow lora a small adapter would be trained instead."
        rank = FITS_CHANGED if preset.training_type == FULL else IMPOSSIBLE
        return Verdict(rank, needed, f"Too large for {where} now: {figures} {instead}")
    slow = "" if gpu or preset.difficulty == "beginner" else " Without a GPU it takes longer than the time given."
    return Verdict(FITS, needed, f"Fits {where}: {figures}{slow}")


def _why_not_quantised(hardware: Hardware) -> str:
    if not any(quantises(gpu) for gpu in hardware.gpus):
        return "a base of four bits needs an NVIDIA GPU."
    try:
        require_package(hardware)
    except BtmdError as error:
        return f"the package bitsandbytes is not installed. {error.hint}"
    return ""


def _for_model(preset: Preset, hardware: Hardware, model: ModelFacts) -> Verdict:
    needed = needed_bytes(preset, hardware, model)
    try:
        plan = _planned(preset, hardware, model, frozenset())
    except (NotEnoughMemory, NotEnoughDisk) as refused:
        return _changed(preset, hardware, model, needed, refused)
    except BtmdError as refused:
        return Verdict(IMPOSSIBLE, needed, f"Not on this machine, because: {refused.detail} {refused.hint}".strip())
    took = _duration(plan, preset, model, hardware)
    text = f"Fits, about {took} for {USUAL_ROWS:,} rows: {_figures(plan.memory.total_bytes, plan)}"
    return Verdict(FITS, needed, text)


def _changed(
    preset: Preset, hardware: Hardware, model: ModelFacts, needed: int, refused: NotEnoughMemory | NotEnoughDisk
) -> Verdict:
    """What would be done instead, with the fewest permissions."""
    changes = [one for one in ALLOWANCES if one != "simpler"]
    for allow in (*({one} for one in changes), set(changes)):
        try:
            plan = _planned(preset, hardware, model, frozenset(allow))
        except BtmdError:
            continue
        took = _duration(plan, preset, model, hardware)
        figures = f"Needs about {format_bytes(needed)}, {format_bytes(free_bytes(hardware))} are free"
        if isinstance(refused, NotEnoughDisk):
            figures = "Its checkpoints do not fit on the disk"
        flags = ",".join(one for one in changes if one in allow)
        text = f"{figures}: with --allow {flags} it would use {_instead(plan, preset)}, about {took}."
        return Verdict(FITS_CHANGED, needed, text)
    return Verdict(IMPOSSIBLE, needed, f"Not on this machine, because: {refused.detail}")


def _planned(preset: Preset, hardware: Hardware, model: ModelFacts, allow: frozenset[str]) -> Plan:
    return make_plan(PlanRequest(preset, model, usual_rows(preset), hardware, allow=allow))


def _instead(plan: Plan, preset: Preset) -> str:
    if plan.text("training_type") == QLORA:
        return "QLoRA"
    if plan.text("training_type") != preset.training_type:
        return TYPE_TEXTS[plan.text("training_type")]
    if plan.integer("max_length") < preset.max_length:
        return f"rows of up to {plan.integer('max_length')} tokens"
    return "the CPU" if plan.text("device") == "cpu" else "a small adapter"


def _figures(needed: int, plan: Plan) -> str:
    return f"needs about {format_bytes(needed)}, {format_bytes(plan.memory_available_bytes)} are free."


def _duration(plan: Plan, preset: Preset, model: ModelFacts, hardware: Hardware) -> str:
    seconds = forecast_plan(plan, model, usual_rows(preset), hardware).total_s.middle
    return format_duration(seconds)


def by_rank(judged: Mapping[str, Verdict], presets: Mapping[str, Preset], difficulties: tuple[str, ...]) -> list[str]:
    """Keys, those that fit first, easy before hard, small before large."""

    def place(key: str) -> tuple[int, int, int, str]:
        found = judged[key]
        return found.rank, difficulties.index(presets[key].difficulty), found.needed_bytes, key

    return sorted(judged, key=place)
