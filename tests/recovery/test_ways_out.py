"""Changes of what was asked for are planned as a whole: what follows from them changes with them."""

from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from btmd.jobs.trainer_plan import to_trainer_plan
from btmd.jobs.ways_out import find_way
from btmd.planning import Plan, PlanRequest, make_plan
from btmd.recovery import Way
from tests.planning.given import PRESETS, ROWS, cpu_machine, gpu, gpu_machine, request


def _frozen(made: Plan) -> tuple[dict[str, Any], dict[str, Any]]:
    """The plan's values and the trainer plan, as they are kept in a job's first event."""
    values = msgspec.to_builtins(made.values)
    trainer = to_trainer_plan(
        made, job_id="j", store_id="s", epoch=1, model_folder=Path("/m"), rows_path=Path("/r"), rows_sha256="x"
    )
    return values, msgspec.json.decode(msgspec.json.encode(trainer))


def _way(permission: str, wanted: PlanRequest, **changes: Any) -> Way | None:
    values, plan = _frozen(make_plan(wanted))
    simpler = replace(wanted, simpler=PRESETS["quick_test"])
    return find_way(permission, simpler, values, {**plan, **changes})


FULL = request("domain_expert", hardware=cpu_machine())
LONG_ROWS = replace(ROWS, longest_row=500, over_long={64: 990, 128: 900, 256: 400, 384: 100})


def test_an_adapter_brings_its_own_learning_rate_and_values() -> None:
    way = _way("lora", FULL, micro_batch_size=1, gradient_checkpointing=True)
    assert way is not None
    assert way.changes["training_type"] == "lora_adaptation"
    assert way.changes["learning_rate"] == 10 * PRESETS["domain_expert"].learning_rate
    assert way.changes["lora"]["r"] == 16
    assert "batch_size" not in way.changes
    assert way.told == {"rate": way.changes["learning_rate"]}


def test_a_rate_that_was_lowered_for_all_weights_does_not_hold_for_an_adapter() -> None:
    way = _way("lora", FULL, learning_rate=1e-8, micro_batch_size=1)
    assert way is not None
    assert way.changes["learning_rate"] > 1e-5


def test_shorter_rows_keep_the_type_and_its_rate() -> None:
    long_rows = request("domain_expert", hardware=cpu_machine(), tokens=LONG_ROWS)
    way = _way("shorter", long_rows, micro_batch_size=8)
    assert way is not None
    assert way.changes.keys() & {"training_type", "learning_rate", "lora"} == set()
    assert way.changes["max_length"] < way.told["before"]  # type: ignore[operator]


def test_the_cpu_is_a_way_only_from_a_gpu_and_brings_its_own_precision() -> None:
    assert _way("cpu", FULL) is None
    on_gpu = request("quick_test", hardware=gpu_machine(gpu(8)))
    way = _way("cpu", on_gpu)
    assert way is not None
    assert way.changes["device"] == "cpu"
    assert "learning_rate" not in way.changes


def test_what_changes_nothing_is_no_way_out() -> None:
    adapter = request("quick_test", hardware=cpu_machine())
    assert _way("lora", adapter) is None
    assert _way("qlora", adapter) is None
    assert _way("simpler", adapter) is None


def test_the_simpler_preset_keeps_the_effective_batch() -> None:
    way = _way("simpler", FULL, micro_batch_size=1, gradient_checkpointing=True)
    assert way is not None
    assert way.changes["training_type"] == "lora_adaptation"
    assert "batch_size" not in way.changes
    assert way.told == {"preset": PRESETS["quick_test"].name}
