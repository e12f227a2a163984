"""What may happen to a job, whoever dies in between."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from btmd.domain import job
from btmd.domain.event import Event
from btmd.domain.job_events import (
    AttemptLost,
    AttemptStarted,
    CancelRequested,
    CheckpointSaved,
    JobCancelled,
    JobCompleted,
    JobConsentWithdrawn,
    JobFailed,
    JobPaused,
    JobSubmitted,
    PauseRequested,
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


def gone(attempt: int = 1, boot: str = "boot", resumes: int = 3) -> job.RecordTrainerGone:
    return job.RecordTrainerGone("j", attempt, boot, resumes)


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


def test_a_typed_failure_keeps_the_reason_and_says_how_to_go_on() -> None:
    events = job.decide(
        job.RecordEnd("j", 1, "failed", {"reason": "disk_full", "text": "The disk is full."}),
        given(SUBMITTED, STARTED, TRAINING, checkpoint(8)).state(job.CancelJob),
    )
    [failed] = events
    assert isinstance(failed, JobFailed)
    assert failed.reason == "disk_full"
    assert "jobs resume j" in failed.hint
    assert "step 8" in failed.hint


def test_a_crash_is_taken_up_again_three_times() -> None:
    history: list[Event] = [SUBMITTED]
    for attempt in (1, 2, 3):
        history += [AttemptStarted("j", attempt, "boot", "crash"), AttemptLost("j", attempt, "crash", "x")]
    history.append(AttemptStarted("j", 4, "boot", "crash"))
    *_, last = job.decide(gone(4), given(*history).state(job.CancelJob))
    assert isinstance(last, JobFailed)
    assert last.reason == "crash_limit"
    assert given(*history[:-1]).state(job.CancelJob).state == "recovering"


def test_a_checkpoint_further_on_forgets_earlier_crashes() -> None:
    history = [SUBMITTED, STARTED, AttemptLost("j", 1, "crash", "x"), AttemptStarted("j", 2, "boot", "crash")]
    assert given(*history, checkpoint(4, attempt=2)).state(job.CancelJob).crashes == 0
    stuck = [SUBMITTED, STARTED, checkpoint(4), *history[2:], checkpoint(4, attempt=2)]
    assert given(*stuck).state(job.CancelJob).crashes == 1


def test_a_reboot_is_no_crash() -> None:
    [lost] = job.decide(gone(boot="another"), given(SUBMITTED, STARTED, TRAINING).state(job.CancelJob))
    assert isinstance(lost, AttemptLost)
    assert lost.cause == "reboot"
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
        self.ask(job.RecordTrainerGone("j", self.now.attempt, boot, 2))

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
        assert now.crashes <= 3
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


def test_a_changed_model_fails_with_the_command_that_takes_it_as_it_is() -> None:
    text = "The model in /m is not the one that was added."
    hint = "`btmctl models add` with that folder takes the model as it is now; then train again."
    given(SUBMITTED, STARTED).when(
        job.RecordEnd("j", 1, "failed", {"reason": "model_changed", "text": text, "step": 0})
    ).then(JobFailed("j", 1, "model_changed", text, hint))
