"""The line of waiting jobs: who may be moved where, and an order that follows from the log alone."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from hypothesis import given as generated
from hypothesis import strategies as st
from msgspec.structs import replace

from btmd.domain import queue
from btmd.domain.event import Event
from btmd.domain.job import RecordEnd, StartAttempt
from btmd.domain.job_events import (
    AttemptStarted,
    JobCompleted,
    JobPaused,
    JobSubmitted,
    PauseRequested,
    TrainingStageEntered,
)
from btmd.domain.queue import (
    HoldJob,
    JobHeld,
    JobMoved,
    JobPrioritySet,
    JobReleased,
    JobYielded,
    MoveJob,
    Place,
    ReleaseJob,
    SetPriority,
    YieldJob,
    YieldRequested,
    move_before,
    move_first,
    move_last,
    order,
    rank_between,
    rank_of,
)
from btmd.errors import Conflict, JobEnded, JobNotFound
from btmd.projections.queue import QUEUE_VIEW
from btmd.store.recorded import Recorded
from tests.domain.given import given

SUBMITTED = JobSubmitted("j", "", 0, "m", "d", "v", "quick_test", {}, {}, {}, priority=2)
STARTED = AttemptStarted("j", 1, "boot", "first", "cpu")
TRAINING = TrainingStageEntered("j", 1, 1, "training")
COMPLETED = JobCompleted("j", 1, "finished", {})


# --- what may be asked ---


def test_a_priority_is_set_once() -> None:
    given(SUBMITTED).when(SetPriority("j", 5)).then(JobPrioritySet("j", 2, 5))
    given(SUBMITTED).when(SetPriority("j", 2)).then_nothing()
    given(SUBMITTED, JobPrioritySet("j", 2, 5)).when(SetPriority("j", 5)).then_nothing()
    given(SUBMITTED, JobMoved("j", "k", 7, "01")).when(SetPriority("j", 2)).then(JobPrioritySet("j", 7, 2))
    given(SUBMITTED, STARTED, TRAINING).when(SetPriority("j", 0)).then(JobPrioritySet("j", 2, 0))
    given(SUBMITTED, STARTED, COMPLETED).when(SetPriority("j", 5)).then_refused(JobEnded, "queue list")
    given().when(SetPriority("j", 5)).then_refused(JobNotFound)


def test_only_a_waiting_job_is_held_and_it_starts_once_it_is_released() -> None:
    given(SUBMITTED).when(HoldJob("j")).then(JobHeld("j"))
    given(SUBMITTED, JobHeld("j")).when(HoldJob("j")).then_nothing()
    given(SUBMITTED, JobHeld("j")).when(StartAttempt("j", "boot")).then_refused(Conflict, "queue release j")
    given(SUBMITTED, JobHeld("j")).when(ReleaseJob("j")).then(JobReleased("j"))
    given(SUBMITTED, JobHeld("j"), JobReleased("j")).when(StartAttempt("j", "boot", "cpu")).then(STARTED)
    given(SUBMITTED).when(ReleaseJob("j")).then_nothing()
    given(SUBMITTED, STARTED, TRAINING).when(HoldJob("j")).then_refused(Conflict, "jobs pause j")
    given(SUBMITTED, PauseRequested("j"), JobPaused("j", 0)).when(HoldJob("j")).then_refused(Conflict, "paused")


def test_a_held_job_that_is_paused_and_resumed_is_still_held() -> None:
    paused = given(SUBMITTED, JobHeld("j"), PauseRequested("j"), JobPaused("j", 0))
    assert paused.state(HoldJob).held


def test_a_running_job_gives_its_device_up_for_a_while_and_goes_on_by_itself() -> None:
    stopped = RecordEnd("j", 1, "stopped", {"reason": "pause", "step": 7})
    given(SUBMITTED, STARTED, TRAINING).when(YieldJob("j", "battery")).then(YieldRequested("j", "battery"))
    asked = (SUBMITTED, STARTED, TRAINING, YieldRequested("j", "battery"))
    given(*asked).when(YieldJob("j", "battery")).then_nothing()
    given(*asked).when(stopped).then(JobYielded("j", 7))
    waits = given(*asked, JobYielded("j", 7)).state(YieldJob)
    assert (waits.state, waits.next_why, waits.asked) == ("queued", "resumed", "")
    given(SUBMITTED).when(YieldJob("j", "battery")).then_nothing()


def test_a_pause_that_a_person_asks_for_meanwhile_counts() -> None:
    stopped = RecordEnd("j", 1, "stopped", {"reason": "pause", "step": 7})
    asked = (SUBMITTED, STARTED, TRAINING, YieldRequested("j", "quiet_hours"), PauseRequested("j"))
    given(*asked).when(stopped).then(JobPaused("j", 7))


# --- the order ---


def place(job_id: str, seq: int, priority: int = 0, state: str = "queued", **values: Any) -> Place:
    return Place(job_id, state, priority, rank_of(seq), seq, **values)


def names(places: Sequence[Place]) -> str:
    return "".join(one.job_id for one in order(places))


def moved(places: Sequence[Place], move: MoveJob) -> list[Place]:
    return [
        replace(one, rank=move.rank, priority=move.priority) if one.job_id == move.job_id else one for one in places
    ]


LINE = (place("a", 3), place("b", 10), place("c", 17, 5), place("d", 24))


def test_priority_comes_before_submission_and_interrupted_jobs_before_both() -> None:
    assert names(LINE) == "cabd"
    assert names([*LINE, place("e", 99, -3, "recovering", interrupted=True)]) == "ecabd"


def test_a_moved_job_stands_right_before_the_other_and_takes_its_priority() -> None:
    assert names(moved(LINE, move_before(LINE, "d", "a"))) == "cdab"
    to_front = move_before(LINE, "b", "c")
    assert to_front.priority == 5
    assert names(moved(LINE, to_front)) == "bcad"
    back = moved(LINE, move_before(LINE, "c", "d"))
    assert names(back) == "abcd"
    assert names(moved(LINE, move_last(LINE, "a") or move_before(LINE, "a", "a"))) == "cbda"
    assert names(moved(LINE, move_first(LINE, "d") or move_before(LINE, "d", "d"))) == "dcab"
    assert (move_first(LINE, "c"), move_last(LINE, "d")) == (None, None)


def test_nobody_is_put_before_itself_or_before_a_job_that_does_not_wait() -> None:
    line = (*LINE, place("r", 30, state="training"), place("i", 31, state="recovering", interrupted=True))
    for job, other in (("a", "a"), ("a", "r"), ("a", "i"), ("i", "a")):
        try:
            move_before(line, job, other)
        except Conflict as refused:
            assert refused.detail  # noqa: PT017 - each of them is refused
            continue
        raise AssertionError((job, other))
    try:
        move_before(line, "a", "gone")
    except JobEnded as refused:
        assert "queue list" in refused.hint  # noqa: PT017


@generated(st.lists(st.integers(0, 30), min_size=1, max_size=60))
def test_there_is_always_a_rank_between_two(moves: list[int]) -> None:
    ranks = [rank_of(seq) for seq in (1, 2, 9, 10, 400, 10**9)]
    for move in moves:
        at = move % len(ranks)
        low = ranks[at - 1] if at else ""
        made = rank_between(low, ranks[at])
        assert low < made < ranks[at]
        ranks.insert(at, made)


Change = tuple[str, int, int]
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["submit", "priority", "before", "first", "last", "hold", "end"]),
        st.integers(0, 9),
        st.integers(0, 9),
    ),
    max_size=40,
)


class Log:
    """A log of the queue's events, with the view on it kept up to date."""

    def __init__(self) -> None:
        self.events: list[Recorded] = []
        self.states: dict[str, str] = {}
        self.view = _view()

    def append(self, happened: Event) -> None:
        recorded = _recorded(len(self.events) + 1, happened)
        self.events.append(recorded)
        QUEUE_VIEW.apply(self.view, recorded)

    def places(self, view: sqlite3.Connection | None = None) -> list[Place]:
        rows = (view or self.view).execute("SELECT job_id, priority, rank, seq, held FROM view_queue").fetchall()
        return order(
            Place(job_id, self.states[job_id], priority, rank, seq, bool(held))
            for job_id, priority, rank, seq, held in rows
            if self.states[job_id] != "completed"
        )


