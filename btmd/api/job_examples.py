"""What is answered about jobs, by examples that several operations share."""

from typing import Any

from btmd.api.job_warnings import WARNING_EXAMPLE
from btmd.api.shapes import (
    Shape,
    anything,
    keyed,
    missing,
    null_or,
    nullable,
    one_of,
    optional,
    typed,
)
from btmd.domain.forecast import Forecast, Score
from btmd.domain.job import STATES
from btmd.domain.job_events import TrainingProgressed
from btmd.inspection.facts import PersonalData
from btmd.monitoring.texts import STATUS
from btmd.monitoring.verdict import Verdict
from btmd.planning.plan import Plan


def at_state(state: str) -> dict[str, Shape]:
    """``state`` and what REST.md calls it."""
    return {"state": one_of(state, STATES), "status": one_of(STATUS[state], STATUS.values())}


STEERED_EXAMPLE = {
    "job_id": "k3q7zv2m5a",
    **at_state("training"),
    "asked": "pause",
    "message": "It saves a checkpoint and then pauses; nothing is lost.",
}
_RANGE = {"low": 9.6e8, "middle": 1.1e9, "high": 1.3e9, "uncalibrated": 1.2e9}
_STEP_S = {"low": 2.1, "middle": 3.0, "high": 4.2, "uncalibrated": None}
_TOTAL_S = {"low": 270.0, "middle": 360.0, "high": 510.0, "uncalibrated": None}
FORECAST_EXAMPLE = typed(
    Forecast,
    {
        "basis": "formula",
        "memory_bytes": _RANGE,
        "process_bytes": 246_415_360,
        "disk_bytes": _RANGE,
        "step_s": _STEP_S,
        "total_s": _TOTAL_S,
        "gpu_memory_bytes": None,
        "rates_known": True,
    },
)
FORECAST_TEXTS_EXAMPLE = {
    "time": "4m 30s to 8m 30s",
    "memory": "916 MB to 1.2 GB",
    "disk": "916 MB to 1.2 GB",
    "step": "2.1 to 4.2 s",
    "gpu_memory": missing("3 GB to 4 GB"),
}
_VALUE = {"value": 42, "source": "setting", "reason": "The same seed repeats the same run. Setting training.seed."}
_FIXED = {"value": 1, "source": "hardware", "reason": "A step is computed in one part."}
PLANNED_EXAMPLE: dict[str, Any] = {
    "model_id": "smollm2",
    "dataset_id": "faq",
    "dataset_version": "0a1b2c3d4e5f6071",
    "preset_name": "Quick Test",
    "preset_reason": "It was asked for.",
    "from_job": missing("p5xw2jc7qd"),
    "adapter_sha256": missing("9f86d081884c7d65..."),
    **typed(
        Plan,
        {
            "preset": "quick_test",
            "values": {"seed": _VALUE},
            "total_steps": 113,
            "train_rows": 450,
            "held_out_rows": 50,
            "left_out_rows": 0,
            "memory": {
                "weights_bytes": 269_000_000,
                "gradients_bytes": 19_500_000,
                "optimizer_bytes": 39_000_000,
                "activations_bytes": 320_000_000,
                "logits_bytes": 190_000_000,
                "overhead_bytes": 290_000_000,
                "total_bytes": 1_127_500_000,
                "trained_parameters": 4_884_480,
                "process_bytes": 246_415_360,
                "loading_bytes": 784_000_000,
            },
            "memory_available_bytes": 23_000_000_000,
            "disk": {
                "checkpoint_bytes": 58_600_000,
                "checkpoints": 4,
                "result_bytes": 36_000_000,
                "total_bytes": 270_400_000,
            },
            "notes": ["The data is small: the model can learn these answers, but hardly a new way of answering."],
            "fixed": {"gradient_accumulation": _FIXED},
        },
    ),
    "forecast": FORECAST_EXAMPLE,
    "forecast_texts": FORECAST_TEXTS_EXAMPLE,
}
PLAN_EXAMPLE = {
    **PLANNED_EXAMPLE,
    "rows_counted": True,
    "personal_data": typed(
        PersonalData,
        {
            "rows": 500,
            "rows_affected": 2,
            "kinds": [{"kind": "email", "rows": 2, "findings": 3, "lines": [3, 17]}],
            "names_looked_for": False,
        },
    ),
}
JOB_EXAMPLE = {
    "job_id": "k3q7zv2m5a",
    "number": 17,
    "name": "help desk",
    **at_state("training"),
    "asked": "",
    "waits_for": "",
    "owner_uid": 1000,
    "model_id": "smollm2",
    "dataset_id": "faq",
    "dataset_version": "0a1b2c3d4e5f6071",
    "preset": "quick_test",
    "priority": 0,
    "custom_description": "",
    "created_at": "2026-11-22T14:00:00.000000Z",
    "started_at": nullable("2026-11-22T14:00:01.000000Z"),
    "ended_at": null_or("2026-11-22T14:06:00.000000Z"),
    "updated_at": "2026-11-22T14:01:10.000000Z",
    "attempt": 1,
    "step": 12,
    "total_steps": 113,
    "epoch": 0,
    "total_epochs": 1,
    "loss": nullable(2.1),
    "best_loss": nullable(2.0),
    "learning_rate": nullable(0.0003),
    "tokens_per_s": nullable(402.0),
    "memory_bytes": nullable(1_100_000_000),
    "held_out_before": nullable(2.5),
    "held_out_loss": nullable(2.2),
    "held_out_best": nullable(2.2),
    "held_out_after": null_or(1.4),
    "best_step": null_or(100),
    "ended_by": "",
    "reason": "",
    "text": "",
    "hint": "",
    "question": "",
    "answer_by": null_or("2026-11-23T14:00:00.000000Z"),
}
TRIAL_EXAMPLE = {
    "seconds": 9.5,
    "micro_batches": 3,
    "micro_batch_size": 4,
    "largest_tokens": 256,
    "shapes": 4,
    "shapes_left": 1,
    # An earlier release did not tell these.
    "saving_s": optional(0.1),
    "closing_s": optional(12.0),
}
SCORE_EXAMPLE = typed(
    Score,
    {"quantity": "time", "basis": "trial", "forecast": _TOTAL_S, "outcome": 353.0, "log_ratio": -0.02},
)
JOB_IN_FULL_EXAMPLE = {
    **JOB_EXAMPLE,
    "stage_text": "",
    "folder": "/home/ada/.local/state/btmd/jobs/k3q7zv2m5a",
    "model_path": null_or("/home/ada/.local/state/btmd/jobs/k3q7zv2m5a/result"),
    # As it was made then, perhaps by an earlier release.
    "plan": {name: optional(one) for name, one in {**PLANNED_EXAMPLE, "rerun_of": missing("p5xw2jc7qd")}.items()},
    # Of a job for which something was foretold.
    "forecast": optional(FORECAST_EXAMPLE),
    "forecast_texts": optional(FORECAST_TEXTS_EXAMPLE),
    "forecast_by_formula": optional(FORECAST_EXAMPLE),
    "trial": optional(nullable(TRIAL_EXAMPLE)),
    "scores": optional([SCORE_EXAMPLE]),
    "shape": keyed({"train_rows": anything(450)}),
    "outcome": keyed({"held_out_after": anything(1.4)}),
    "attempts": [
        {
            "attempt": 1,
            "why": "first",
            "started_at": "2026-11-22T14:00:01.000000Z",
            "ended_at": null_or("2026-11-22T14:06:00.000000Z"),
            "ended": "",
            "text": "",
        }
    ],
    "checkpoints": [
        {
            "name": "step-00000010",
            "step": 10,
            "attempt": 1,
            "size_bytes": 58_600_000,
            "held_out_loss": nullable(2.2),
            "best": True,
            "saved_at": "2026-11-22T14:01:00.000000Z",
        }
    ],
    "evaluations": [
        {
            "step": 10,
            "loss": 2.2,
            "when": one_of("during", ("before", "during", "after")),
            "attempt": 1,
            "tokens": 1650,
            "margin": null_or(0.4),
            "accuracy": null_or(0.8),
        }
    ],
    "account": ["The training ran out of memory at step 12."],
    "changed": ["It learned from 2 rows at once instead of 4."],
    "recoveries": [
        {
            "attempt": 1,
            "kind": one_of("planned", ("failed", "planned", "asked", "answered", "unanswered")),
            "action": "halve_micro_batch",
            "text": "It goes on with half as many rows at once.",
            "at": "2026-11-22T14:01:10.000000Z",
            # Of a failure.
            "step": missing(12),
            "rows": missing([14]),
            "evidence": missing(keyed({"free_bytes": anything(0)})),
            # Of what was planned or asked.
            "changes": optional(keyed({"micro_batch_size": anything(2)})),
        }
    ],
    "notices": [{"code": "small_data", "text": "...", "attempt": 1, "at": "2026-11-22T14:00:02.000000Z"}],
    "warnings": [WARNING_EXAMPLE],
}
TICK_EXAMPLE = {
    "tick": 12,
    "at": "2026-11-22T14:01:10.000000Z",
    **typed(
        TrainingProgressed,
        {
            "job_id": "k3q7zv2m5a",
            "attempt": 1,
            "number": 31,
            "step": 12,
            "total_steps": 113,
            "epoch": 0,
            "loss": 2.1,
            "learning_rate": 0.0003,
            "tokens_per_s": 402.0,
            "elapsed_s": 36.5,
            "memory_bytes": 1_100_000_000,
            "steps": [11, 12],
            "losses": [2.2, 2.1],
            "gpu_memory_bytes": None,
            "gpu_utilization": None,
            "gradient_norm": 0.8,
        },
    ),
}
VERDICT_EXAMPLE = typed(
    Verdict,
    {
        "kind": "better",
        "sure": True,
        "improvement_percentage": 41.0,
        "low_percentage": 33.0,
        "high_percentage": 48.0,
        "overfitted_after_step": None,
        "general_change_percentage": 0.4,
        "forgot": False,
        "hardly_right": False,
    },
)
ANSWERS_EXAMPLE = {
    "samples": [
        {
            "line": 14,
            "prompt": [{"role": "user", "content": "Where is it?"}],
            "prompt_text": "Where is it?",
            "expected": "In the blue folder.",
            "base": nullable("I do not know."),
            "tuned": nullable("In the blue folder."),
        }
    ]
}
