"""Presets: those recommended for this machine, the best one for a model, and the definitions themselves."""

from dataclasses import asdict
from typing import Any

import anyio.to_thread
from fastapi import APIRouter
from starlette.responses import Response

from btmd.api.answers import described, json_answer
from btmd.api.permission import PartsOf, Permission, operation
from btmd.domain.preset import Preset
from btmd.hardware import probe
from btmd.naming import find_model
from btmd.planning import choose_preset, recommend
from btmd.presets import find_preset

router = APIRouter(tags=["presets"])

EXAMPLE = {
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
    "verdict": "Fits this machine.",
}


def preset_json(preset: Preset, verdict: str) -> dict[str, Any]:
    return {**asdict(preset), "verdict": verdict}


@operation(router, "GET", "/presets", Permission.READ, **described([EXAMPLE], text="those that fit first"))
async def recommended_presets(parts: PartsOf) -> Response:
    """Presets for this machine, each with a verdict in words."""
    hardware = await anyio.to_thread.run_sync(probe, parts.config.state_dir)
    return json_answer([preset_json(*judged) for judged in recommend(parts.presets.values(), hardware)])


@operation(router, "GET", "/presets/{model_id:path}", Permission.READ, **described(EXAMPLE, errors=(404,)))
async def preset_for_model(model_id: str, parts: PartsOf) -> Response:
    """The best preset for one model on this machine; the verdict is the reason."""
    async with parts.store.session() as session:
        model = await find_model(session, model_id)
    hardware = await anyio.to_thread.run_sync(probe, parts.config.state_dir)
    return json_answer(preset_json(*choose_preset(parts.presets, model.facts, hardware)))


@operation(router, "GET", "/preset-definitions", Permission.READ, **described([EXAMPLE]))
async def preset_definitions(parts: PartsOf) -> Response:
    """Every preset there is, whether it fits this machine or not."""
    return json_answer([asdict(preset) for preset in parts.presets.values()])


@operation(router, "GET", "/preset-definitions/{key}", Permission.READ, **described(EXAMPLE, errors=(404,)))
async def preset_definition(key: str, parts: PartsOf) -> Response:
    """One preset, by key or display name."""
    return json_answer(asdict(find_preset(parts.presets, key)))
