"""A thousand simulated machines: every plan fits, keeps its batch, repeats, and is never worse with more memory."""

import os

import pytest

from benchmarks.results import Figure, Topic, record
from tests.planning.simulated import Count, examine, machine, requests_on

PROOF = bool(os.environ.get("BTMD_PROOF"))
MACHINES = 1000


@pytest.mark.timeout(4 * 3600 if PROOF else 300)
def test_on_a_thousand_machines_every_plan_is_sound_and_more_memory_never_makes_it_worse() -> None:
    count = Count()
    for number in range(MACHINES):
        count.machines += 1
        for request in requests_on(number, *((None, 3) if PROOF else (1, 1))):
            examine(request, count)
    if PROOF:
        record_proof(count)
    assert count.broken == 0, count
    assert count.plans > MACHINES / 4
    assert count.refusals > MACHINES / 10


def test_the_machines_are_as_different_as_they_are_meant_to_be() -> None:
    machines = [machine(number) for number in range(MACHINES)]
    assert {len(one.gpus) for one in machines} >= {0, 1, 2, 3, 4, 8}
    sizes = [gpu.total_bytes / 1024**3 for one in machines for gpu in one.gpus]
    assert (min(sizes), max(sizes)) == (2, 192)
    assert sum(one.memory.limit_bytes is not None for one in machines) > 200
    assert machines == [machine(number) for number in range(MACHINES)]


def record_proof(count: Count) -> None:
    record(
        Topic(
            "Planning: a thousand machines",
            "BTMD_PROOF=1 pytest tests/planning/test_thousand_machines.py",
            [
                Figure("simulated machines", [count.machines], "", ">= 1000", 0),
                Figure("plans", [count.plans], digits=0),
                Figure("refusals, each with its way on", [count.refusals], digits=0),
                Figure("comparisons with more memory", [count.pairs], digits=0),
                Figure("plans that do not fit the memory model", [count.not_fitting], "", "<= 0", 0),
                Figure("plans that lose the effective batch", [count.batch_lost], "", "<= 0", 0),
                Figure("plans that are not repeated exactly", [count.not_repeated], "", "<= 0", 0),
                Figure("changes that nobody had permitted", [count.changed_unasked], "", "<= 0", 0),
                Figure("refusals with more memory", [count.refused_with_more], "", "<= 0", 0),
                Figure("worse types with more memory", [count.worse_type], "", "<= 0", 0),
                Figure("shorter rows with more memory, same type", [count.shorter], "", "<= 0", 0),
                Figure("slower plans with more memory, same type and length", [count.slower], "", "<= 0", 0),
            ],
            notes=[
                "0-8 GPUs of 2-192 GB of mixed generations, full and empty; control groups from 0.7 GB; every preset, "
                "each with three models drawn from eleven of 135 million to 70 billion weights, three data sets, "
                "permissions drawn for each; "
                "memory raised six times by 0.3 to 80 GB everywhere, and by 40 GB on each device alone.",
                "The pace is the formula's; where it is equal, fewer rows at once count as slower.",
            ],
        )
    )
