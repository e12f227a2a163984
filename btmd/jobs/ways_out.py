"""Changes of what was asked for that would help a job which cannot go on: each one planned anew, as a whole."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread
import msgspec
from msgspec.structs import replace

from btmd.command_handler import CommandHandler
from btmd.domain import settings
from btmd.domain.hardware import Hardware
from btmd.domain.settings import SettingsState
from btmd.errors import BtmdError
from btmd.inspection.facts import DatasetFacts
from btmd.jobs.plan_request import to_token_facts
from btmd.jobs.trainer_plan import to_trainer_plan
from btmd.planning import SIMPLEST_PRESET, Plan, PlanRequest, make_plan
from btmd.planning.memory import GROWTH_RESERVE_SHARE
from btmd.planning.row_kinds import PAIR_TYPE
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
HELPS_SHARE = 0.95
"""Of what did not fit: what takes more would most likely not fit either."""
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
    try:
        present = make_plan(replace(request, overrides=now, hardware=_plenty(request.hardware)))
    except BtmdError as error:
        log.warning("what a training takes now cannot be told: %s", error.detail)
        return None
    hardware = request.hardware
    if permission != "cpu":
        hardware = _at_most(hardware, int(HELPS_SHARE * present.memory.total_bytes / (1 - GROWTH_RESERVE_SHARE)))
    limited = replace(request, allow=frozenset({permission}), hardware=hardware, simpler=None)
    if permission == "simpler" and request.simpler is not None:
        limited = replace(limited, preset=request.simpler)
    made = _first_that_fits(limited, _asked(permission, request, now, plan))
    if made is None:
        return None
    trainer_plan = to_trainer_plan(
        made, job_id="", store_id="", epoch=0, model_folder=Path("/"), rows_path=Path("/"), rows_sha256=""
    )
    # In the form in which both plans are kept, so that what is equal compares as equal.
    values = msgspec.json.decode(msgspec.json.encode(trainer_plan))
    keys = (*CHANGED_KEYS, *SIMPLER_KEYS) if permission == "simpler" else CHANGED_KEYS
    changes = {key: values[key] for key in keys if values[key] != plan.get(key)}
    if not changes.keys() - SHAPE_KEYS:
        return None
    return Way(permission, changes, _told(permission, request, values, plan))


def _first_that_fits(request: PlanRequest, wishes: Sequence[Mapping[str, Any]]) -> Plan | None:
    for overrides in wishes:
        try:
            return make_plan(replace(request, overrides=overrides))
        except BtmdError:
            continue
    return None


def _as_it_is(planned: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, Any]:
    """Every value of the training as it is now, as if a person had set them all."""
    # Each value is refused where it would have no effect.
    idle = () if plan["training_type"] == PAIR_TYPE else ("dpo_beta",)
    values = {key: one["value"] for key, one in planned.items() if key not in idle}
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
) -> list[dict[str, Any]]:
    """What to plan with, what changes least first; empty where the change makes no sense."""
    training_type, on_gpu = str(plan["training_type"]), plan["device"] != "cpu"
    free = _without(now, (*SHAPE_KEYS, "save_every", "eval_every"))
    untyped = _without(free, (*TYPE_KEYS, "precision"))
    match permission:
        case "shorter":
            shorter = [length for length in LENGTHS if length < int(plan["max_length"])]
            tokens = request.tokens
            return [{**free, "max_length": one} for one in shorter if tokens.left_out_rows(one) < tokens.rows]
        case "lora" if plan.get("lora") is None:
            if training_type in EITHER_WAY_TYPES:
                return [{**untyped, "training_type": training_type, "lora_r": USUAL_RANK}]
            return [{**untyped, "training_type": LORA}]
        case "qlora" if on_gpu and training_type in (FULL, LORA):
            return [{**untyped, "training_type": QLORA}]
        case "cpu" if on_gpu and training_type == QLORA:
            return [{**_without(untyped, DEVICE_KEYS), "device": "cpu", "training_type": LORA}]
        case "cpu" if on_gpu:
            return [{**_without(free, DEVICE_KEYS), "device": "cpu"}]
        case "simpler" if request.simpler is not None and request.simpler.key != request.preset.key:
            kept = ("batch_size", "device", "seed", "max_steps")
            return [] if training_type in EITHER_WAY_TYPES else [{key: now[key] for key in kept if key in now}]
    return []


def _without(values: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}


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
