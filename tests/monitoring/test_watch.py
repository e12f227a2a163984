"""Every failure of a training is found, sound ones are left in peace, and what is told has an end."""

import gzip
from pathlib import Path

import pytest
from msgspec.structs import replace

from btmd.domain.event import Event
from btmd.domain.job_events import AttemptFailed, AttemptLost, AttemptStarted, JobCompleted, TrainingProgressed
from btmd.domain.queue import JobYielded, YieldRequested
from btmd.domain.warning import (
    Finding,
    MachineSampled,
    ReportFindings,
    WarningRaised,
    WarningWithdrawn,
    WatchState,
    decide,
    evolve,
)
from btmd.monitoring.latch import Latch
from btmd.monitoring.loss_warnings import LearningRateHigh
from btmd.monitoring.robust import scale, slope
from btmd.monitoring.texts import TEXTS
from btmd.monitoring.warned import WarnedJob, has_words, remedy, warning_text
from btmd.monitoring.watch import KINDS, Watch
from btmd.monitoring.watched_run import WatchedRun
from tests.fixtures.simulated_training import BEGIN_US, JOB, Simulation, Training
from tests.fixtures.training_histories import (
    BORDERLINE_FOUND,
    BORDERLINE_SOUND,
    COARSE,
    CPU,
    FAILURES,
    RESUMED,
    SHORT,
    SLOW_STEPS,
    SMALL,
    TIGHT,
    Failing,
    watched,
)
from tests.fixtures.training_records import read_history

HERE = Path(__file__).parent
CHOSEN = {one.training.failure + "".join(one.expected): one for one in FAILURES} | {
    one.training.failure + "".join(one.expected): one for one in FAILURES if "(coarse" in one.training.name
}
"""One of each kind, that with the fewest events; all of them are in the proof."""

SOUND = [
    SMALL,
    SHORT,
    replace(RESUMED, resumed_from=7000),
    replace(SLOW_STEPS, steps=150),
    replace(TIGHT, steps=700),
]


@pytest.mark.parametrize("failing", CHOSEN.values(), ids=lambda one: f"{one.training.name}-{one.expected[0]}")
def test_a_failure_is_found_and_told_with_a_command(failing: Failing) -> None:
    found = watched(replace(failing.training, seed=31), until=failing.expected)
    assert found.early == []
    assert found.delay_s(failing.expected) is not None, found.raised
    job = WarnedJob("abcdefghij", "org/model", "facts", "quick_test", {"learning_rate": 3e-4, "micro_batch_size": 4})
    for one in found.findings:
        sentence, advice = warning_text(one.kind, one.evidence), remedy(one.kind, job)
        assert sentence.endswith("."), sentence
        assert "{" not in sentence + advice
        assert "`btmctl " in advice


@pytest.mark.parametrize("training", SOUND, ids=lambda one: one.name)
def test_a_sound_training_is_left_in_peace(training: Training) -> None:
    assert watched(replace(training, seed=32)).raised == []


@pytest.mark.parametrize(
    "training", [replace(one, steps=900) for one in BORDERLINE_SOUND[:3]], ids=lambda one: one.name
)
def test_what_is_no_worse_than_usual_is_no_warning(training: Training) -> None:
    assert watched(replace(training, seed=33)).raised == []


def test_a_weak_failure_is_found_too() -> None:
    (one,) = (one for one in BORDERLINE_FOUND if one.training.failure == "loss_diverging")
    found = watched(replace(one.training, steps=1200, seed=34), until=one.expected)
    assert found.delay_s(one.expected) is not None


# --- real ones ---------------------------------------------------------------------------------------------


def _told(path: Path) -> set[str]:
    watch, kinds = Watch(), set()
    for at_us, happened in read_history(gzip.decompress(path.read_bytes())):
        watch.see(happened, at_us)
        kinds |= {finding.kind for finding in watch.look(at_us)}
    return kinds


@pytest.mark.parametrize("path", sorted(HERE.glob("recorded/*.jsonl.gz")), ids=lambda path: path.stem)
def test_a_real_training_that_was_sound_is_left_in_peace(path: Path) -> None:
    assert _told(path) == set()


