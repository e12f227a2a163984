"""Changes of what was asked for that would help a job which cannot go on: each one planned anew, as a whole."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio.to_thread
import msgspec

from btmd.command_handler import CommandHandler
from btmd.domain import settings
from btmd.domain.hardware import Hardware
from btmd.domain.settings import SettingsState
from btmd.errors import BtmdError
from btmd.inspection.facts import DatasetFacts
from btmd.jobs.plan_request import to_token_facts
from btmd.jobs.trainer_plan import to_trainer_plan
from btmd.planning import SIMPLEST_PRESET, PlanRequest, make_plan
from btmd.planning.training_types import EITHER_WAY_TYPES, FULL, LORA, QLORA, USUAL_RANK
from btmd.presets.catalogue import PresetCatalogue
from btmd.projections.dataset import version
from btmd.projections.job import JobPlanRow, JobRow
from btmd.projections.model import ModelRow
from btmd.recovery import Way
from btmd.registry.datasets import DatasetAdding
from btmd.store.event_log import Store

log = logging.getLogger("btmd.recovery")

LENGTHS = (1024, 512, 384, 256, 128, 64)
ADAPTER_KEYS = ("lora_r", "lora_alpha", "lora_dropout", "target_modules")
TYPE_KEYS = ("learning_rate", "training_type", *ADAPTER_KEYS)
"""Values that change with the training type."""
SHAPE_KEYS = ("micro_batch_size", "gradient_checkpointing", "compile")
DEVICE_KEYS = ("device", "precision", "threads")
CHANGED_KEYS = ("training_type", "learning_rate", "lora", *SHAPE_KEYS, *DEVICE_KEYS, "max_length")
"""Of the trainer plan: what a way out may change. The rows of a step and the passes over them stay."""
SIMPLER_KEYS = ("num_epochs", "warmup_ratio", "lr_scheduler", "weight_decay")
HELPS_SHARE = 0.9
"""Of what did not fit: what takes more would not fit either."""
PLENTY_BYTES = 1 << 50


class WaysOut:
    """Plans for a job what its person has not asked for. Changes nothing."""

    def __init__(
        self,
        *,
        store: Store,
        handler: CommandHandler,
        datasets: DatasetAdding,
        presets: PresetCatalogue,
        hardware: Callable[[], Hardware],
    ) -> None:
        self._store, self._handler, self._datasets, self._presets = store, handler, datasets, presets
        self._hardware = hardware

    async def find(self, row: JobRow, frozen: JobPlanRow, plan: Mapping[str, Any], wanted: Sequence[str]) -> list[Way]:
        """Those of the ``wanted`` changes that could help; ``plan`` is the trainer plan as it is now."""
        try:
            request = await self._request(row)
        except BtmdError as error:
            # Its model or data are gone, say: then nothing can be planned, and nothing is proposed.
            log.warning("job %s: no other way can be looked for: %s", row.job_id, error.detail)
            return []
        if request is None:
            return []
        planned = msgspec.json.decode(frozen.plan_json).get("values") or {}
        found = [find_way(one, request, planned, plan) for one in wanted]
        return [way for way in found if way is not None]

    async def _request(self, row: JobRow) -> PlanRequest | None:
        async with self._store.session() as session:
            model = await session.get(ModelRow, row.model_id)
            chosen = await version(session, row.dataset_id, row.dataset_version)
        if model is None or chosen is None:
            return None
        facts = msgspec.convert(chosen.facts, DatasetFacts)
        measured = await self._datasets.measure(chosen, model, lambda _share, _text: None)
        state, _ = await self._handler.state(settings.STREAM)
        return PlanRequest(
            preset=await self._presets.find(row.preset),
            model=model.facts,
            tokens=to_token_facts(measured, facts),
            hardware=await anyio.to_thread.run_sync(self._hardware),
            settings=(state or SettingsState()).all(),
            simpler=self._presets.built_in[SIMPLEST_PRESET],
        )


def find_way(permission: str, request: PlanRequest, planned: Mapping[str, Any], plan: Mapping[str, Any]) -> Way | None:
    """The change named ``permission`` with all that follows from it; None where it would change or help nothing.

    ``planned`` are the values of the frozen plan, ``plan`` is the trainer plan with all changes since.
    """
    now = _as_it_is(planned, plan)
    asked = _asked(permission, request, now, plan)
    if asked is None:
        return None
    try:
        present = make_plan(replace(request, overrides=now, hardware=_plenty(request.hardware)))
        hardware = request.hardware
        if permission != "cpu":
            hardware = _at_most(hardware, int(HELPS_SHARE * present.memory.total_bytes / 0.9))
        preset = request.simpler if permission == "simpler" else None
        made = make_plan(
            replace(
                request,
                preset=preset or request.preset,
                simpler=None,
                overrides=asked,
                allow=frozenset({permission}),
                hardware=hardware,
            )
        )
    except BtmdError:
        return None
    values = msgspec.to_builtins(
        to_trainer_plan(
            made,
            job_id="",
            store_id="",
            epoch=0,
            model_folder=Path("/"),
            rows_path=Path("/"),
            rows_sha256="",
        )
    )
    keys = (*CHANGED_KEYS, *SIMPLER_KEYS) if permission == "simpler" else CHANGED_KEYS
    changes = {key: values[key] for key in keys if values[key] != plan.get(key)}
    if not changes.keys() - SHAPE_KEYS:
        return None
    return Way(permission, changes, _told(permission, request, values, plan))


def _as_it_is(planned: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, Any]:
    """Every value of the training as it is now, as if a person had set them all."""
    values = {key: one["value"] for key, one in planned.items()}
    values |= {key: plan[key] for key in values.keys() & plan.keys()}
    if lora := plan.get("lora"):
        values |= {
            "lora_r": lora["r"],
            "lora_alpha": lora["alpha"],
            "lora_dropout": lora["dropout"],
            "target_modules": list(lora["target_modules"]),
        }
        if not lora["target_modules"]:
            values.pop("target_modules", None)
        return values
    kept = {key: value for key, value in values.items() if key not in ADAPTER_KEYS}
    return kept | ({"lora_r": 0} if plan["training_type"] in EITHER_WAY_TYPES else {})


def _asked(
    permission: str, request: PlanRequest, now: Mapping[str, Any], plan: Mapping[str, Any]
) -> dict[str, Any] | None:
    """What to plan with; None where the change makes no sense."""
    training_type, on_gpu = str(plan["training_type"]), plan["device"] != "cpu"
    free = {key: value for key, value in now.items() if key not in (*SHAPE_KEYS, "save_every", "eval_every")}
    untyped = {key: value for key, value in free.items() if key not in (*TYPE_KEYS, "precision")}
    match permission:
        case "shorter":
            shorter = [length for length in LENGTHS if length < int(plan["max_length"])]
            fits = [length for length in shorter if request.tokens.left_out_rows(length) < request.tokens.rows]
            return {**free, "max_length": fits[0]} if fits else None
        case "lora" if plan.get("lora") is None:
            if training_type in EITHER_WAY_TYPES:
                return {**untyped, "training_type": training_type, "lora_r": USUAL_RANK}
            return {**untyped, "training_type": LORA}
        case "qlora" if on_gpu and training_type in (FULL, LORA):
            return {**untyped, "training_type": QLORA}
        case "cpu" if on_gpu:
            kept = untyped if training_type == QLORA else {k: v for k, v in free.items() if k not in DEVICE_KEYS}
            kept = {key: value for key, value in kept.items() if key not in DEVICE_KEYS}
            return {**kept, "device": "cpu", **({"training_type": LORA} if training_type == QLORA else {})}
        case "simpler" if request.simpler is not None and request.simpler.key != request.preset.key:
            if training_type in EITHER_WAY_TYPES:
                return None
            return {key: now[key] for key in ("batch_size", "device", "seed", "max_steps") if key in now}
    return None


def _told(
    permission: str, request: PlanRequest, values: Mapping[str, Any], plan: Mapping[str, Any]
) -> dict[str, object]:
    if permission == "shorter":
        return {"before": plan["max_length"], "now": values["max_length"]}
    if permission in ("lora", "qlora"):
        return {"rate": values["learning_rate"]}
    if permission == "simpler" and request.simpler is not None:
        return {"preset": request.simpler.name}
    return {}


def _plenty(hardware: Hardware) -> Hardware:
    memory = replace(hardware.memory, available_bytes=PLENTY_BYTES, total_bytes=PLENTY_BYTES)
    disk = replace(hardware.disk, free_bytes=PLENTY_BYTES)
    gpus = tuple(replace(gpu, free_bytes=PLENTY_BYTES, total_bytes=PLENTY_BYTES) for gpu in hardware.gpus)
    return replace(hardware, memory=memory, disk=disk, gpus=gpus)


def _at_most(hardware: Hardware, available_bytes: int) -> Hardware:
    """The machine with no more memory than that: what was free before the failure was not enough."""
    memory = hardware.memory
    if not hardware.gpus:
        memory = replace(memory, available_bytes=min(memory.available_bytes, available_bytes))
    gpus = tuple(replace(gpu, free_bytes=min(gpu.free_bytes, available_bytes)) for gpu in hardware.gpus)
    return replace(hardware, memory=memory, gpus=gpus)
