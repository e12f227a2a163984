"""Results are told as they are, the bad ones too."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from btmd.monitoring import JobOutcome, result

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
    held_out_before=3.0,
    held_out_after=1.5,
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
    pairs = replace(DONE, training_type="preference_tuning", held_out_before=0.69, held_out_after=0.4)
    summary = result(replace(pairs, margin=1.234, accuracy=0.875)).performance_summary
    assert "88 % of the held-out pairs" in summary
    assert "1.23" in summary
    texts = replace(DONE, training_type="continued_pretraining", held_out_before=3.0, held_out_after=2.0)
    assert "20.1 possibilities" in result(texts).performance_summary
    assert "between 7.4" in result(texts).performance_summary
    assert "perplexity" not in result(replace(texts, held_out_before=900.0)).performance_summary
    assert "perplexity" not in result(DONE).performance_summary


def test_a_worse_model_is_called_worse() -> None:
    told = result(replace(DONE, held_out_after=3.3, best_step=0))
    assert told.success
    assert told.improvement_percentage == -10.0
    assert "made the model worse" in told.performance_summary
    assert "base model" in told.performance_summary
    assert any("learning_rate=0.0001" in advice for advice in told.recommendations)
    assert not any("more passes may help" in advice for advice in told.recommendations)


def test_no_difference_is_called_that() -> None:
    told = result(replace(DONE, held_out_after=2.99))
    assert "no real difference" in told.performance_summary
    assert any("higher learning rate" in advice for advice in told.recommendations)
    assert "little better" in result(replace(DONE, held_out_after=2.9)).performance_summary


def test_without_held_out_rows_nothing_is_claimed() -> None:
    told = result(replace(DONE, held_out_before=None, held_out_after=None))
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
        held_out_after=None,
        result_path=None,
        text="The disk is full.",
        hint="Free some room, then resume it.",
    )
    told = result(failed)
    assert not told.success
    assert told.performance_summary == "The training ended without a result. The disk is full."
    assert told.next_steps[0] == "Free some room, then resume it."


def test_a_cancelled_job_has_no_result() -> None:
    told = result(replace(DONE, state="cancelled", steps=12, result_path=None, held_out_after=None))
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
            held_out_before=before,
            held_out_after=after,
            best_step=best,
            ended_by=ended_by,
            num_epochs=epochs,
            learning_rate=rate,
        )
    )
    improvement = told.improvement_percentage
    assert ("worse:" in told.performance_summary) == (improvement is not None and improvement <= -1)
    assert told.performance_summary.endswith(".")
    assert "{" not in told.performance_summary
    for advice in told.recommendations:
        assert "num_epochs=0" not in advice
