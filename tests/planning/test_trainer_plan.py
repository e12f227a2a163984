"""A plan survives its way into an event and into a trainer."""

from pathlib import Path
from typing import Any

import msgspec

from btmd.inspection.facts import DatasetFacts, LengthCount
from btmd.inspection.facts import TokenFacts as MeasuredTokens
from btmd.job_folder import JobFolder
from btmd.jobs.plan_request import to_token_facts
from btmd.jobs.trainer_plan import to_trainer_plan
from btmd.planning import Plan
from tests.planning.given import plan

NAMES: dict[str, Any] = {"job_id": "abcdefghij", "store_id": "s", "epoch": 1, "rows_sha256": "0" * 64}


def test_the_trainer_is_given_the_values_of_the_plan(tmp_path: Path) -> None:
    made = plan("code_assistant", target_modules="q_proj")
    bare = to_trainer_plan(made, model_folder=tmp_path / "m", rows_path=tmp_path / "rows", **NAMES)
    for field in bare.__struct_fields__:
        if field in made.values:
            assert getattr(bare, field) == made.values[field].value, field
    assert bare.lora is not None
    assert (bare.lora.r, bare.lora.alpha, bare.lora.dropout, bare.lora.target_modules) == (16, 32, 0.0, ("q_proj",))
    folder = JobFolder(tmp_path / "job")
    folder.create(bare)
    assert folder.read_plan() == bare


def test_full_training_has_no_adapter(tmp_path: Path) -> None:
    bare = to_trainer_plan(plan("chat_fine_tune"), model_folder=tmp_path, rows_path=tmp_path / "rows", **NAMES)
    assert bare.lora is None


def test_a_plan_is_the_same_after_json() -> None:
    made = plan("chat_fine_tune")
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(made)), Plan) == made


def test_measured_lengths_become_counts_of_over_long_rows() -> None:
    measured = MeasuredTokens(
        rows=100,
        tokens_total=9000,
        learned_tokens=4000,
        rows_nothing_learned=2,
        nothing_learned_lines=(1, 2),
        rows_refused=1,
        refused_lines=(9,),
        refused_reason="x",
        shortest=3,
        mean=90.0,
        p50=80,
        p90=120,
        p95=130,
        p99=180,
        longest=290,
        histogram={64: 40, 128: 40, 192: 15, 320: 5},
        over=(LengthCount(100, 33),),
        template="model",
        warnings=(),
    )
    empty: dict[str, Any] = {"broken": (), "broken_reasons": {}, "empty_lines": (), "columns": (), "columns_used": ()}
    texts: dict[str, Any] = dict.fromkeys(("format", "encoding", "layout", "sha256", "rows_sha256"), "x")
    dataset = DatasetFacts(
        **texts,
        **empty,
        separator=None,
        rows_total=100,
        rows_kept=100,
        rows_broken=0,
        rows_empty=0,
        duplicates=0,
        damaged_characters=0,
        has_split=True,
        rows_held_out=20,
        unknown_splits=0,
        turns_total=0,
        average_chars=1.0,
        longest_chars=1,
        size_bytes=1,
        rows_size_bytes=1,
    )
    facts = to_token_facts(measured, dataset)
    assert [facts.left_out_rows(length) for length in (64, 100, 128, 192, 256, 320)] == [60, 33, 20, 5, 5, 0]
    assert (facts.train_rows, facts.held_out_rows, facts.rows_without_learned) == (80, 20, 3)
