"""Is everything well, and what is this machine."""

import os
from typing import Any

import anyio
import msgspec
from msgspec.structs import asdict
from starlette.responses import Response

from btmd import __version__
from btmd.api.answers import described, json_answer
from btmd.api.job_warnings import WARNING_EXAMPLE, present_warnings
from btmd.api.jobs import waits_for
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import Permission
from btmd.api.shapes import keyed, keyed_by_nothing, null_or, nullable, one_of, typed
from btmd.api.times import rfc3339
from btmd.config import Config
from btmd.domain.hardware import Hardware
from btmd.hardware import probe
from btmd.own_program import is_replaced
from btmd.planning.machine_words import explain
from btmd.planning.usual_models import LargestModel, largest_models
from btmd.projections.backup import backups, last_drill
from btmd.projections.job import count_active
from btmd.store.condensing import LogSizes, log_sizes

router = Router(tags=("machine",))

FULL_BYTES = 4 * 1024 * 1024
"""With less room than this nothing can be relied on to be recorded."""


KEYS_GONE = (
    "{} {} gone. A lost ring comes back from a backup folder with the next backup; a lost key file by"
    " `btmctl backup key renew --recovery-key`."
)

REPLACED = (
    "The program was replaced since this daemon has started, and what it starts is new while it is not:"
    " `btmctl daemon restart` has it run what is installed; trainings go on meanwhile."
)


def degraded_reasons(parts: Parts) -> dict[str, str]:
    """What does not work just now, by what it is about; empty when all is well."""
    reasons = dict(parts.troubles)
    if is_replaced():
        reasons["program"] = REPLACED
    space = os.statvfs(parts.config.state_dir)
    if space.f_bavail * space.f_frsize < FULL_BYTES:
        reasons["disk"] = f"The disk that holds {parts.config.state_dir} is full."
    health = parts.store.health()
    if health["writer"] != "running":
        reasons["log"] = health["error"] or "The event log does not accept anything."
    for projection in health["projections"]:
        if projection["error"]:
            reasons[f"view {projection['name']}"] = projection["error"]
    return reasons


def _keys_gone(config: Config) -> list[str]:
    names = ["ring"] if config.backup_credential_path is not None else ["key", "ring"]
    return [str(config.keys_dir / name) for name in names if not os.path.lexists(config.keys_dir / name)]


async def _problems(parts: Parts) -> dict[str, str]:
    """As ``degraded_reasons``, with keys that the log tells of and that are gone."""
    reasons = degraded_reasons(parts)
    if (await parts.backup_keys.state()).has_keys:
        gone = _keys_gone(parts.config)
        if gone:
            reasons["backup keys"] = KEYS_GONE.format(" and ".join(gone), "is" if len(gone) == 1 else "are")
    return reasons


DAEMON_EXAMPLE = {
    "version": __version__,
    "pid": 4711,
    "socket": "/run/user/1000/btmd.sock",
    "state_dir": "/home/ada/.local/state/btmd",
    "problems": keyed_by_nothing(REPLACED),
}
LOG_EXAMPLE = typed(
    LogSizes,
    {
        "ticks": 1200,
        "ticks_bytes": 780_000,
        "condensed_ticks": 40_000,
        "segments": 40,
        "segments_bytes": 2_400_000,
        "database_bytes": 9_000_000,
        "free_bytes": 1_000_000,
    },
)
STATUSES = ("operational", "degraded")
HEALTH_EXAMPLE = {
    "status": one_of("operational", STATUSES),
    **DAEMON_EXAMPLE,
    "store_id": "0f3b5c7d9e1a2b4c",
    "store": {
        "writer": one_of("running", ("running", "failed", "closed")),
        "error": null_or("The disk is full."),
        "head_seq": 1200,
        "epoch": 1,
        "waiting": 0,
        "wal_size_bytes": 1_330_792,
        "checkpoint_error": null_or("The disk is full."),
        "projections": [
            {"name": "settings", "code_version": 1, "position": 1200, "error": null_or("It cannot be applied.")}
        ],
    },
    "log": LOG_EXAMPLE,
}


@operation(
    router,
    "GET",
    "/health",
    Permission.READ,
    **described(HEALTH_EXAMPLE),
)
async def health(parts: Parts) -> Response:
    """Whether the daemon works as it should, with what does not."""
    problems = await _problems(parts)
    return json_answer(
        {
            "status": "degraded" if problems else "operational",
            "version": __version__,
            "pid": os.getpid(),
            "socket": str(parts.config.socket_path),
            "state_dir": str(parts.config.state_dir),
            "store_id": parts.store.store_id,
            "store": parts.store.health(),
            "log": msgspec.to_builtins(await parts.store.query(log_sizes)),
            "problems": problems,
        }
    )


