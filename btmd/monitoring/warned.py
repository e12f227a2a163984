"""Warnings in words: what is wrong, from the figures that were seen, and the whole command that helps."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from btmd.domain.units import format_bytes, format_duration
from btmd.domain.warning import Evidence
from btmd.monitoring.advice import train_command
from btmd.monitoring.texts import TEXTS, text

GENTLER, BOLDER = 1 / 3, 3.0
"""Times the learning rate."""
MEMORY_KINDS = ("memory_device", "memory_process", "memory_group", "memory_machine")


class WarnedJob(Struct, frozen=True):
    """What the commands name. ``plan`` are the trainer's values, ``overrides`` those that the person chose."""

    job_id: str
    model_id: str
    dataset_id: str
    preset: str = ""
    plan: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def again(self, **changes: object) -> str:
        """The command that trains the same with other values."""
        return train_command(self.model_id, self.dataset_id, self.preset, "", {**self.overrides, **changes})

    def rate(self, factor: float) -> float:
        return float(f"{float(self.plan.get('learning_rate', 1e-4)) * factor:.1g}")


def has_words(kind: str) -> bool:
    """Whether this release knows the kind."""
    return kind in MEMORY_KINDS or f"remedy_{kind}" in TEXTS


def warning_text(kind: str, seen: Evidence) -> str:
    """What is wrong, in a sentence; a general one where another release has seen other figures."""
    try:
        return _warning_text(kind, seen)
    except (KeyError, TypeError, ValueError):
        return text("warn_other", kind=kind.replace("_", " "))


def _warning_text(kind: str, seen: Evidence) -> str:
    if kind in MEMORY_KINDS:
        return _memory(kind, seen)
    match kind:
        case "stalled":
            key = "warn_stalled" if "usual_s" in seen else "warn_stalled_first"
            return text(key, silent=_span(seen, "silent_s"), usual=_short(seen.get("usual_s", 0.0)))
        case "hung":
            return text(f"warn_hung_{seen.get('cause', 'idle')}", silent=_span(seen, "silent_s"))
        case "slow":
            return _slow(seen)
        case "disk_filling":
            free, needed = (format_bytes(seen.get(key, 0)) for key in ("free_bytes", "needed_bytes"))
            return text("warn_disk_filling", free=free, needed=needed, foretold=_foretold(seen))
        case "not_a_number":
            return text("warn_not_a_number", step=seen.get("step", 0), of=text(f"of_{seen.get('of', 'loss')}"))
        case "loss_flat" | "learning_rate_low":
            return text(f"warn_{kind}", step=seen.get("step", 0), gain=seen.get("gain_percent", 0.0))
        case "throttled":
            return _throttled(seen)
        case "gpu_shared":
            others, free = (format_bytes(seen.get(key, 0)) for key in ("others_bytes", "free_bytes"))
            return text("warn_gpu_shared", others=others, free=free)
        case "cpu_shared":
            return text("warn_cpu_shared", percent=100 * seen.get("others_share", 0.0))
        case "data_starved":
            share = seen.get("use", 0.0) / max(1e-9, seen.get("usual_use", 1.0))
            return text("warn_data_starved", of=text(f"of_{seen.get('of', 'cpu')}"), percent=100 * share)
        case "suspended":
            return text("warn_suspended", slept=_span(seen, "slept_s"))
        case "waits_for_gpu" | "waits_for_room":
            return text(f"warn_{kind}", waited=_span(seen, "waited_s"))
        case "clock_jumped":
            jump_s = seen.get("jump_s", 0.0)
            return text(f"warn_clock_{'forward' if jump_s > 0 else 'back'}", jump=format_duration(abs(jump_s)))
    return text(f"warn_{kind}", **seen)


def remedy(kind: str, job: WarnedJob) -> str:
    """What to do about it, with the command that does it."""
    named = {"job": job.job_id, "dataset": job.dataset_id}
    if kind in MEMORY_KINDS:
        smaller = max(1, int(job.plan.get("micro_batch_size", 1)) // 2)
        return text("remedy_memory", command=job.again(micro_batch_size=smaller, gradient_checkpointing=True))
    match kind:
        case "not_a_number":
            command = job.again(learning_rate=job.rate(GENTLER), precision="fp32")
        case "loss_diverging" | "learning_rate_high":
            command = job.again(learning_rate=job.rate(GENTLER))
        case "loss_flat" | "learning_rate_low":
            command = job.again(learning_rate=job.rate(BOLDER))
        case _:
            command = ""
    return text(f"remedy_{kind}", command=command, **named)


def _memory(kind: str, seen: Evidence) -> str:
    used, limit = int(seen.get("used_bytes", 0)), int(seen.get("limit_bytes", 0))
    return text(
        f"warn_{kind}",
        used=format_bytes(used),
        limit=format_bytes(limit),
        free=format_bytes(limit - used),
        own=format_bytes(int(seen.get("process_bytes", 0))),
        foretold=_foretold(seen),
    )


def _foretold(seen: Evidence) -> str:
    when_s = seen.get("full_in_s")
    return "" if when_s is None else text("foretold", when=format_duration(when_s))


def _slow(seen: Evidence) -> str:
    step_s, forecast_s, usual_s = (seen.get(key, 0.0) for key in ("step_s", "forecast_s", "usual_s"))
    # The one that it is further beyond is the one that is told.
    if usual_s and (not forecast_s or usual_s < forecast_s):
        return text("warn_slow_usual", step_s=_short(step_s), usual_s=_short(usual_s))
    return text("warn_slow_forecast", step_s=_short(step_s), forecast_s=_short(forecast_s))


def _throttled(seen: Evidence) -> str:
    if seen.get("device") == "cpu":
        return text("warn_throttled_cpu")
    details = ""
    if "temperature_c" in seen:
        details += text("at_temperature", temperature=seen["temperature_c"])
    if "clock_share" in seen:
        details += text("at_clock", percent=100 * seen["clock_share"])
    return text("warn_throttled_gpu", reasons=", ".join(seen.get("reasons", ())) or "?", details=details)


def _span(seen: Evidence, key: str) -> str:
    return format_duration(seen.get(key, 0.0))


def _short(seconds: float) -> str:
    """``0.35 s``, ``12 s``, ``3m 20s``: steps are often shorter than a second."""
    return f"{seconds:.2g} s" if seconds < 60 else format_duration(seconds)