def test_a_real_training_that_was_kept_from_computing_is_told_why_it_is_slow() -> None:
    assert _told(HERE / "recorded_troubles/others_took_the_processor.jsonl.gz") == {"cpu_shared", "slow"}


# --- hysteresis --------------------------------------------------------------------------------------------


def _tick(step: int, losses: tuple[float, ...] = (2.0,), elapsed_s: float = 0.0) -> TrainingProgressed:
    return TrainingProgressed(
        JOB, 1, 1000 + step, step, 1000, 0, losses[-1], 1e-4, 100.0, elapsed_s or step * 1.0, 10**9, (step,), losses
    )  # fmt: skip


def _begun() -> tuple[Watch, float]:
    """A watch of a training that was sound so far, and the time in seconds."""
    watch, events = Watch(), list(Simulation(replace(CPU, steps=200)).events())
    last = max(number for number, (_, one) in enumerate(events) if isinstance(one, TrainingProgressed))
    for at_us, happened in events[: last + 1]:
        watch.see(happened, at_us)
    return watch, events[last][0] / 1e6


def _kinds(watch: Watch, now_s: float) -> tuple[str, ...]:
    return tuple(one.kind for one in watch.look(int(now_s * 1e6)))


def test_a_stall_is_over_with_the_next_report() -> None:
    watch, now_s = _begun()
    assert _kinds(watch, now_s + 100) == ()
    assert _kinds(watch, now_s + 400) == ("stalled",)
    watch.see(_tick(201, elapsed_s=1e6), int((now_s + 410) * 1e6))
    assert _kinds(watch, now_s + 411) == ()


def _sample(at_s: float, **values: object) -> MachineSampled:
    usual = {
        "state": "R",
        "cpu_s": 3.7 * (at_s - BEGIN_US / 1e6),
        "rss_bytes": 2 * 10**9,
        "available_bytes": 12 * 10**9,
        "total_bytes": 16 * 2**30,
        "disk_free_bytes": 80 * 2**30,
        "cores": 4,
    }
    return MachineSampled(JOB, 1, 30.0, **(usual | values))  # type: ignore[arg-type]


def _sampled(watch: Watch, now_s: float, count: int, **values: object) -> float:
    """So many samples, with a step between each two."""
    step = watch.run.step
    for number in range(count):
        now_s += 30
        watch.see(_tick(step + number + 1, elapsed_s=1e6 + now_s), int(now_s * 1e6))
        watch.see(_sample(now_s, **values), int(now_s * 1e6))
    return now_s


def test_memory_is_told_near_its_limit_once_and_withdrawn_well_below_it() -> None:
    watch, now_s = _begun()
    limit = 10 * 10**9
    now_s = _sampled(watch, now_s, 1, group_bytes=int(0.95 * limit), group_limit_bytes=limit)
    assert _kinds(watch, now_s) == ()
    now_s = _sampled(watch, now_s, 1, group_bytes=int(0.95 * limit), group_limit_bytes=limit)
    assert _kinds(watch, now_s) == ("memory_group",)
    # Between both ends it neither comes nor goes.
    now_s = _sampled(watch, now_s, 10, group_bytes=int(0.9 * limit), group_limit_bytes=limit)
    assert "memory_group" in _kinds(watch, now_s)
    now_s = _sampled(watch, now_s, 3, group_bytes=int(0.8 * limit), group_limit_bytes=limit)
    assert "memory_group" not in _kinds(watch, now_s)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"available_bytes": 3 * 10**8}, "memory_machine"),
        ({"process_bytes": 96 * 10**8, "process_limit_bytes": 10**10}, "memory_process"),
        ({"disk_free_bytes": 5 * 10**8}, "disk_filling"),
    ],
)
def test_no_warning_needs_a_gpu(values: dict[str, object], kind: str) -> None:
    watch, now_s = _begun()
    assert _kinds(watch, _sampled(watch, now_s, 3, **values)) == (kind,)


def test_a_suspend_is_no_stall() -> None:
    watch, now_s = _begun()
    woke_s = now_s + 8 * 3600
    watch.see(_sample(woke_s, suspended_s=8 * 3600.0 - 30), int(woke_s * 1e6))
    assert _kinds(watch, woke_s + 1) == ("suspended",)
    assert not {"stalled", "hung", "suspended"} & set(_kinds(watch, _sampled(watch, woke_s, 25)))


