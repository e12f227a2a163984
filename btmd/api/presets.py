"""Presets: those recommended for this machine, and the best one for a model."""

from typing import Annotated, Any

import anyio.to_thread
from msgspec import Meta
from msgspec.structs import asdict
from starlette.responses import Response

from btmd.api.answers import described, json_answer
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import Permission
from btmd.api.shapes import one_of, typed
from btmd.domain.event import Actor
from btmd.domain.preset import Preset
from btmd.errors import ModelNotFound, ModelRefused
from btmd.hardware import probe
from btmd.naming import find_model
from btmd.planning import choose_preset, guess_preset, recommend, why_untrainable_by_name

router = Router(tags=("presets",))

EXAMPLE = {
    **typed(
        Preset,
        {
            "key": "quick_test",
            "name": "Quick Test",
            "description": "...",
            "difficulty": "beginner",
            "training_type": "lora_adaptation",
            "num_epochs": 1,
            "learning_rate": 3e-4,
            "batch_size": 4,
            "max_length": 256,
            "warmup_ratio": 0.1,
            "use_mixed_precision": True,
            "gradient_checkpointing": True,
            "recommended_for": ["learning"],
            "estimated_time": "15-30 minutes",
            "memory_requirements_gb": 2.0,
            "lora_r": 16,
            "lora_alpha": 32,
            "lora_dropout": 0.0,
            "target_modules": [],
            "weight_decay": 0.0,
            "lr_scheduler": "cosine",
            "max_gradient_norm": 1.0,
            "dpo_beta": 0.1,
        },
    ),
    "origin": one_of("built-in", ("built-in", "own")),
    "verdict": "Fits this machine.",
}
BEST_EXAMPLE = {
    **EXAMPLE,
    "trainable": True,
    "verdict": "The model was made for code, and this preset fits the machine.",
}


def preset_json(parts: Parts, preset: Preset, verdict: str) -> dict[str, Any]:
    return {**asdict(preset), "origin": parts.presets.origin(preset.key), "verdict": verdict}


@operation(
    router, "GET", "/presets", Permission.READ, **described([EXAMPLE], text="those that fit first", errors=(404,))
)
async def recommended_presets(
    parts: Parts, model_id: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
) -> Response:
    """Presets for this machine, each with a verdict in words; with `model_id`, for this model on this machine."""
    facts = None
    if model_id is not None:
        async with parts.store.session() as session:
            facts = (await find_model(session, model_id)).facts
    hardware = await anyio.to_thread.run_sync(probe, parts.config.state_dir)
    found = (await parts.presets.all()).values()
    async with parts.computing.turn():
        judged = await anyio.to_thread.run_sync(recommend, found, hardware, facts)
    return json_answer([preset_json(parts, preset, verdict) for preset, verdict in judged])


@operation(router, "GET", "/presets/{model_id:path}", Permission.READ, **described(BEST_EXAMPLE, errors=(404,)))
async def preset_for_model(model_id: str, parts: Parts, actor: Actor) -> Response:
    """The best preset for one model on this machine; the verdict is the reason.

    The model is registered, an id of the local Hugging Face cache or a folder's path; of any other the id alone is
    told from, as a guess. `trainable` is false, and the verdict says why, where it cannot be trained here.
    """
    hardware = await anyio.to_thread.run_sync(probe, parts.config.state_dir)
    built_in = parts.presets.built_in
    try:
        async with parts.store.session() as session:
            facts = (await find_model(session, model_id)).facts
    except ModelNotFound as missing:
        try:
            found = await parts.model_adding.facts_unregistered(model_id, actor=actor)
        except ModelRefused as refused:
            preset, reason = guess_preset(built_in, model_id, hardware, is_here=True)
            return _best(parts, preset, f"{refused.detail} {refused.hint} {reason}", trainable=False)
        if found is None and model_id.startswith("/"):
            missing.hint = "`btmctl models add PATH` adds it. The daemon looks at a path only for its own user."
            raise
        if found is None:
            preset, reason = guess_preset(built_in, model_id, hardware)
            why_not = why_untrainable_by_name(model_id)
            return _best(parts, preset, f"{reason} {why_not}".rstrip(), trainable=not why_not)
        facts = found
    return _best(parts, *choose_preset(built_in, facts, hardware), trainable=True)


def _best(parts: Parts, preset: Preset, verdict: str, *, trainable: bool) -> Response:
    return json_answer({**preset_json(parts, preset, verdict), "trainable": trainable})
