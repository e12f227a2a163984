"""What may happen to a job, whoever dies in between."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from btmd.domain import job
from btmd.domain.event import Event
from btmd.domain.job_events import (
    AnswerAsked,
    AttemptFailed,
    AttemptLost,
    AttemptStarted,
    CancelRequested,
    CheckpointSaved,
    JobAnswered,
    JobCancelled,
    JobCompleted,
    JobConsentWithdrawn,
    JobFailed,
    JobPaused,
    JobSubmitted,
    JobUnanswered,
    PauseRequested,
    RecoveryDue,
    RecoveryPlanned,
    ResumeRequested,
    StopRequested,
    TrainerNoticed,
    TrainingProgressed,
    TrainingStageEntered,
)
from btmd.errors import BtmdError, Conflict, JobEnded, JobNotFound
from tests.domain.given import given

SUBMITTED = JobSubmitted("j", "", 0, "m", "d", "v", "quick_test", {}, {}, {})
STARTED = AttemptStarted("j", 1, "boot", "first")
TRAINING = TrainingStageEntered("j", 1, 1, "training")
FINISHED: dict[str, Any] = {"ended_by": "finished", "steps": 3}


def checkpoint(step: int, number: int = 2, attempt: int = 1) -> CheckpointSaved:
    return CheckpointSaved("j", attempt, number, step, f"step-{step}", 10, None, False)


def gone(attempt: int = 1, boot: str = "boot") -> job.RecordTrainerGone:
    return job.RecordTrainerGone("j", attempt, boot)


def again(attempt: int) -> AttemptStarted:
    return AttemptStarted("j", attempt, "boot", "crash")


def test_a_job_that_is_not_there() -> None:
    given().when(job.CancelJob("j")).then_refused(JobNotFound, "jobs list")


def test_submitting_twice_is_a_conflict() -> None:
    given(SUBMITTED).when(job.SubmitJob(SUBMITTED)).then_refused(Conflict)


def test_an_attempt_starts_once() -> None:
    given(SUBMITTED).when(job.StartAttempt("j", "boot")).then(STARTED)
    given(SUBMITTED, STARTED).when(job.StartAttempt("j", "boot")).then_refused(Conflict)


def test_withdrawn_consent_ends_a_job_with_its_checkpoint_and_for_good() -> None:
    withdrawn = job.WithdrawConsent("j")
    ended = JobCancelled("j", "consent")
    stopped = job.RecordEnd("j", 1, "stopped", {"reason": "pause", "step": 8})
    given(SUBMITTED).when(withdrawn).then(ended)
    running = (SUBMITTED, STARTED, TRAINING, JobConsentWithdrawn("j"))
    given(*running[:-1]).when(withdrawn).then(running[-1])
    given(*running).when(withdrawn).then_nothing()
    given(*running).when(stopped).then(ended)
    given(*running).when(gone()).then(ended)
    for asked in (job.PauseJob("j"), job.StopJob("j")):
        given(*running).when(asked).then_refused(Conflict)
    given(*running, checkpoint(8), ended).when(job.ResumeJob("j")).then_refused(JobEnded)
    given(SUBMITTED, STARTED, TRAINING, JobPaused("j", 3)).when(withdrawn).then(ended)


def test_a_frame_seen_twice_is_recorded_once() -> None:
    seen = TrainerNoticed("j", 1, 2, "left_out", "3 rows were left out.")
    later = TrainerNoticed("j", 1, 3, "left_out", "again")
    given(SUBMITTED, STARTED, TRAINING, seen).when(job.RecordFrames("j", 1, (TRAINING, seen, later))).then(later)


def test_frames_of_an_earlier_attempt_are_not_recorded() -> None:
    lost = AttemptLost("j", 1, "crash", "x")
    again = AttemptStarted("j", 2, "boot", "crash")
    given(SUBMITTED, STARTED, lost, again).when(job.RecordFrames("j", 1, (TRAINING,))).then_nothing()


def test_ticks_pass_whatever_their_number() -> None:
    tick = TrainingProgressed("j", 1, 1, 1, 9, 0, 2.0, 1e-4, 10.0, 1.0, 1, (1,), (2.0,))
    given(SUBMITTED, STARTED, TrainingStageEntered("j", 1, 5, "training")).when(job.RecordFrames("j", 1, (tick,))).then(
        tick
    )


def test_the_last_word_completes_the_job() -> None:
    given(SUBMITTED, STARTED, TRAINING).when(job.RecordEnd("j", 1, "finished", FINISHED)).then(
        JobCompleted("j", 1, "finished", FINISHED)
    )


def test_a_failure_is_recorded_with_what_it_rests_on_before_it_is_decided_what_follows() -> None:
    end = {"reason": "not_a_number", "text": "NaN.", "step": 9, "rows": [3, 4], "evidence": {"resident_bytes": 5}}
    failed = AttemptFailed("j", 1, "not_a_number", "NaN.", 9, (3, 4), {"resident_bytes": 5})
    running = (SUBMITTED, STARTED, TRAINING, checkpoint(8))
    given(*running).when(job.RecordEnd("j", 1, "failed", end)).then(failed)
    state = given(*running, failed).state(job.CancelJob)
    assert (state.state, state.undecided, state.troubles[-1].rows) == ("recovering", True, (3, 4))
    given(*running, failed).when(job.StartAttempt("j", "boot")).then_refused(Conflict, "")


def test_an_older_log_s_lost_attempt_is_taken_up_again_at_once() -> None:
    given(SUBMITTED, STARTED, AttemptLost("j", 1, "crash", "x")).when(job.StartAttempt("j", "boot")).then(
        AttemptStarted("j", 2, "boot", "crash")
    )


def test_a_checkpoint_further_on_forgets_earlier_failures() -> None:
    failed = AttemptFailed("j", 1, "crash", "x")
    history = [SUBMITTED, STARTED, failed, RecoveryPlanned("j", 1, "again", {}, ""), again(2)]
    assert given(*history, checkpoint(4, attempt=2)).state(job.CancelJob).troubles == ()
    stuck = given(SUBMITTED, STARTED, checkpoint(4), *history[2:], checkpoint(4, attempt=2)).state(job.CancelJob)
    assert [one.action for one in stuck.troubles] == ["again"]
    assert stuck.crashes == 1


def test_a_checkpoint_after_going_back_is_no_progress_until_it_is_further_than_ever() -> None:
    failed = AttemptFailed("j", 1, "loss_diverging", "x", 9)
    back = RecoveryPlanned("j", 1, "lower_rate", {"resume_before_step": 1}, "")
    history = (SUBMITTED, STARTED, checkpoint(8), failed, back, again(2))
    assert len(given(*history, checkpoint(5, attempt=2)).state(job.CancelJob).troubles) == 1
    assert given(*history, checkpoint(9, attempt=2)).state(job.CancelJob).troubles == ()


def test_a_reboot_is_no_crash() -> None:
    [lost] = job.decide(gone(boot="another"), given(SUBMITTED, STARTED, TRAINING).state(job.CancelJob))
    assert isinstance(lost, AttemptFailed)
    assert lost.reason == "reboot"
    assert given(SUBMITTED, STARTED, lost).state(job.CancelJob).crashes == 0


@pytest.mark.parametrize("end", ["stopped", "failed", "finished"])
def test_a_cancelled_job_stays_cancelled_but_a_finished_one_is_finished(end: str) -> None:
    said = {"stopped": {"reason": "pause", "step": 1}, "failed": {"reason": "crash", "text": ""}, "finished": FINISHED}
    asked = given(SUBMITTED, STARTED, TRAINING, CancelRequested("j"))
    expected = JobCompleted("j", 1, "finished", FINISHED) if end == "finished" else JobCancelled("j")
    asked.when(job.RecordEnd("j", 1, end, said[end])).then(expected)
    asked.when(gone()).then(JobCancelled("j"))


def test_cancel_answers_at_once_when_nothing_runs() -> None:
    given(SUBMITTED).when(job.CancelJob("j")).then(CancelRequested("j"), JobCancelled("j"))
    given(SUBMITTED, STARTED, TRAINING).when(job.CancelJob("j")).then(CancelRequested("j"))
    given(SUBMITTED, STARTED, CancelRequested("j")).when(job.CancelJob("j")).then_nothing()
    given(SUBMITTED, JobCancelled("j")).when(job.CancelJob("j")).then_refused(JobEnded)


ENDED = (SUBMITTED, JobCancelled("j"))
STOPPING = (SUBMITTED, STARTED, TRAINING, StopRequested("j"))
CANCELLING = (SUBMITTED, STARTED, TRAINING, CancelRequested("j"))


@pytest.mark.parametrize(
    ("before", "command"),
    [
        (ENDED, job.CancelJob("j")),
        (ENDED, job.ResumeJob("j")),
        (CANCELLING, job.StopJob("j")),
        (STOPPING, job.PauseJob("j")),
        (STOPPING, job.ResumeJob("j")),
        ((SUBMITTED,), job.StopJob("j")),
    ],
)
def test_what_a_job_does_not_allow_is_refused_with_a_command_that_helps(
    before: tuple[Event, ...], command: job.JobCommand
) -> None:
    given(*before).when(command).then_refused(Conflict, "btmctl jobs")


def test_pause_and_resume() -> None:
    running = (SUBMITTED, STARTED, TRAINING)
    given(*running).when(job.PauseJob("j")).then(PauseRequested("j"))
    given(*running, PauseRequested("j")).when(job.PauseJob("j")).then_nothing()
    given(*running, PauseRequested("j")).when(job.ResumeJob("j")).then_refused(Conflict, "being paused")
    paused = (*running, PauseRequested("j"), JobPaused("j", 4))
    given(*paused).when(job.ResumeJob("j")).then(ResumeRequested("j"))
    given(*running).when(job.ResumeJob("j")).then_refused(Conflict, "not paused")
    assert given(*paused, ResumeRequested("j")).state(job.CancelJob).state == "queued"


def test_a_trainer_that_dies_while_pausing_leaves_a_paused_job() -> None:
    *_, paused = job.decide(gone(), given(SUBMITTED, STARTED, checkpoint(4), PauseRequested("j")).state(job.CancelJob))
    assert paused == JobPaused("j", 4)


def test_stop_and_keep() -> None:
    given(SUBMITTED).when(job.StopJob("j")).then_refused(Conflict, "nothing to keep")
    given(SUBMITTED, STARTED, TRAINING).when(job.StopJob("j")).then(StopRequested("j"))
    paused = (SUBMITTED, STARTED, checkpoint(4), PauseRequested("j"), JobPaused("j", 4))
    given(*paused).when(job.StopJob("j")).then(StopRequested("j"))
    waiting = given(*paused, StopRequested("j")).state(job.CancelJob)
    assert (waiting.state, waiting.asked, waiting.next_why) == ("queued", "stop", "stop")
    again = given(*paused, StopRequested("j"), AttemptStarted("j", 2, "boot", "stop")).state(job.CancelJob)
    assert again.asked == "stop"


def test_a_stop_asked_while_pausing_is_not_forgotten() -> None:
    history = (SUBMITTED, STARTED, checkpoint(2), PauseRequested("j"), StopRequested("j"))
    given(*history).when(job.RecordEnd("j", 1, "stopped", {"reason": "pause", "step": 2})).then(
        JobPaused("j", 2), StopRequested("j")
    )
    given(*history).when(job.PauseJob("j")).then_refused(Conflict, "being stopped")


def test_a_stop_survives_a_crash_of_the_trainer() -> None:
    lost = AttemptLost("j", 1, "crash", "x")
    state = given(SUBMITTED, STARTED, TRAINING, checkpoint(2), StopRequested("j"), lost).state(job.CancelJob)
    assert (state.state, state.asked) == ("recovering", "stop")


def test_a_failed_job_can_be_resumed_but_a_completed_one_cannot() -> None:
    failed = (SUBMITTED, STARTED, JobFailed("j", 1, "disk_full", "x"))
    given(*failed).when(job.ResumeJob("j")).then(ResumeRequested("j"))
    given(SUBMITTED, STARTED, JobCompleted("j", 1, "finished", {})).when(job.ResumeJob("j")).then_refused(JobEnded)
    before_it_began = given(SUBMITTED, JobFailed("j", 0, "data", "x")).when(job.ResumeJob("j"))
    before_it_began.then_refused(JobEnded, "before it had begun", "btmctl jobs rerun j")


class AnyLife(RuleBasedStateMachine):
    """Whatever is asked and whatever dies, in any order, a job never contradicts itself."""

    def __init__(self) -> None:
        super().__init__()
        self.state: job.JobState | None = job.evolve(None, SUBMITTED)
        self.ended_as: str | None = None
        self.cancel_asked = False
        self.number = 0

    def ask(self, command: Any) -> list[Event]:
        try:
            events = job.decide(command, self.state)
        except BtmdError:
            return []
        for happened in events:
            self.state = job.evolve(self.state, happened)
        assert self.state is not None
        self.cancel_asked = self.cancel_asked or any(isinstance(one, CancelRequested) for one in events)
        return events

    @property
    def now(self) -> job.JobState:
        assert self.state is not None
        return self.state

    @rule(boot=st.sampled_from(["a", "b"]))
    def start(self, boot: str) -> None:
        if self.ask(job.StartAttempt("j", boot)):
            self.number = 0

    @rule(stage=st.sampled_from(job.STAGES), step=st.integers(1, 9), saves=st.booleans())
    def report(self, stage: str, step: int, saves: bool) -> None:
        self.number += 1
        seen: Event = TrainingStageEntered("j", self.now.attempt, self.number, stage)
        if saves:
            seen = checkpoint(step, self.number, self.now.attempt)
        recorded = self.ask(job.RecordFrames("j", self.now.attempt, (seen,)))
        if recorded:
            assert job.decide(job.RecordFrames("j", self.now.attempt, (seen,)), self.state) == []

    @rule(end=st.sampled_from(["finished", "stopped", "failed"]), stale=st.booleans())
    def last_word(self, end: str, stale: bool) -> None:
        said = {"ended_by": "finished", "reason": "pause", "step": 3, "text": "x"}
        attempt = self.now.attempt - stale
        before = self.state
        self.ask(job.RecordEnd("j", attempt, end, said))
        if stale:
            assert self.state == before

    @rule(boot=st.sampled_from(["a", "b"]))
    def die(self, boot: str) -> None:
        self.ask(job.RecordTrainerGone("j", self.now.attempt, boot))

    @rule()
    def is_ended(self) -> None:
        self.ask(job.RecordIntervention("j", self.now.attempt, "hung", "x"))

    @rule(stale=st.booleans(), waits=st.booleans())
    def plan(self, stale: bool, waits: bool) -> None:
        before, attempt = self.state, self.now.attempt - stale
        self.ask(job.PlanRecovery("j", attempt, "smaller", {"micro_batch_size": 1}, "x", 5 if waits else 0))
        if stale:
            assert self.state == before

    @rule()
    def due(self) -> None:
        self.ask(job.MarkDue("j", self.now.attempt))

    @rule()
    def ask_person(self) -> None:
        self.ask(job.AskPerson("j", self.now.attempt, "May it?", "lora", {"lora": None}, 9))

    @rule()
    def give_up(self) -> None:
        self.ask(job.GiveUpJob("j", self.now.attempt, "crash_limit", "x"))

    @rule(yes=st.booleans())
    def answer(self, yes: bool) -> None:
        self.ask(job.AnswerJob("j", yes))

    @rule(now_us=st.sampled_from([8, 9]))
    def expire(self, now_us: int) -> None:
        self.ask(job.ExpireQuestion("j", now_us))

    @rule()
    def cannot_go_on(self) -> None:
        self.ask(job.FailJob("j", "data", "its data is gone"))

    @rule(command=st.sampled_from([job.PauseJob, job.ResumeJob, job.StopJob, job.CancelJob]))
    def person(self, command: Any) -> None:
        self.ask(command("j"))

    @invariant()
    def consistent(self) -> None:
        now = self.now
        assert now.state in job.STATES
        assert (now.question is not None) == (now.state == "needs_attention")
        assert not now.undecided or now.state == "recovering"
        assert now.not_before_us == 0 or now.state == "recovering"
        if self.ended_as in ("completed", "cancelled"):
            assert now.state == self.ended_as
        if now.ended:
            self.ended_as = now.state
            assert now.asked == ""
        if self.cancel_asked and now.state == "failed":
            raise AssertionError("a cancelled job failed instead")
        if now.state == "paused":
            assert now.asked == ""


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = settings(max_examples=150, stateful_step_count=40)


FAILED = AttemptFailed("j", 1, "out_of_memory", "x")
ASKED = AnswerAsked("j", 1, "May it?", "lora", {"training_type": "lora_adaptation"}, 100)
PLAN = job.PlanRecovery("j", 1, "checkpointing", {"gradient_checkpointing": True}, "So.")


def test_what_was_planned_is_done_once_and_changes_add_up() -> None:
    troubled = (SUBMITTED, STARTED, TRAINING, FAILED)
    planned = RecoveryPlanned("j", 1, "checkpointing", {"gradient_checkpointing": True}, "So.")
    given(*troubled).when(PLAN).then(planned)
    given(*troubled, planned).when(PLAN).then_nothing()
    given(*troubled, planned, again(2)).when(PLAN).then_nothing()
    smaller = RecoveryPlanned("j", 2, "smaller_micro_batch", {"micro_batch_size": 1}, "")
    second = (again(2), AttemptFailed("j", 2, "out_of_memory", "x"), smaller)
    state = given(*troubled, planned, *second).state(job.CancelJob)
    assert state.changes == {"gradient_checkpointing": True, "micro_batch_size": 1}


def test_a_planned_attempt_that_waits_starts_once_it_is_due() -> None:
    waits = (SUBMITTED, STARTED, FAILED, RecoveryPlanned("j", 1, "again_later", {}, "", 50))
    given(*waits).when(job.StartAttempt("j", "boot")).then_refused(Conflict, "")
    given(*waits).when(job.MarkDue("j", 1)).then(RecoveryDue("j", 1))
    due = (*waits, RecoveryDue("j", 1))
    given(*due).when(job.MarkDue("j", 1)).then_nothing()
    given(*due).when(job.StartAttempt("j", "boot")).then(AttemptStarted("j", 2, "boot", "out_of_memory"))


def test_what_a_person_asked_before_the_failure_needs_no_recovery() -> None:
    end = job.RecordEnd("j", 1, "failed", {"reason": "crash", "text": "x"})
    failed = AttemptFailed("j", 1, "crash", "x")
    running = (SUBMITTED, STARTED, TRAINING, checkpoint(4))
    given(*running, PauseRequested("j")).when(end).then(failed, JobPaused("j", 4))
    given(*running, CancelRequested("j")).when(end).then(JobCancelled("j"))
    given(*running, StopRequested("j")).when(end).then(failed)
    paused = given(*running, failed, PauseRequested("j"), JobPaused("j", 4)).when(job.GiveUpJob("j", 1, "x", "x"))
    paused.then_nothing()


def test_a_question_is_answered_once() -> None:
    asking = (SUBMITTED, STARTED, TRAINING, checkpoint(4), FAILED)
    given(*asking).when(job.AskPerson("j", 1, "May it?", "lora", ASKED.changes, 100)).then(ASKED)
    asked = (*asking, ASKED)
    assert given(*asked).state(job.CancelJob).state == "needs_attention"
    permitted = RecoveryPlanned("j", 1, "lora", ASKED.changes, "You permitted it, so it goes on.")
    given(*asked).when(job.AnswerJob("j", True)).then(JobAnswered("j", True), permitted)
    given(*asked).when(job.AnswerJob("j", False)).then(JobAnswered("j", False), StopRequested("j"))
    answered = (*asked, JobAnswered("j", True), permitted)
    given(*answered).when(job.AnswerJob("j", True)).then_refused(Conflict, "needs_attention")
    given(*asked).when(job.ResumeJob("j")).then_refused(Conflict, "jobs answer j")
    given(*asked).when(job.CancelJob("j")).then(CancelRequested("j"), JobCancelled("j"))
    assert given(*answered).state(job.CancelJob).changes == ASKED.changes


def test_a_question_nobody_answers_ends_the_job_with_what_it_has() -> None:
    asked = (SUBMITTED, STARTED, TRAINING, checkpoint(4), FAILED, ASKED)
    given(*asked).when(job.ExpireQuestion("j", 99)).then_nothing()
    given(*asked).when(job.ExpireQuestion("j", 100)).then(JobUnanswered("j"), StopRequested("j"))
    ending = (*asked, JobUnanswered("j"), StopRequested("j"), again(2))
    finished = {**FINISHED, "ended_by": "stopped"}
    given(*ending).when(job.RecordEnd("j", 2, "finished", finished)).then(JobCompleted("j", 2, "unanswered", finished))
    empty = (SUBMITTED, STARTED, TRAINING, FAILED, ASKED)
    _, failed = job.decide(job.ExpireQuestion("j", 100), given(*empty).state(job.CancelJob))
    assert isinstance(failed, JobFailed)
    assert failed.reason == "unanswered"


def test_a_trainer_that_was_ended_for_a_finding_fails_with_it() -> None:
    ended = job.RecordIntervention("j", 1, "hung", "It stood still.", 4, evidence={"silent_s": 900})
    failed = AttemptFailed("j", 1, "hung", "It stood still.", 4, (), {"silent_s": 900})
    given(SUBMITTED, STARTED, TRAINING).when(ended).then(failed)
    given(SUBMITTED, STARTED, TRAINING, failed).when(ended).then_nothing()
    left = job.RecordEnd("j", 1, "stopped", {"reason": "leave", "step": 4})
    [unknown] = job.decide(left, given(SUBMITTED, STARTED, TRAINING).state(job.CancelJob))
    assert isinstance(unknown, AttemptFailed)
    assert unknown.reason == "interrupted"