@pytest.mark.parametrize("jump_s", [7200.0, -7200.0])
def test_a_clock_that_jumps_makes_no_stall_and_hides_none(jump_s: float) -> None:
    watch, now_s = _begun()
    after_s = now_s + 30 + jump_s
    watch.see(_sample(after_s, clock_jump_s=jump_s), int(after_s * 1e6))
    assert _kinds(watch, after_s + 1) == ("clock_jumped",)
    assert "stalled" in _kinds(watch, after_s + 400)


def test_a_new_attempt_begins_without_what_the_one_before_was_warned_of() -> None:
    watch, now_s = _begun()
    now_s = _sampled(watch, now_s, 3, available_bytes=10**8)
    assert _kinds(watch, now_s) == ("memory_machine",)
    watch.see(AttemptLost(JOB, 1, "crash", ""), int(now_s * 1e6))
    assert _kinds(watch, now_s) == ()
    watch.see(AttemptStarted(JOB, 2, "boot", "crash"), int(now_s * 1e6))
    assert _kinds(watch, now_s + 1) == ()


def test_a_training_that_gave_way_is_not_called_hung() -> None:
    watch, now_s = _begun()
    watch.see(YieldRequested(JOB, "quiet_hours"), int(now_s * 1e6))
    watch.see(JobYielded(JOB, 200), int(now_s * 1e6))
    assert _kinds(watch, now_s + 1e6) == ()


def test_nothing_is_told_of_an_ended_job() -> None:
    watch, now_s = _begun()
    watch.see(JobCompleted(JOB, 1, "finished", {}), int(now_s * 1e6))
    assert _kinds(watch, now_s + 1e6) == ()


def test_a_restarted_watch_says_the_same() -> None:
    simulation = Simulation(replace(COARSE, failure="loss_diverging", steps=300))
    events = list(simulation.events())[:-1]
    first, again = Watch(), Watch()
    for at_us, happened in events:
        first.see(happened, at_us)
        first.look(at_us)
    for at_us, happened in events:
        again.see(happened, at_us)
    assert first.look(events[-1][0]) == again.look(events[-1][0]) != ()


def test_what_stops_a_training_says_so() -> None:
    watch, now_s = _begun()
    watch.see(_tick(201, (float("nan"),), elapsed_s=1e6), int(now_s * 1e6) + 1)
    (found,) = watch.look(int(now_s * 1e6) + 2)
    assert (found.kind, found.severity, found.stops, found.evidence["step"]) == ("not_a_number", "critical", True, 201)


def test_an_attempt_after_one_that_ran_into_no_number_is_not_stopped_for_it() -> None:
    watch, now_s = _begun()
    failed = AttemptFailed(JOB, 1, "not_a_number", "", 205, (), {})
    watch.see(failed, int(now_s * 1e6))
    (found,) = watch.look(int(now_s * 1e6))
    assert (found.kind, found.stops, found.evidence["step"]) == ("not_a_number", False, 205)
    watch.see(AttemptStarted(JOB, 2, "boot", "not_a_number"), int(now_s * 1e6))
    assert [(one.kind, one.stops) for one in watch.look(int(now_s * 1e6))] == [("not_a_number", False)]
    watch.see(_tick(215, elapsed_s=1e6), int(now_s * 1e6))
    assert _kinds(watch, now_s + 1) == ()


def test_a_trainer_that_others_do_not_let_compute_is_not_called_hung() -> None:
    watch, now_s = _begun()
    for number in range(1, 20):
        watch.see(_sample(now_s + 30 * number, cpu_s=100.0, state="R"), int((now_s + 30 * number) * 1e6))
    assert _kinds(watch, now_s + 571) == ("stalled",)
    for number in range(20, 25):
        watch.see(_sample(now_s + 30 * number, cpu_s=100.0, state="S"), int((now_s + 30 * number) * 1e6))
    assert _kinds(watch, now_s + 721) == ("hung",)


# --- events ------------------------------------------------------------------------------------------------


def _decided(state: WatchState | None, *findings: Finding) -> tuple[list[Event], WatchState]:
    events = decide(ReportFindings(JOB, 2, findings, {"slow": {"step_s": 1.0}}), state)
    found = state or WatchState()
    for happened in events:
        found = evolve(found, happened)
    return events, found


