"""Two trainings side by side, and one repeated: only what can be compared is compared."""

from msgspec.structs import replace

from btmd.monitoring.comparison import Ran, compare, compare_repeat
from btmd.monitoring.verdict import Evidence, Measurement, judge

PLAN = {
    "rows_sha256": "a",
    "model_fingerprint": "m",
    "seed": 7,
    "learning_rate": 1e-3,
    "lora": {"r": 8, "alpha": 16},
    "training_type": "lora_adaptation",
    "job_id": "one",
}
SEEN = Evidence(3.0, 1.5, low=45.0, high=55.0, history=(Measurement(5, 2.0), Measurement(10, 1.5)))
ONE = Ran(
    "one",
    "first",
    "completed",
    "tiny",
    "facts (v1)",
    "quick_test",
    PLAN,
    SEEN,
    judge(SEEN),
    ended_by="finished",
    steps=10,
    best_step=10,
    final_loss=1.2,
    training_s=65.0,
    peak_memory_bytes=2**30,
    conditions={"threads": 2, "device": "cpu"},
)


def other(after: float, **changes: object) -> Ran:
    return replace(ONE, job_id="two", evidence=replace(SEEN, after=after), **changes)  # type: ignore[arg-type]


def test_only_settings_that_differ_are_shown_and_names_and_paths_never() -> None:
    plan = {**PLAN, "learning_rate": 3e-4, "lora": {"r": 16, "alpha": 16}, "job_id": "two"}
    found = compare(ONE, other(1.3, trainer_plan=plan))
    assert {row.key: row.texts for row in found.settings} == {
        "learning_rate": ("0.001", "0.0003"),
        "lora_r": ("8", "16"),
    }


def test_the_lower_loss_on_the_same_rows_is_better() -> None:
    found = compare(ONE, other(1.2))
    after = next(row for row in found.figures if row.key == "held_out_after")
    assert (found.same_rows, after.better) == (True, 1)
    assert "Job two came out better" in found.summary
    assert {row.key: row.texts[0] for row in found.figures}["training_s"] == "1m 5s"


def test_a_difference_within_what_chance_does_is_called_that() -> None:
    assert "chance" in compare(ONE, other(1.45)).summary
    assert compare(ONE, other(1.5)).summary.startswith("Both came to the same")


def test_losses_on_other_rows_are_not_compared() -> None:
    found = compare(ONE, other(1.2, trainer_plan={**PLAN, "rows_sha256": "b"}))
    after = next(row for row in found.figures if row.key == "held_out_after")
    assert (found.same_rows, after.better) == (False, None)
    assert "different held-out rows" in found.summary
    pairs = compare(ONE, other(0.4, trainer_plan={**PLAN, "training_type": "preference_tuning"}))
    assert not pairs.same_rows
    assert "nobody can tell" in compare(ONE, replace(other(1.0), evidence=Evidence())).summary


def test_a_repetition_with_equal_losses_is_the_same() -> None:
    found = compare_repeat(ONE, replace(ONE, job_id="two"))
    assert (found.outcome, found.largest_percentage) == ("same", 0.0)
    assert "all 5 losses" in found.text


def test_a_repetition_that_differs_says_by_how_much_and_in_what_it_was_computed_otherwise() -> None:
    nearly = compare_repeat(ONE, replace(ONE, final_loss=1.2001, conditions={"threads": 1, "device": "cpu"}))
    assert nearly.outcome == "nearly"
    assert "threads 2, now 1" in nearly.text
    differs = compare_repeat(ONE, other(1.7))
    assert (differs.outcome, round(differs.largest_percentage or 0)) == ("differs", 13)
    assert "Nothing that is recorded" in differs.text
    assert compare_repeat(ONE, replace(ONE, best_step=5)).outcome == "differs"
