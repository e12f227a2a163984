"""How long a person waits for a plan: the facts of a large model's folder, and from facts to plan and forecast."""

import tempfile
import time
from pathlib import Path

import anyio

from benchmarks.results import Figure, Topic, record
from btmd.errors import BtmdError
from btmd.inspection.requests import ModelRequest
from btmd.planning import make_plan
from btmd.planning.forecast import forecast_plan, trial_seconds
from btmd.registry.inspector import Inspector
from tests.fixtures.seven_billion import make_seven_billion
from tests.planning.simulated import requests_on

MACHINES, ROUNDS = 40, 9


def main() -> None:
    answers_ms = plans_ms()
    record(
        Topic(
            "Planning: how long it takes",
            "python -m benchmarks.plan_answers",
            [
                Figure("facts to plan and forecast by formula", answers_ms, "ms", "<= 100"),
                Figure("the same, the slowest", [max(answers_ms)], "ms", "<= 100"),
                Figure("facts of a folder with seven billion weights", folder_s(), "s", "<= 1"),
            ],
            packages=("transformers", "tokenizers"),
            notes=[
                f"{len(answers_ms)} plans of every preset with models of 135 million to 70 billion weights on "
                f"{MACHINES} simulated machines; refused ones are not counted.",
                "The folder: three files of 14.5 GB together, of which the headers are read; in the process that reads "
                "it for the daemon, its start and its tokenizer included.",
            ],
        )
    )


def plans_ms() -> list[float]:
    found = []
    for number in range(MACHINES):
        for request in requests_on(number):
            begun_s = time.perf_counter()
            try:
                plan = make_plan(request)
            except BtmdError:
                continue
            forecast = forecast_plan(plan, request.model, request.tokens, request.hardware, rates=None, history={})
            trial_seconds(forecast, plan.number("time_limit_s"))
            found.append((time.perf_counter() - begun_s) * 1000)
    return found


def folder_s() -> list[float]:
    with tempfile.TemporaryDirectory(prefix="btmd-") as folder:
        seven = make_seven_billion(Path(folder) / "seven")
        return [anyio.run(_read_s, seven) for _ in range(ROUNDS)]


async def _read_s(folder: Path) -> float:
    begun_s = time.perf_counter()
    facts = await Inspector().model(ModelRequest(folder=str(folder)))
    assert facts.parameters > 7e9
    return time.perf_counter() - begun_s


if __name__ == "__main__":
    main()
