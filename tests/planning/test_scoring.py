"""What is measured beside the held-out loss costs little beside the training."""

import pytest
from msgspec.structs import replace

from btmd.planning import TokenFacts
from btmd.planning.forecast import work_of
from btmd.planning.time_estimate import answer_token_seconds, total_seconds, usual_rates
from tests.planning.given import ROWS, SEVEN_BILLION, SMALL, cpu_machine, plan, value


def test_a_long_training_is_measured_in_full() -> None:
    made = plan("quick_test", num_epochs=50)
    assert value(made, "general_questions") == (60, "setting")
    assert value(made, "scored_answers") == (24, "setting")


def test_a_short_one_is_measured_with_what_costs_little() -> None:
    few = TokenFacts(rows=60, total_tokens=3000, learned_tokens=1500, longest_row=80)
    made = plan("quick_test", tokens=few, num_epochs=1)
    questions, source = value(made, "general_questions")
    assert 20 <= questions < 60
    assert source == "data"
    # Beside three sample answers there is room for thirteen more that are computed with them, of six held-out rows.
    assert value(made, "scored_answers") == (6, "data")


def test_where_prompts_are_answered_one_by_one_fewer_are_scored() -> None:
    other = replace(SMALL, architecture="GPT2LMHeadModel", family="gpt2")
    assert (
        value(plan("quick_test", num_epochs=3), "scored_answers")[0]
        > value(plan("quick_test", num_epochs=3, model=other), "scored_answers")[0]
    )


@pytest.mark.parametrize("changes", [{"sample_answers": 0}, {"held_out_fraction": 0.0}])
def test_without_answers_or_rows_to_compare_with_nothing_is_scored(changes: dict[str, float]) -> None:
    assert value(plan("quick_test", num_epochs=50, **changes), "scored_answers")[0] == 0


def test_texts_and_pairs_have_no_one_right_answer() -> None:
    pairs = replace(ROWS, kind="preference")
    made = plan("quick_test", tokens=pairs, training_type="preference_tuning", num_epochs=50)
    assert value(made, "scored_answers")[0] == 0
    assert value(made, "general_questions")[0] == 60


@pytest.mark.parametrize("model", [SMALL, SEVEN_BILLION], ids=["small", "seven billion"])
@pytest.mark.parametrize("epochs", [1, 3, 20])
def test_all_of_it_takes_at_most_a_few_percent_more(model: object, epochs: int) -> None:
    machine = cpu_machine(free_gb=60)
    assert model in (SMALL, SEVEN_BILLION)
    facts = SMALL if model is SMALL else SEVEN_BILLION
    made = plan("quick_test", model=facts, hardware=machine, num_epochs=epochs)
    work = work_of(made, facts, ROWS)
    rates = usual_rates(machine, device="cpu", precision=str(value(made, "precision")[0]), threads=2)
    shown_one_by_one = 2 * 3 * made.integer("sample_tokens")
    before = replace(work, generated_tokens=shown_one_by_one, question_tokens=0)
    assert total_seconds(work, rates) <= 1.025 * total_seconds(before, rates)
    assert answer_token_seconds(facts, 2, rates) > 0


def test_answers_that_are_shown_anyway_are_scored_at_no_cost() -> None:
    few = TokenFacts(rows=180, total_tokens=7200, learned_tokens=3600, longest_row=60, train_rows=150, held_out_rows=30)
    made = plan("quick_test", tokens=few, num_epochs=1, sample_answers=30)
    assert value(made, "scored_answers") == (24, "setting")
    work = work_of(made, SMALL, few)
    assert work.generated_tokens == 2 * 2 * made.integer("sample_tokens")
