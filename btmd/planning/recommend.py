"""Which preset suits this machine, and which suits one model."""

from collections.abc import Iterable, Mapping

from btmd.domain.hardware import Hardware
from btmd.domain.model import ModelFacts
from btmd.domain.preset import DIFFICULTIES, Preset
from btmd.domain.units import GIB, format_bytes
from btmd.planning.memory import Shape, estimate_memory, usable_bytes
from btmd.planning.training_types import SUPPORTED_TYPES


def recommend(
    presets: Iterable[Preset], hardware: Hardware, model: ModelFacts | None = None
) -> list[tuple[Preset, str]]:
    """The presets that this version can run, those that fit first and easy before hard, each with a verdict.

    Without a model the catalogue's memory figure is compared; with one, what the preset needs for it.
    """
    gpu = hardware.best_gpu
    free = gpu.free_bytes if gpu else hardware.memory.available_bytes
    where = gpu.name if gpu else "this machine"
    judged = []
    for preset in presets:
        if preset.training_type not in SUPPORTED_TYPES:
            continue
        needed = needed_bytes(preset, hardware, model)
        fits = needed <= (usable_bytes(free) if model else free)
        judged.append(
            (
                not fits,
                DIFFICULTIES.index(preset.difficulty),
                needed,
                preset.key,
                preset,
                _verdict(preset, needed, free, where, fits=fits, on_cpu=gpu is None),
            )
        )
    return [(entry[4], entry[5]) for entry in sorted(judged, key=lambda entry: entry[:4])]


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
        lora_r=0 if preset.training_type == "fine_tuning" else preset.lora_r,
        device=f"cuda:{gpu.index}" if gpu else "cpu",
        target_modules=preset.target_modules,
    )
    return estimate_memory(model, shape).total_bytes


def _verdict(preset: Preset, needed: int, free: int, where: str, *, fits: bool, on_cpu: bool) -> str:
    if fits and not on_cpu:
        return f"Fits {where}: needs about {format_bytes(needed)}, {format_bytes(free)} are free."
    if fits:
        slow = " Without a GPU it takes longer than the time given." if preset.difficulty != "beginner" else ""
        return f"Fits this machine: needs about {format_bytes(needed)}, {format_bytes(free)} are free.{slow}"
    text = f"Too large for {where} now: needs about {format_bytes(needed)}, {format_bytes(free)} are free."
    if preset.training_type == "fine_tuning":
        return text + " With --allow lora a small adapter would be trained instead."
    return text + " Close other programs, or choose a smaller preset."


def choose_preset(presets: Mapping[str, Preset], model: ModelFacts, hardware: Hardware) -> tuple[Preset, str]:
    """The preset for one model on this machine, with the reason. ``presets`` must hold ``quick_test``."""
    fitting = [
        preset
        for preset, _ in recommend(presets.values(), hardware, model)
        if needed_bytes(preset, hardware, model) <= usable_bytes(_free(hardware))
    ]
    by_key = {preset.key: preset for preset in fitting}
    if model.is_code and "code_assistant" in by_key:
        return by_key["code_assistant"], "The model was made for code, and this preset fits the machine."
    if model.is_chat and hardware.gpus and "chat_fine_tune" in by_key:
        return by_key["chat_fine_tune"], "The model was made for chat, and the GPU has room for all its weights."
    return presets["quick_test"], "The quickest way to a first result; the other presets train longer."


def _free(hardware: Hardware) -> int:
    gpu = hardware.best_gpu
    return gpu.free_bytes if gpu else hardware.memory.available_bytes
