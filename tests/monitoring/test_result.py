"""Results are told as they are, the bad ones too."""

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from btmd.monitoring import JobOutcome, Result, result
from btmd.monitoring.verdict import Evidence, Measurement

DONE = JobOutcome(
    "abcdefghij",
    "org/model",
    "completed",
    "finished",
    training_s=3900,
    steps=100,
    total_steps=100,
    best_step=100,
    final_loss=0.4,
    evidence=Evidence(3.0, 1.5),
    result_path="result",
    training_type="lora_adaptation",
    learning_rate=3e-4,
    num_epochs=2,
    train_rows=500,
)


def test_a_good_result_says_so_with_figures() -> None:
    told = result(DONE)
    assert told.success
    assert told.improvement_percentage == 50.0
    assert (told.model_name, told.training_time, told.final_loss, told.model_path) == ("model", "1h 5m", 0.4, "result")
    assert told.performance_summary.startswith("It was worth it")
    assert "50 %" in told.performance_summary
    assert "3.00 to 1.50" in told.performance_summary
    assert any("btmctl chat abcdefghij --both" in step for step in told.next_steps)
    assert any("num_epochs=4" in advice for advice in told.recommendations)


def test_pairs_are_told_in_pairs_and_texts_in_possibilities() -> None:
    pairs = replace(DONE, training_type="preference_tuning", evidence=Evidence(0.69, 0.4))
    summary = result(replace(pairs, margin=1.234, accuracy=0.875)).performance_summary
    assert "88 % of the held-out pairs" in summary
    assert "1.23" in summary
    texts = replace(DONE, training_type="continued_pretraining", evidence=Evidence(3.0, 2.0))
    assert "20.1 possibilities" in result(texts).performance_summary
    assert "between 7.4" in result(texts).performance_summary
    assert "perplexity" not in result(replace(texts, evidence=Evidence(900.0, 2.0))).performance_summary
    assert "perplexity" not in result(DONE).performance_summary


def test_a_worse_model_is_called_worse() -> None:
    told = result(replace(DONE, evidence=Evidence(3.0, 3.3), best_step=0))
    assert told.success
    assert told.improvement_percentage == -10.0
    assert "made the model worse" in told.performance_summary
    assert "base model" in told.performance_summary
    assert any("learning_rate=0.0001" in advice for advice in told.recommendations)
    assert not any("more passes may help" in advice for advice in told.recommendations)


def test_no_difference_is_called_that() -> None:
    told = result(replace(DONE, evidence=Evidence(3.0, 2.99)))
    assert "no real difference" in told.performance_summary
    assert any("higher learning rate" in advice for advice in told.recommendations)
    known = result(replace(DONE, evidence=Evidence(0.03, 0.025, low=5.0, high=20.0)))
    assert "no real difference" in known.performance_summary
    assert any("knew these answers before" in advice for advice in known.recommendations)
    assert "little better" in result(replace(DONE, evidence=Evidence(3.0, 2.9))).performance_summary


def test_without_held_out_rows_nothing_is_claimed() -> None:
    told = result(replace(DONE, evidence=Evidence()))
    assert told.improvement_percentage is None
    assert "nobody can tell" in told.performance_summary


def test_an_early_end_is_explained() -> None:
    told = result(replace(DONE, ended_by="early_stopping", steps=60, best_step=30, num_epochs=5))
    assert "no longer got better" in told.performance_summary
    assert "after step 30" in told.performance_summary
    assert any("num_epochs=3" in advice for advice in told.recommendations)
    assert "You ended" in result(replace(DONE, ended_by="stopped", steps=60)).performance_summary


def test_a_failure_names_cause_and_way_on() -> None:
    failed = replace(
        DONE,
        state="failed",
        ended_by="failed",
        evidence=Evidence(3.0, None),
        result_path=None,
        text="The disk is full.",
        hint="Free some room, then resume it.",
    )
    told = result(failed)
    assert not told.success
    assert told.performance_summary == "The training ended without a result. The disk is full."
    assert told.next_steps[0] == "Free some room, then resume it."


