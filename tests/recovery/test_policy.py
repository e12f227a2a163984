"""Whatever fails in whatever order: it ends, it changes nothing unasked, it does not repeat what just failed."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from btmd.domain.job_state import Trouble
from btmd.jobs.recovery_words import action_text, gave_up_text, hint_text, question_text
from btmd.recovery import Ask, Decision, Failure, GiveUp, Limits, Retry, Wait, Way, decide
from btmd.recovery.policy import MEMORY_WAYS

REASONS = (
    "out_of_memory",
    "not_a_number",
    "loss_diverging",
    "loss_spiking",
    "hung",
    "stalled",
    "crash",
    "killed",
    "interrupted",
    "reboot",
    "disk_full",
    "device",
    "data",
    "model",
    "model_changed",
    "something_new",
)
FREE_KEYS = {
    "micro_batch_size",
    "gradient_checkpointing",
    "learning_rate",
    "precision",
    "quarantined_rows",
    "resume_before_step",
    "keep_checkpoints",
}
REPEATS = ("again", "again_later", "again_with_room", "wait_for_room", "wait_for_device", "try_again")
PLAN: dict[str, Any] = {
    "batch_size": 16,
    "micro_batch_size": 8,
    "gradient_checkpointing": False,
    "learning_rate": 1e-3,
    "precision": "bf16",
    "training_type": "fine_tuning",
    "device": "cuda:0",
    "max_length": 512,
    "keep_checkpoints": 2,
}
LIMITS = Limits(total_steps=100, planned_rate=1e-3)


def ways_of(plan: dict[str, Any]) -> list[Way]:
    """What the planner would find: each change once, with what follows from it."""
    found = []
    if plan["max_length"] > 64:
        shorter = {"max_length": plan["max_length"] // 2}
        found.append(Way("shorter", shorter, {"before": plan["max_length"], "now": plan["max_length"] // 2}))
    if plan["training_type"] == "fine_tuning":
        found.append(Way("lora", {"training_type": "lora_adaptation", "learning_rate": 1e-2}, {"rate": 1e-2}))
    if plan["training_type"] != "qlora_adaptation" and plan["device"] != "cpu":
        found.append(Way("qlora", {"training_type": "qlora_adaptation", "learning_rate": 1e-2}, {"rate": 1e-2}))
    if plan["device"] != "cpu":
        found.append(Way("cpu", {"device": "cpu", "precision": "fp32"}))
    return found


@dataclass
class Life:
    """A job that fails again and again, as the daemon would lead it."""

    allowed: frozenset[str]
    limits: Limits = LIMITS
    plan: dict[str, Any] = field(default_factory=lambda: dict(PLAN))
    history: tuple[Trouble, ...] = ()
    told: list[Decision] = field(default_factory=list)
    permitted: set[str] = field(default_factory=set)
    ended: bool = False

    def fail(self, failure: Failure, *, yes: bool = True) -> Decision:
        """One more failure, and what comes of it; a question is answered."""
        decision = decide(failure, self.history, self.plan, self.allowed, self.limits)
        if isinstance(decision, GiveUp) and decision.ways:
            assert set(decision.ways) <= {*MEMORY_WAYS}
            ways = ways_of(self.plan)
            decision = decide(failure, self.history, self.plan, self.allowed, self.limits, ways)
            assert not (isinstance(decision, GiveUp) and decision.ways)
        self._check(decision)
        self.told.append(decision)
        if isinstance(decision, GiveUp) or (isinstance(decision, Ask) and not yes):
            self.ended = True
            return decision
        if isinstance(decision, Ask):
            self.permitted.add(decision.action)
        trouble = Trouble(len(self.history) + 1, failure.reason, failure.step, decision.action, dict(decision.changes))
        self.history = (*self.history, trouble)
        self.plan |= decision.changes
        return decision

    def progress(self) -> None:
        self.history = ()

    def _check(self, decision: Decision) -> None:
        if isinstance(decision, GiveUp):
            assert hint_text(decision.reason, "j", 5)
            gave_up_text(decision)
            return
        assert "batch_size" not in decision.changes
        if isinstance(decision, Ask):
            assert question_text(decision.action, decision.told, answer_s=3600, has_checkpoint=True)
            assert self.limits.may_ask
        else:
            assert action_text(decision.action, decision.told)
            if decision.changes.keys() - FREE_KEYS:
                assert decision.action in self.allowed
        quarantined = set(self.plan.get("quarantined_rows") or ())
        assert quarantined <= set(decision.changes.get("quarantined_rows", quarantined))
        self._check_no_repetition(decision)

    def _check_no_repetition(self, decision: Retry | Wait | Ask) -> None:
        if not self.history:
            return
        last, before = self.history[-1], self.told[-1]
        if decision.action not in REPEATS:
            assert (decision.action, decision.changes) != (last.action, last.changes)
        if (
            isinstance(decision, Retry)
            and isinstance(before, Retry)
            and decision.action == before.action == "again_later"
        ):
            assert decision.wait_s >= before.wait_s


FAILURES = st.builds(
    Failure,
    reason=st.sampled_from(REASONS),
    step=st.integers(0, 100),
    rows=st.lists(st.integers(1, 500), max_size=8).map(tuple),
)


@settings(max_examples=150)
@given(
    failures=st.lists(FAILURES, min_size=1, max_size=40),
    allowed=st.sets(st.sampled_from(MEMORY_WAYS)).map(frozenset),
    progress=st.lists(st.booleans(), min_size=40, max_size=40),
    may_ask=st.booleans(),
    room=st.booleans(),
    present=st.booleans(),
)
def test_any_life_changes_nothing_unasked_and_never_repeats_what_just_failed(
    failures: list[Failure],
    allowed: frozenset[str],
    progress: list[bool],
    may_ask: bool,
    room: bool,
    present: bool,
) -> None:
    limits = replace(LIMITS, may_ask=may_ask, needed_bytes=10, free_bytes=20 if room else 5, device_is_there=present)
    life = Life(allowed, limits)
    for failure, further in zip(failures, progress, strict=False):
        life.fail(failure)
        if life.ended:
            return
        if further:
            life.progress()


@settings(max_examples=100)
@given(
    failures=st.lists(FAILURES, min_size=1, max_size=6),
    allowed=st.sets(st.sampled_from(MEMORY_WAYS)).map(frozenset),
    plan=st.fixed_dictionaries(
        {
            "micro_batch_size": st.sampled_from([1, 2, 8, 64]),
            "gradient_checkpointing": st.booleans(),
            "device": st.sampled_from(["cpu", "cuda:0"]),
            "precision": st.sampled_from(["fp32", "bf16", "fp16"]),
            "training_type": st.sampled_from(["fine_tuning", "lora_adaptation", "qlora_adaptation"]),
        }
    ),
)
def test_without_progress_any_cycle_of_failures_comes_to_an_end(
    failures: list[Failure], allowed: frozenset[str], plan: dict[str, Any]
) -> None:
    life = Life(allowed, replace(LIMITS, may_ask=False), {**PLAN, **plan, "batch_size": 64})
    for count, failure in enumerate(itertools.cycle(failures)):
        life.fail(failure)
        if life.ended:
            return
        # By itself at most so many attempts, and as many crashes beside them; a wait for room counts as one.
        assert count < LIMITS.attempts + LIMITS.crash_resumes + 1, [one for one in life.told]


@settings(max_examples=100)
@given(failures=st.lists(FAILURES, min_size=1, max_size=4), yes=st.lists(st.booleans(), min_size=60, max_size=60))
def test_questions_come_to_an_end_unless_a_person_says_yes_to_the_same_again(
    failures: list[Failure], yes: list[bool]
) -> None:
    life = Life(frozenset())
    for failure, answer in zip(itertools.cycle(failures), yes, strict=False):
        decision = life.fail(failure, yes=answer and not _asks_for_the_same(life, failure))
        if life.ended:
            return
        assert not isinstance(decision, Ask) or decision.action in life.permitted
    raise AssertionError([one for one in life.told])


def _asks_for_the_same(life: Life, failure: Failure) -> bool:
    decision = decide(failure, life.history, life.plan, life.allowed, life.limits, ways_of(life.plan))
    return isinstance(decision, Ask) and decision.action == "try_again"


def test_every_run_of_three_failures_of_every_kind_is_decided_and_said() -> None:
    for reasons in itertools.product(REASONS, repeat=3):
        for allowed in (frozenset(), frozenset(MEMORY_WAYS)):
            life = Life(frozenset(allowed))
            for number, reason in enumerate(reasons):
                if not life.ended:
                    life.fail(Failure(reason, 10 + number, (number + 1,)))


def actions(decisions: Sequence[Decision]) -> list[str]:
    return [f"end:{one.reason}" if isinstance(one, GiveUp) else one.action for one in decisions]


def test_out_of_memory_gives_way_from_what_changes_nothing_to_what_was_permitted() -> None:
    life = Life(frozenset({"lora", "shorter"}))
    sizes = []
    while not life.ended:
        life.fail(Failure("out_of_memory"), yes=False)
        sizes.append(life.plan["micro_batch_size"])
    assert actions(life.told) == [
        "smaller_micro_batch",
        "smaller_micro_batch",
        "checkpointing",
        "shorter",
        "shorter",
        "shorter",
        "lora",
    ]
    assert isinstance(life.told[-1], Ask)
    assert sizes[:3] == [4, 1, 1]
    assert life.plan["batch_size"] == 16


def test_out_of_memory_asks_for_what_was_not_permitted_and_ends_where_nothing_helps() -> None:
    life = Life(frozenset(), plan={**PLAN, "micro_batch_size": 1, "gradient_checkpointing": True})
    asked = life.fail(Failure("out_of_memory"), yes=False)
    assert isinstance(asked, Ask)
    assert asked.action == "shorter"
    stuck = {**PLAN, "micro_batch_size": 1, "gradient_checkpointing": True, "device": "cpu", "max_length": 64}
    life = Life(frozenset(), plan={**stuck, "training_type": "lora_adaptation"})
    assert life.fail(Failure("out_of_memory")) == GiveUp("out_of_memory", {"times": 1})


def test_a_bad_row_is_left_out_and_the_training_goes_on_from_before_it() -> None:
    life = Life(frozenset())
    first = life.fail(Failure("not_a_number", 57, (12, 3)))
    assert isinstance(first, Retry)
    assert first.changes == {"quarantined_rows": [3, 12], "resume_before_step": 57}
    assert "rows 3, 12" in action_text(first.action, first.told)
    life.progress()
    second = life.fail(Failure("not_a_number", 80, (40,)))
    assert life.plan["quarantined_rows"] == [3, 12, 40]
    assert second.action == "skip_rows"  # type: ignore[union-attr]


def test_rows_left_out_in_vain_make_way_for_a_lower_rate_and_full_precision() -> None:
    life = Life(frozenset())
    for row in range(1, 7):
        life.fail(Failure("not_a_number", 50, (row,)))
    assert actions(life.told) == [
        "skip_rows",
        "skip_rows",
        "lower_rate",
        "exact_precision",
        "skip_rows",
        "lower_rate",
    ]
    assert life.plan["learning_rate"] == pytest.approx(5e-5)
    assert actions([life.fail(Failure("not_a_number", 50, (9,)))]) == ["end:not_a_number"]


def test_at_most_a_few_batches_of_rows_are_left_out() -> None:
    life = Life(frozenset())
    for number in range(40):
        life.fail(Failure("not_a_number", 50, tuple(range(16 * number, 16 * number + 16))))
        life.progress()
    assert len(life.plan["quarantined_rows"]) <= 8 * PLAN["batch_size"]


@pytest.mark.parametrize(("step", "rate"), [(5, 1e-4), (60, 5e-4)])
def test_a_loss_that_runs_away_early_is_slowed_down_more(step: int, rate: float) -> None:
    life = Life(frozenset(), replace(LIMITS, best_step=40))
    life.fail(Failure("loss_diverging", step))
    assert life.plan["learning_rate"] == pytest.approx(rate)
    assert life.plan["resume_before_step"] == (1 if step == 5 else 41)


def test_a_crash_is_taken_up_again_as_often_as_the_setting_says_and_later_each_time() -> None:
    for resumes in (0, 1, 3, 9):
        life = Life(frozenset(), replace(LIMITS, crash_resumes=resumes))
        while not life.ended:
            life.fail(Failure("crash"), yes=False)
        assert len(life.told) == resumes + 1
        waits = [one.wait_s for one in life.told if isinstance(one, Retry)]
        assert waits == [0, 10, 40, 160, 640, 900, 900, 900, 900][:resumes]


def test_a_crash_on_the_cpu_ends_where_one_on_a_gpu_asks_for_the_cpu() -> None:
    limits = replace(LIMITS, crash_resumes=0)
    on_gpu = Life(frozenset(), limits).fail(Failure("crash"))
    assert isinstance(on_gpu, Ask)
    assert on_gpu.action == "cpu"
    on_cpu = Life(frozenset(), limits, {**PLAN, "device": "cpu"}).fail(Failure("crash"))
    assert on_cpu == GiveUp("crash_limit", {"times": 1})


def test_a_full_disk_is_waited_for_only_where_it_is_full() -> None:
    full = Life(frozenset(), replace(LIMITS, free_bytes=1, needed_bytes=2))
    waits = full.fail(Failure("disk_full"))
    assert isinstance(waits, Wait)
    assert waits.action == "wait_for_room"
    assert waits.changes == {"keep_checkpoints": 1}
    freed = Life(frozenset(), replace(LIMITS, free_bytes=3, needed_bytes=2))
    first, second = freed.fail(Failure("disk_full")), freed.fail(Failure("disk_full"))
    assert actions([first, second]) == ["fewer_checkpoints", "again_with_room"]


def test_a_lost_gpu_is_waited_for_and_one_that_came_back_is_tried_again() -> None:
    lost = Life(frozenset(), replace(LIMITS, device_is_there=False)).fail(Failure("device"))
    assert isinstance(lost, Wait)
    life = Life(frozenset({"cpu"}))
    while life.plan["device"] != "cpu":
        life.fail(Failure("device"))
    assert actions(life.told) == ["again_later", "again_later", "again_later", "cpu"]


def test_what_no_attempt_can_change_is_given_up_at_once() -> None:
    for reason in ("data", "model", "model_changed"):
        assert Life(frozenset(MEMORY_WAYS)).fail(Failure(reason)) == GiveUp(reason)
