"""Whose turn it is, on which device, and what the others wait for."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from btmd.domain.hardware import Gpu, GpuProcess
from btmd.domain.units import GIB
from btmd.jobs.turns import Candidate, Limits, Running, Sight, Start, Turns, Wait, decide_turns, to_yield

CALM = Sight(now_us=10**15, weekday=0, minute=9 * 60, memory_free_bytes=64 * GIB, disk_free_bytes=100 * GIB)
NO_LIMITS = Limits()


def gpu(index: int = 0, free_gb: float = 24, name: str = "A5000", processes: tuple[GpuProcess, ...] = ()) -> Gpu:
    total = 24 * GIB
    return Gpu(index, name, total, int(free_gb * GIB), total - int(free_gb * GIB), (8, 6), processes=processes)


def job(job_id: str, device: str = "cpu", **values: object) -> Candidate:
    return Candidate(job_id, device, **values)  # type: ignore[arg-type]


def kinds(turns: Turns) -> dict[str, str]:
    return {job_id: wait.kind for job_id, wait in turns.waits.items()}


def decided(
    *line: Candidate, running: tuple[Running, ...] = (), sight: Sight = CALM, limits: Limits = NO_LIMITS, **more: object
) -> Turns:
    return decide_turns(line, running, sight, limits, **more)  # type: ignore[arg-type]


def test_the_first_in_line_starts_and_the_others_are_told_who_comes_first() -> None:
    assert decided(job("a"), job("b")).start == Start("a", "cpu")
    turns = decided(job("b"), job("c"), job("d"), running=(Running("a", "cpu"),))
    assert turns.start is None
    assert kinds(turns) == {"b": "training", "c": "turn", "d": "turn"}
    assert turns.waits["b"].text == "Waits for the training a to end; it has the CPU."
    assert "the training b comes first" in turns.waits["c"].text
    assert "2 other trainings" in turns.waits["d"].text


def test_jobs_on_different_devices_run_side_by_side() -> None:
    sight = replace(CALM, gpus=(gpu(0), gpu(1)))
    first = job("a", "cuda:0")
    assert decided(first, sight=sight).start == Start("a", "cuda:0")
    on_gpu = Running("a", "cuda:0")
    # Another GPU of the same kind will do; the planned one is taken.
    assert decided(job("b", "cuda:0"), running=(on_gpu,), sight=sight).start == Start("b", "cuda:1")
    assert decided(job("c"), running=(on_gpu, Running("b", "cuda:1")), sight=sight).start == Start("c", "cpu")


def test_a_job_moves_to_no_gpu_of_another_kind_nor_off_the_one_that_was_named() -> None:
    busy = (Running("a", "cuda:0"),)
    mixed = replace(CALM, gpus=(gpu(0), gpu(1, name="T4")))
    assert kinds(decided(job("b", "cuda:0"), running=busy, sight=mixed)) == {"b": "training"}
    equal = replace(CALM, gpus=(gpu(0), gpu(1)))
    assert kinds(decided(job("b", "cuda:0", pinned=True), running=busy, sight=equal)) == {"b": "training"}


def test_a_cpu_job_starts_beside_a_gpu_job_only_if_both_fit_to_be_safe() -> None:
    sight = replace(CALM, memory_free_bytes=20 * GIB, gpus=(gpu(),))
    beside = (Running("a", "cuda:0", memory_growth_bytes=6 * GIB),)
    small = job("b", memory_bytes=8 * GIB, memory_beside_bytes=10 * GIB)
    large = job("c", memory_bytes=10 * GIB, memory_beside_bytes=15 * GIB)
    assert decided(small, running=beside, sight=sight).start == Start("b", "cpu")
    waits = decided(large, running=beside, sight=sight).waits
    assert waits["c"].kind == "memory"
    assert "needs up to 15 GB" in waits["c"].text
    # With the machine to itself the middle of the forecast decides, as when it was planned.
    assert decided(large, sight=sight).start == Start("c", "cpu")


def test_nobody_overtakes_a_job_that_waits_for_memory_until_it_has_been_patient() -> None:
    sight = replace(CALM, memory_free_bytes=8 * GIB)
    large, small = job("a", memory_bytes=12 * GIB, memory_beside_bytes=14 * GIB), job("b", memory_bytes=GIB)
    turns = decided(large, small, sight=sight)
    assert kinds(turns) == {"a": "memory", "b": "turn"}
    assert turns.waits["a"].text == "Waits for memory: it needs about 12 GB, and 8.0 GB are free."
    assert decided(large, small, sight=sight, patient={"a"}).start == Start("b", "cpu")


def test_a_gpu_that_another_program_fills_is_waited_for_and_the_program_is_named() -> None:
    game = GpuProcess(4711, 20 * GIB, name="blender")
    sight = replace(CALM, gpus=(gpu(free_gb=4, processes=(game,)),))
    waiting = job("a", "cuda:0", gpu_memory_bytes=8 * GIB)
    wait = decided(waiting, job("b"), sight=sight)
    assert wait.start == Start("b", "cpu"), "the CPU is another device"
    assert wait.waits["a"].kind == "gpu_program"
    assert "blender (process 4711) uses 20 GB" in wait.waits["a"].text
    assert "another program to leave GPU 0" in wait.waits["a"].text
    room = replace(CALM, gpus=(gpu(free_gb=12, processes=(game,)),))
    assert decided(waiting, sight=room).start == Start("a", "cuda:0")


def test_the_other_gpu_is_taken_where_the_planned_one_is_full_or_trained_on_by_another_btmd() -> None:
    waiting = job("a", "cuda:0", gpu_memory_bytes=8 * GIB)
    full = replace(CALM, gpus=(gpu(0, free_gb=2), gpu(1)))
    assert decided(waiting, sight=full).start == Start("a", "cuda:1")
    elsewhere = {"cuda:0": Wait("other_btmd", "another btmd trains on GPU 0")}
    both = replace(CALM, gpus=(gpu(0), gpu(1)))
    assert decided(waiting, sight=both, unclaimable=elsewhere).start == Start("a", "cuda:1")
    assert kinds(decided(waiting, sight=replace(CALM, gpus=(gpu(0),)), unclaimable=elsewhere)) == {"a": "other_btmd"}


def test_a_lost_gpu_is_waited_for_and_keeps_the_cpu_from_nobody() -> None:
    turns = decided(job("a", "cuda:0"), job("b"))
    assert (turns.start, kinds(turns)) == (Start("b", "cpu"), {"a": "gpu_missing"})


def test_room_on_the_disk_counts_the_reserve_and_what_others_will_take() -> None:
    sight = replace(CALM, disk_free_bytes=10 * GIB, gpus=(gpu(),))
    limits = Limits(reserve_bytes=4 * GIB)
    waiting = job("a", disk_bytes=5 * GIB)
    assert decided(waiting, sight=sight, limits=limits).start == Start("a", "cpu")
    writing = (Running("b", "cuda:0", disk_growth_bytes=2 * GIB),)
    wait = decided(waiting, running=writing, sight=sight, limits=limits).waits["a"]
    assert wait.kind == "disk"
    assert "room on the disk" in wait.text
    assert kinds(decided(job("c"), sight=replace(sight, disk_free_bytes=GIB), limits=limits)) == {"c": "disk"}


def test_quiet_hours_and_battery_let_nobody_start_and_say_until_when() -> None:
    quiet = replace(CALM, minute=23 * 60, quiet_minutes=8 * 60)
    assert "tomorrow at 7:00" in decided(job("a"), sight=quiet).waits["a"].text
    long = replace(CALM, minute=23 * 60, quiet_minutes=56 * 60)
    assert "on Thursday at 7:00" in decided(job("a"), sight=long).waits["a"].text
    endless = replace(quiet, quiet_minutes=7 * 24 * 60)
    assert "they have none" in decided(job("a"), sight=endless).waits["a"].text
    battery = replace(CALM, on_battery=True)
    assert decided(job("a"), sight=battery).start == Start("a", "cpu")
    assert kinds(decided(job("a"), sight=battery, limits=Limits(only_on_mains=True))) == {"a": "mains"}


def test_what_holds_one_job_back_holds_back_no_other() -> None:
    turns = decided(
        job("a", held=True),
        job("b", missing_dataset="facts"),
        job("c"),
    )
    assert turns.start == Start("c", "cpu")
    assert kinds(turns) == {"a": "held", "b": "data"}
    assert "queue release a" in turns.waits["a"].text
    assert "dataset facts" in turns.waits["b"].text


def test_a_job_that_failed_keeps_its_device_for_the_next_attempt_unless_that_takes_long() -> None:
    failed = job("a", postponed=True, not_before_us=CALM.now_us + 90_000_000)
    turns = decided(failed, job("b"))
    assert (turns.start, kinds(turns)) == (None, {"a": "later", "b": "turn"})
    assert turns.waits["a"].text == "Tries again at 9:02."
    assert decided(failed, job("b"), patient={"a"}).start == Start("b", "cpu")
    assert kinds(decided(job("a", postponed=True))) == {"a": "later"}


def test_running_jobs_give_way_only_where_the_settings_say_so() -> None:
    running = (Running("a", "cpu"), Running("b", "cuda:0"))
    quiet = replace(CALM, quiet_minutes=60)
    assert to_yield(running, quiet, in_quiet_hours=False, on_battery=True) == {}
    assert to_yield(running, quiet, in_quiet_hours=True, on_battery=False) == {"a": "quiet_hours", "b": "quiet_hours"}
    battery = replace(CALM, on_battery=True)
    assert to_yield(running, battery, in_quiet_hours=True, on_battery=False) == {}
    assert to_yield(running, battery, in_quiet_hours=True, on_battery=True) == {"a": "battery", "b": "battery"}


SIZES = st.integers(0, 30).map(lambda size: size * GIB)
JOBS = st.lists(
    st.builds(
        Candidate,
        job_id=st.just(""),
        device=st.sampled_from(["cpu", "cuda:0", "cuda:1"]),
        pinned=st.booleans(),
        held=st.booleans(),
        memory_bytes=SIZES,
        memory_beside_bytes=SIZES,
        gpu_memory_bytes=SIZES,
        disk_bytes=SIZES,
    ),
    max_size=8,
)


@given(JOBS, st.integers(0, 2), SIZES, SIZES)
def test_every_device_has_one_job_at_most_in_order_and_everybody_else_is_told_why(
    jobs: list[Candidate], gpus: int, memory: int, disk: int
) -> None:
    line = [replace(one, job_id=f"j{place}") for place, one in enumerate(jobs)]
    sight = replace(
        CALM, memory_free_bytes=memory, disk_free_bytes=disk, gpus=tuple(gpu(index) for index in range(gpus))
    )
    running: list[Running] = []
    started: list[str] = []
    while (turns := decide_turns(line, running, sight, NO_LIMITS)).start is not None:
        start = turns.start
        assert start.device not in {one.device for one in running}
        running.append(Running(start.job_id, start.device))
        started.append(start.job_id)
        line = [one for one in line if one.job_id != start.job_id]
    assert set(turns.waits) == {one.job_id for one in line}
    assert all(wait.text.endswith(".") for wait in turns.waits.values())
    # Of those that may run on one device only, and could start at all, nobody was overtaken.
    for device in ("cpu", *(f"cuda:{index}" for index in range(gpus))):
        chosen = [one for one in started if _only(jobs, one) == device]
        passed = [one.job_id for one in line if _only(jobs, one.job_id) == device and not one.held]
        assert all(int(first[1:]) < int(other[1:]) for first in chosen for other in passed)


def _only(jobs: list[Candidate], job_id: str) -> str:
    one = jobs[int(job_id[1:])]
    return one.device if one.pinned or one.device == "cpu" else ""