def test_a_cancelled_job_has_no_result() -> None:
    told = result(replace(DONE, state="cancelled", steps=12, result_path=None, evidence=Evidence(3.0, None)))
    assert not told.success
    assert "step 12 of 100" in told.performance_summary
    consent = replace(DONE, state="cancelled", reason="consent", result_path=None)
    assert "consent" in result(consent).performance_summary


LOSSES = st.none() | st.floats(0, 100)


@given(
    LOSSES,
    LOSSES,
    st.integers(0, 100),
    st.sampled_from(["finished", "stopped", "early_stopping", "time"]),
    st.integers(1, 50),
    st.floats(1e-8, 0.1),
)
@settings(max_examples=150)
def test_the_words_always_agree_with_the_figures(
    before: float | None, after: float | None, best: int, ended_by: str, epochs: int, rate: float
) -> None:
    told = result(
        replace(
            DONE,
            evidence=Evidence(before, after),
            best_step=best,
            ended_by=ended_by,
            num_epochs=epochs,
            learning_rate=rate,
        )
    )
    improvement = told.improvement_percentage
    noticeable = before is not None and after is not None and abs(before - after) >= 0.01
    assert ("worse:" in told.performance_summary) == (noticeable and improvement is not None and improvement <= -1)
    assert told.performance_summary.endswith(".")
    assert "{" not in told.performance_summary
    for advice in told.recommendations:
        assert "num_epochs=0" not in advice


# --- given what was measured, when it is judged, then this is said -------------------------------------------------


def told_of(evidence: Evidence, **changes: object) -> Result:
    return result(replace(DONE, dataset_id="facts", preset="quick_test", evidence=evidence, **changes))  # type: ignore[arg-type]


def test_given_a_range_above_zero_then_it_is_better_and_the_range_is_told() -> None:
    told = told_of(Evidence(3.0, 1.5, low=44.0, high=56.0))
    assert told.verdict is not None
    assert (told.verdict.kind, told.verdict.sure) == ("better", True)
    assert "44 to 56 %" in told.performance_summary
    assert "49.8 to 50.3 %" in told_of(Evidence(3.0, 1.5, low=49.8, high=50.3)).performance_summary


def test_given_a_range_across_zero_then_nothing_is_claimed_and_more_rows_are_asked_for() -> None:
    told = told_of(Evidence(3.0, 2.7, low=-8.0, high=24.0, rows=6))
    assert told.verdict is not None
    assert (told.verdict.kind, told.verdict.sure) == ("unchanged", False)
    assert told.performance_summary.startswith("Whether it got better cannot be told")
    assert "8 % worse to 24 % better" in told.performance_summary
    assert any("Only 6 rows were held out" in advice for advice in told.recommendations)
    assert "--set held_out_fraction=0.2" in told.next_steps[-1]
    worse = told_of(Evidence(3.0, 3.3, low=-24.0, high=8.0, rows=6))
    assert worse.verdict is not None
    assert (worse.verdict.kind, worse.verdict.sure) == ("unchanged", False)


def test_given_a_narrow_range_around_zero_then_it_surely_made_no_difference() -> None:
    told = told_of(Evidence(3.0, 2.99, low=-0.6, high=1.2))
    assert told.verdict is not None
    assert (told.verdict.kind, told.verdict.sure) == ("unchanged", True)
    assert "no real difference" in told.performance_summary


def test_given_a_low_training_loss_and_a_risen_held_out_loss_then_the_rows_were_learned_by_heart() -> None:
    told = told_of(Evidence(3.0, 3.6, low=-26.0, high=-14.0, train_loss=0.2), num_epochs=20, eval_every=0)
    assert told.verdict is not None
    assert told.verdict.kind == "overfitted"
    assert "by heart" in told.performance_summary
    assert "14 to 26 %" in told.performance_summary
    assert "--set eval_every=20" in told.next_steps[-1]
    assert told_of(Evidence(3.0, 3.6, train_loss=3.1)).verdict.kind == "worse"  # type: ignore[union-attr]
    assert told_of(Evidence(3.0, 2.999, train_loss=0.1)).verdict.kind == "overfitted"  # type: ignore[union-attr]
    assert told_of(Evidence(3.0, 1.5, train_loss=0.1)).verdict.kind == "better"  # type: ignore[union-attr]