def _view() -> sqlite3.Connection:
    made = sqlite3.connect(":memory:")
    QUEUE_VIEW.create(made)
    return made


def _recorded(seq: int, happened: Event) -> Recorded:
    values = dict.fromkeys(Recorded.__struct_fields__)
    values |= {"seq": seq, "type": happened.TYPE, "decoded": happened, "recorded_at_us": seq}
    return Recorded(**values)  # type: ignore[arg-type]


@generated(CHANGES)
def test_the_order_is_a_function_of_the_log_and_each_change_moves_one_job_only(changes: list[Change]) -> None:
    log = Log()
    for what, which, other in changes:
        before = log.places()
        ids = [one.job_id for one in before]
        if what == "submit":
            made = f"j{len(log.states)}"
            log.states[made] = "queued"
            log.append(JobSubmitted(made, "", 0, "m", "d", "v", "p", {}, {}, {}, priority=which % 3))
            assert [one.job_id for one in log.places() if one.job_id != made] == ids
            same = [one for one in log.places() if one.priority == which % 3]
            assert same[-1].job_id == made or same[-1].rank > rank_of(len(log.events))
            continue
        if not ids:
            continue
        job_id, target = ids[which % len(ids)], ids[other % len(ids)]
        rest = [one for one in ids if one != job_id]
        _apply(log, what, before, job_id, target, other)
        after = [one.job_id for one in log.places()]
        assert [one for one in after if one != job_id] == rest
        if what == "before" and job_id != target:
            assert after.index(job_id) + 1 == after.index(target)
        if what in ("first", "last"):
            assert after[0 if what == "first" else -1] == job_id
        if what == "hold":
            assert after == ids
    again = _view()
    QUEUE_VIEW.apply_all(again, log.events)
    assert log.places(again) == log.places()


def _apply(log: Log, what: str, before: list[Place], job_id: str, target: str, number: int) -> None:
    move: MoveJob | None = None
    match what:
        case "priority":
            log.append(JobPrioritySet(job_id, 0, number % 3))
        case "hold":
            log.append(JobHeld(job_id))
        case "end":
            log.states[job_id] = "completed"
        case "before" if job_id != target:
            move = move_before(before, job_id, target)
        case "first":
            move = move_first(before, job_id)
        case "last":
            move = move_last(before, job_id)
    if move is not None:
        log.append(JobMoved(job_id, move.next_job, move.priority, move.rank))


def test_what_a_queue_command_is_is_known_to_the_handler() -> None:
    assert set(queue.QUEUE_EVENTS) == {
        JobPrioritySet,
        JobMoved,
        JobHeld,
        JobReleased,
        YieldRequested,
        JobYielded,
    }