def test_a_warning_is_recorded_when_it_comes_and_when_it_goes() -> None:
    slow, hung = Finding("slow", "warning", {"step_s": 3.0}), Finding("hung", "critical", {}, stops=True)
    events, state = _decided(None, slow)
    assert events == [WarningRaised(JOB, 2, "slow", "warning", {"step_s": 3.0})]
    events, state = _decided(state, replace(slow, evidence={"step_s": 4.0}), hung)
    assert events == [WarningRaised(JOB, 2, "hung", "critical", {})]
    events, state = _decided(state, hung)
    assert events == [WarningWithdrawn(JOB, 2, "slow", {"step_s": 1.0})]
    assert state.open == ("hung",)


# --- words -------------------------------------------------------------------------------------------------

SOUND = [
    SMALL,
    SHORT,
    replace(RESUMED, resumed_from=7000),
    replace(SLOW_STEPS, steps=150),
    replace(TIGHT, steps=700),
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_words_and_names_what_it_is_about(kind: str) -> None:
    assert has_words(kind)
    assert any(key.startswith(f"warn_{kind}") for key in TEXTS) or kind == "clock_jumped"
    advice = remedy(kind, WarnedJob("abcdefghij", "org/model", "facts", "quick_test", {"learning_rate": 3e-4}))
    assert "btmctl" in advice


def test_figures_of_another_release_are_no_error() -> None:
    assert "over fitting" in warning_text("over_fitting", {"something": 1})
    assert "not a number" in warning_text("not_a_number", {"of": "a sound"})


def test_a_recommendation_is_a_command_that_can_be_typed() -> None:
    job = WarnedJob("j", "org/a b", "facts", "quick_test", {"learning_rate": 3e-4}, {"num_epochs": 2})
    assert remedy("learning_rate_high", job) == (
        "Try a lower learning rate: `btmctl train 'org/a b' facts --preset quick_test --set num_epochs=2 "
        "--set learning_rate=0.0001`"
    )


# --- statistics --------------------------------------------------------------------------------------------


def test_wild_values_move_neither_spread_nor_slope() -> None:
    values = [float(number % 5) for number in range(100)]
    assert scale([*values, 1e9, -1e9]) == pytest.approx(scale(values), rel=0.1)
    line = [(float(x), 3.0 * x) for x in range(40)]
    assert slope([*line, (20.5, 1e9), (21.5, -1e9)]) == pytest.approx(3.0, rel=0.05)


def test_a_latch_waits_both_ways() -> None:
    latch = Latch(to_raise=2, to_clear=3)
    told = [latch.tell(holds) for holds in (True, False, True, True, False, False, True, False, False, False)]
    assert told == [False, False, False, True, True, True, True, True, True, False]


def test_a_jump_that_passes_by_itself_is_neither_a_divergence_nor_a_rate_too_high() -> None:
    jump = replace(CPU, name="loss_spiking (cpu)", failure="loss_spiking", seed=4204744)
    assert [kind for _, kind in watched(jump).raised] == ["loss_spiking"]


def test_a_rate_too_high_is_told_in_a_short_training_as_well() -> None:
    high = replace(COARSE, name="learning_rate_high (coarse)", failure="learning_rate_high", seed=15975292)
    assert watched(high).delay_s(("learning_rate_high",)) is not None


@pytest.mark.parametrize(
    ("blocks", "told"),
    [
        # A jump in one of three, the others below four fifths of the height (0.08 above the best) or beyond it.
        ((1.06, 3.0, 1.06, 1.06), False),
        ((1.068, 3.0, 1.068, 1.068), True),
        # One that is low again takes nothing back.
        ((1.2, 1.2, 1.0, 1.2), True),
    ],
)
def test_a_rate_too_high_lifts_more_than_one_block_of_losses(blocks: tuple[float, ...], told: bool) -> None:
    run, detector = WatchedRun(), LearningRateHigh()
    run.losses.begin(500, 0)
    size = run.losses.block_steps
    for number, level in enumerate((*[1.0] * 12, *blocks), 1):
        for step in range((number - 1) * size + 1, number * size + 1):
            run.losses.add(step, level)
        detector.take(run, _tick(number * size, (level,)))
    assert (detector.judge(run) is not None) is told