HARDWARE_EXAMPLE = {
    **typed(
        Hardware,
        {
            "cpu": {
                "model": "AMD Ryzen 7 7840U",
                "logical_cores": 16,
                "physical_cores": 8,
                "usable_cores": 8,
                "instruction_sets": ["avx2", "avx512f", "avx512_bf16"],
                "native_bf16": True,
                "quota_cores": None,
                "allowed_logical_cores": 16,
                "numa_nodes": 1,
            },
            "memory": {
                "total_bytes": 25_000_000_000,
                "available_bytes": 23_000_000_000,
                "limit_bytes": None,
                "swap_free_bytes": 0,
                "swap_total_bytes": 0,
            },
            "disk": {
                "total_bytes": 500_000_000_000,
                "free_bytes": 120_000_000_000,
                "filesystem": "ext4",
                "rotational": False,
            },
            "gpus": [],
            "problems": [],
            "driver_version": None,
            "other_gpus": ["AMD"],
            "power": {"source": "mains", "battery_percent": 100},
            "torch": {"version": "2.11.0+cpu", "cuda_version": ""},
            "bitsandbytes_version": None,
            "has_compiler": True,
            "driver_cuda_version": "",
            "gpu_refusal": None,
        },
    ),
    "explained": ["This machine has 8 processor cores with native bf16 and 24 GB of memory, of which 21 GB are free."],
    "largest_models": keyed(
        {"lora_adaptation": typed(LargestModel, {"in_reasonable_time": 1_700_000_000, "in_memory": 8_000_000_000})}
    ),
}


@operation(router, "GET", "/hardware", Permission.READ, **described(HARDWARE_EXAMPLE))
async def hardware(parts: Parts) -> Response:
    """What this machine can do, read now, and what that means for training. Sizes in bytes, models in weights."""
    found = await anyio.to_thread.run_sync(probe, parts.config.state_dir)
    largest = {training_type: asdict(model) for training_type, model in largest_models(found).items()}
    return json_answer({**asdict(found), "explained": explain(found), "largest_models": largest})


STATUS_EXAMPLE = {
    "status": one_of("operational", STATUSES),
    "hardware": {
        "available_memory_gb": 12.5,
        "available_gpu_memory_gb": 0.0,
        "gpu_count": 0,
        "cpu_cores": 8,
        "supports_mixed_precision": True,
    },
    "log": LOG_EXAMPLE,
    "active_training_jobs": 2,
    "queue": {
        "waiting": 1,
        "job_id": nullable("k3q7zv2m5a"),
        "waits_for": "Waits for the training p5xw2jc7qd to end; it has the CPU.",
    },
    "available_presets": 8,
    "system_backups": 3,
    "last_backup_at": nullable("2026-11-22T14:00:00.000000Z"),
    "last_proved_restore_at": null_or("2026-11-22T15:00:00.000000Z"),
    "warnings": [{"job_id": "p5xw2jc7qd", **WARNING_EXAMPLE}],
    "reminders": ["..."],
    **DAEMON_EXAMPLE,
}
NO_RECOVERY_KEY = (
    "Only this machine can open its backups. `btmctl backup key show-recovery` gives a recovery key to write down."
)
NOT_TYPED_BACK = (
    "The recovery key was not typed back yet. `btmctl backup key confirm-recovery` takes it, and tells of a mistake."
)


@operation(router, "GET", "/status", Permission.READ, **described(STATUS_EXAMPLE, text="Status"))
async def status(parts: Parts) -> Response:
    """The state of the whole system in a few numbers."""
    found = probe(parts.config.state_dir)
    problems = await _problems(parts)
    async with parts.store.session() as session:
        active = await count_active(session)
        found_backups = await backups(session)
        lost = len(await backups(session, lost=True))
        proved = await last_drill(session, proved=True)
    body: dict[str, Any] = {
        "status": "degraded" if problems else "operational",
        "hardware": {
            "available_memory_gb": round(found.memory.available_bytes / 1024**3, 2),
            "available_gpu_memory_gb": round(sum(gpu.free_bytes for gpu in found.gpus) / 1024**3, 2),
            "gpu_count": len(found.gpus),
            "cpu_cores": found.cpu.usable_cores,
            "supports_mixed_precision": found.supports_mixed_precision,
        },
        "log": msgspec.to_builtins(await parts.store.query(log_sizes)),
        "active_training_jobs": active,
        "queue": await _queue(parts),
        "available_presets": len(await parts.presets.all()),
        "system_backups": len(found_backups),
        "last_backup_at": rfc3339(found_backups[0].created_us) if found_backups else None,
        "last_proved_restore_at": None if proved is None else rfc3339(proved.at_us),
        "warnings": await present_warnings(parts),
        "reminders": [
            *parts.notices,
            *parts.asides.values(),
            # A GPU that is there and is not used, say, and why.
            *found.problems,
            *await _reminders(parts, any_backup=bool(found_backups), lost=lost),
        ],
        "problems": problems,
        "version": __version__,
        "pid": os.getpid(),
        "socket": str(parts.config.socket_path),
        "state_dir": str(parts.config.state_dir),
    }
    return json_answer(body)


async def _queue(parts: Parts) -> dict[str, Any]:
    """How many trainings wait, and what the first of them waits for that is not held back."""
    waiting = [one for one in await parts.line.places() if one.waiting]
    first = next((one for one in waiting if not one.held), next(iter(waiting), None))
    return {
        "waiting": len(waiting),
        "job_id": None if first is None else first.job_id,
        "waits_for": "" if first is None else waits_for(parts, first.job_id),
    }


async def _reminders(parts: Parts, *, any_backup: bool, lost: int) -> list[str]:
    """What a person should do some time, in words."""
    state = await parts.backup_keys.state()
    found = []
    if lost:
        count = "1 backup is" if lost == 1 else f"{lost} backups are"
        found.append(f"{count} gone, and nobody deleted them through btmd: `btmctl backup verify` names them.")
    if state.recovery_key == "shown":
        found.append(NOT_TYPED_BACK)
    elif any_backup and state.recovery_key == "none":
        found.append(NO_RECOVERY_KEY)
    return found