def test_given_a_held_out_loss_that_rose_again_then_the_kept_state_is_better_and_fewer_passes_are_advised() -> None:
    history = (Measurement(20, 2.0), Measurement(40, 1.5), Measurement(80, 1.9), Measurement(100, 2.2))
    told = told_of(Evidence(3.0, 1.5, low=45, high=55, history=history), best_step=40, num_epochs=10)
    assert told.verdict is not None
    assert (told.verdict.kind, told.verdict.overfitted_after_step) == ("better", 40)
    assert "After step 40" in told.performance_summary
    assert "--set num_epochs=4" in told.next_steps[-1]
    wobble = (Measurement(50, 1.5), Measurement(100, 1.51))
    assert told_of(Evidence(3.0, 1.5, history=wobble)).verdict.overfitted_after_step is None  # type: ignore[union-attr]


def test_given_a_risen_loss_on_general_questions_then_it_forgot_though_it_learned() -> None:
    told = told_of(Evidence(3.0, 1.5, low=45, high=55, general_before=2.0, general_after=2.6))
    assert told.verdict is not None
    assert (told.verdict.kind, told.verdict.general_change_percentage) == ("forgot", 30.0)
    assert "It was worth it" in told.performance_summary
    assert "rose by 30 % (from 2.00 to 2.60)" in told.performance_summary
    assert any("lower learning rate" in advice for advice in told.recommendations)
    full = told_of(Evidence(3.0, 1.5, general_before=2.0, general_after=2.6), training_type="fine_tuning")
    assert "--set training_type=lora_adaptation" in full.next_steps[-1]
    kept = told_of(Evidence(3.0, 1.5, general_before=2.0, general_after=2.05))
    assert kept.verdict is not None
    assert kept.verdict.kind == "better"
    assert "still there" in kept.performance_summary
    worse = told_of(Evidence(3.0, 3.9, general_before=2.0, general_after=4.0))
    assert worse.verdict is not None
    assert (worse.verdict.kind, worse.verdict.forgot) == ("worse", True)


def test_given_answers_that_are_no_more_often_right_then_only_the_form_was_learned() -> None:
    told = told_of(Evidence(3.0, 1.5, answers=40, exact_before=0.0, exact_after=0.05))
    assert told.verdict is not None
    assert (told.verdict.kind, told.verdict.hardly_right) == ("slightly_better", True)
    assert "the form of the answers" in told.performance_summary
    assert any("btmctl datasets preview facts" in advice for advice in told.recommendations)
    nearer = {"answers": 40, "exact_before": 0.0, "exact_after": 0.0, "overlap_before": 0.2, "overlap_after": 0.5}
    assert told_of(Evidence(3.0, 1.5, **nearer)).verdict.kind == "better"  # type: ignore[arg-type,union-attr]
    assert not told_of(Evidence(3.0, 1.5, **nearer)).verdict.hardly_right  # type: ignore[arg-type,union-attr]
    right = told_of(Evidence(3.0, 1.5, answers=40, exact_before=0.1, exact_after=0.4)).performance_summary
    assert "40 % are right word for word now" in right
    always = told_of(Evidence(3.0, 1.5, answers=40, exact_before=1.0, exact_after=1.0))
    assert always.verdict is not None
    assert always.verdict.kind == "better"


def test_the_next_command_is_whole_and_repeats_what_was_asked() -> None:
    told = told_of(Evidence(3.0, 1.5), overrides={"lora_r": 8, "num_epochs": 2}, from_job="k3q7zv2m5a")
    command = "btmctl train org/model facts --preset quick_test --from-job k3q7zv2m5a --set lora_r=8 --set num_epochs=4"
    assert f"`{command}`" in told.next_steps[-1]
