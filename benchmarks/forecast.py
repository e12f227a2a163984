"""Forecast against outcome on real trainings: memory and time, by formula and after real steps.

Every configuration of forecast_cases.py is trained twice by a real daemon. The trainer's peak is the kernel's own
figure for resident memory; what it has before the model is loaded is taken off, and with it what it shares with others
(the difference is that of its proportional set size). The daemon keeps its log from run to run, so that its ranges are
calibrated on the runs before. Each run is kept in benchmarks/kept/forecast for as long as the code that forecasts and
trains stands: interrupted, the program goes on where it was, on another machine as well. Both runs of a configuration
are made one behind the other, so that they are of one machine.

What is forecast is a machine that does nothing else. A run beside which other programs, or the host of a virtual
machine, took more than a quarter of the processors is measured again, whatever came out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from benchmarks.forecast_cases import LENGTHS, MODELS, SHARE_WITHOUT_BF16, Case, cases, write_model, write_rows
from benchmarks.results import Figure, Topic, commit, hardware, record, stands
from btmd.config import Config
from btmd.frames import StageEntered, read_frames
from btmd.job_folder import JobFolder
from tests.fixtures.daemon import Client, DaemonProcess

PROOF = Path(__file__).parents[1] / ".proof" / "forecast"
KEPT = Path(__file__).parent / "kept" / "forecast"
COVERED = ("btmd/planning", "btmd/trainer", "btmd/hardware", "btmd/domain/forecast.py", "btmd/jobs/observations.py")
RUNS = (1, 2)
SAMPLE_S, STARTING_S, STARTED_SAMPLE_S = 0.1, 6.0, 1.0
"""Often while it imports, rarely while it trains: looking takes time from what is timed."""
ENDED = ("completed", "failed", "cancelled")
MOST_OF_OTHERS, TRIES = 0.25, 4
"""Of the processors' time, what others may take; and how often a run is measured until they do not."""


class Outcome(msgspec.Struct):
    """One run of one configuration. Bytes above the idle imported process, and seconds."""

    case: str
    run: int
    peak_bytes: int
    idle_bytes: int
    total_s: float
    forecasts: dict[str, Any]
    """By ``formula`` and ``trial``; the last may be missing."""
    trial: dict[str, Any] | None
    accelerate_bytes: int
    of_others: float = 0.0
    """The share of the processors' time that went to others."""
    disturbed: int = 0
    """How often it was measured before, beside others."""
    commit: str = ""
    machine: str = ""

    def memory_error(self, basis: str) -> float | None:
        """By how much the forecast was too high (or, negative, too low), as a share of the outcome."""
        said = self.forecasts.get(basis)
        if said is None:
            return None
        return float((said["memory_bytes"]["middle"] - said["process_bytes"]) / self.peak_bytes - 1)

    def time_error(self, basis: str) -> float | None:
        said = self.forecasts.get(basis)
        return None if said is None else float(said["total_s"]["middle"] / self.total_s - 1)

    def newest(self) -> dict[str, Any]:
        found: dict[str, Any] = self.forecasts.get("trial") or self.forecasts["formula"]
        return found

    def memory_held(self) -> bool:
        said = self.newest()
        low, high = (said["memory_bytes"][end] - said["process_bytes"] for end in ("low", "high"))
        return bool(low <= self.peak_bytes <= high)

    def time_held(self) -> bool:
        said = self.newest()["total_s"]
        return bool(said["low"] <= self.total_s <= said["high"])


def main() -> None:
    options = _options()
    PROOF.mkdir(parents=True, exist_ok=True)
    wanted = [case for case in cases() if not options.only or options.only in case.name]
    if not options.report:
        with _daemon() as (client, pid):
            for case in wanted:
                for run in RUNS[: options.runs]:
                    _undisturbed(client, pid, case, run)
    outcomes = [one for case in wanted for run in RUNS if (one := _kept(case, run)) is not None]
    _show(outcomes)
    if len(outcomes) == len(cases()) * len(RUNS):
        _record(outcomes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", default="", help="configurations whose name contains this")
    parser.add_argument("--runs", type=int, default=2, help="1 or 2 runs of each")
    parser.add_argument("--report", action="store_true", help="only show what was measured before")
    return parser.parse_args()


@contextmanager
def _daemon() -> Iterator[tuple[Client, int]]:
    with tempfile.TemporaryDirectory(prefix="btmd-") as short:
        config = Config(
            state_dir=PROOF / "state",
            config_dir=PROOF / "config",
            socket_path=Path(short) / "sock",
            log_level="warning",
        )
        with DaemonProcess(config) as daemon:
            for model in MODELS:
                daemon.client.add_model(write_model(PROOF / "models" / model.name, model))
            for length in LENGTHS:
                path = write_rows(PROOF / f"rows-{length}.jsonl", PROOF / "models" / MODELS[0].name, length)
                daemon.client.add_dataset(path.read_bytes(), f"rows-{length}")
            assert daemon.process is not None
            yield daemon.client, daemon.process.pid


def _path(case: Case, run: int) -> Path:
    return KEPT / f"{case.name}-run{run}.json"


def _kept(case: Case, run: int) -> Outcome | None:
    """What was measured before, if nothing that it covers has changed since."""
    try:
        found = msgspec.json.decode(_path(case, run).read_bytes(), type=Outcome)
    except FileNotFoundError:
        return None
    return found if stands(found.commit, COVERED) else None


def _undisturbed(client: Client, pid: int, case: Case, run: int) -> None:
    """Measure a run, unless that was done, and again where the machine did other things."""
    if _kept(case, run) is not None:
        return
    for disturbed in range(TRIES):
        before = _Processors.read(pid)
        outcome = _once(client, case, run)
        of_others = _Processors.read(pid).of_others(before)
        print(f"{_line(outcome)}, {100 * of_others:.0f} % of the processors to others", flush=True)
        if of_others <= MOST_OF_OTHERS:
            noted = {"commit": commit(), "machine": hardware()}
            kept = msgspec.structs.replace(outcome, of_others=of_others, disturbed=disturbed, **noted)
            KEPT.mkdir(parents=True, exist_ok=True)
            _path(case, run).write_bytes(msgspec.json.format(msgspec.json.encode(kept)) + b"\n")
            return
    raise SystemExit(f"{case.name}: the machine does other things. Begun again, this goes on here.")


class _Processors(NamedTuple):
    """Seconds of processor time since some moment: all that there was, what was used, and what of that was ours."""

    available: float
    used: float
    ours: float

    @classmethod
    def read(cls, daemon_pid: int) -> _Processors:
        """``used`` has what the host took too; ``ours`` the daemon's ended children, so the trainer once it is gone."""
        ticks = os.sysconf("SC_CLK_TCK")
        values = [int(value) / ticks for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        idle = values[3] + values[4]
        ours = 0.0
        for pid in (daemon_pid, os.getpid()):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ours += sum(int(value) for value in fields[11:15]) / ticks
        return cls(sum(values), sum(values) - idle, ours)

    def of_others(self, before: _Processors) -> float:
        ours, used = self.ours - before.ours, self.used - before.used
        return max(0.0, used - ours) / (self.available - before.available)


def _once(client: Client, case: Case, run: int) -> Outcome:
    asked = {"model_id": case.model.name.lower(), "dataset_id": f"rows-{case.length}", "overrides": case.overrides()}
    job_id = client.start(**asked)
    folder = JobFolder(PROOF / "state" / "jobs" / job_id)
    samples: list[Memory] = []
    began_s = time.monotonic()
    while True:
        if (pid := folder.read_pid()) is not None and (found := _memory(pid.pid)) is not None:
            samples.append(found)
        job = client.job(job_id)
        if job["state"] in ENDED:
            break
        time.sleep(SAMPLE_S if time.monotonic() - began_s < STARTING_S else STARTED_SAMPLE_S)
    if job["state"] != "completed":
        raise SystemExit(f"{case.name}: {job['state']}: {job['text']} ({folder.path})")
    loading_us = next(
        found.frame.at_us
        for found in read_frames(folder.spool_path(1))
        if isinstance(found.frame, StageEntered) and found.frame.text == "Loading the model."
    )
    idle_bytes = [one.resident for one in samples if one.at_us <= loading_us][-1]
    forecasts = {"formula": job["forecast_by_formula"]}
    if job["forecast"]["basis"] == "trial":
        forecasts["trial"] = job["forecast"]
    _wait_for_its_end(folder)
    return Outcome(
        case=case.name,
        run=run,
        peak_bytes=samples[-1].peak_resident - idle_bytes,
        idle_bytes=idle_bytes,
        total_s=float(job["outcome"]["attempt_s"]),
        forecasts=forecasts,
        trial=job["trial"],
        accelerate_bytes=_accelerate_bytes(PROOF / "models" / case.model.name),
    )


def _wait_for_its_end(folder: JobFolder) -> None:
    """Until the daemon has taken the trainer's exit status, and with it its time."""
    pid = folder.read_pid()
    deadline_s = time.monotonic() + 30
    while pid is not None and Path(f"/proc/{pid.pid}").exists() and time.monotonic() < deadline_s:
        time.sleep(0.05)


class Memory(NamedTuple):
    """A process's resident bytes at a moment, and the most since its start."""

    at_us: int
    resident: int
    peak_resident: int


def _memory(pid: int) -> Memory | None:
    at_us = time.time_ns() // 1000
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        # Ended between two looks.
        return None
    found = dict(line.split(":", 1) for line in status.splitlines())
    if "VmHWM" not in found:
        return None
    resident, peak = (1024 * int(found[name].split()[0]) for name in ("VmRSS", "VmHWM"))
    return Memory(at_us, resident, peak)


def _accelerate_bytes(model_folder: Path) -> int:
    """What `accelerate estimate-memory` says of training with Adam in bf16; it knows neither batch nor adapter."""
    kept = model_folder / "accelerate.json"
    if not kept.exists():
        from accelerate import init_empty_weights
        from accelerate.commands.estimate import estimate_training_usage
        from accelerate.utils import calculate_maximum_sizes
        from transformers import AutoConfig, AutoModelForCausalLM

        with init_empty_weights():
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model_folder))  # type: ignore[no-untyped-call]
        size_bytes, _ = calculate_maximum_sizes(model)
        usage = estimate_training_usage(size_bytes, mixed_precision="bf16")
        kept.write_text(json.dumps(max(usage.values())))
    return int(json.loads(kept.read_text()))


def _line(one: Outcome) -> str:
    def percent(error: float | None) -> str:
        return "  none" if error is None else f"{100 * error:+5.0f}%"

    trial = one.trial or {}
    memory = f"formula {percent(one.memory_error('formula'))} trial {percent(one.memory_error('trial'))}"
    total = f"formula {percent(one.time_error('formula'))} trial {percent(one.time_error('trial'))}"
    cost = f"{trial.get('seconds', 0):.0f} s, {trial.get('shapes_left', '-')} of {trial.get('shapes', '-')} left out"
    return (
        f"{one.case:36s} run {one.run}: memory {one.peak_bytes / 1e6:6.0f} MB, {memory}; "
        f"time {one.total_s:5.0f} s, {total}; trial {cost}"
    )


def _show(outcomes: Iterable[Outcome]) -> None:
    for one in outcomes:
        print(_line(one))


def _sizes(errors: Iterable[float | None]) -> list[float]:
    return [100 * abs(error) for error in errors if error is not None] or [0.0]


def _record(outcomes: list[Outcome]) -> None:
    tried = [one for one in outcomes if one.trial is not None]
    skipped = {one.case for one in outcomes if one.trial is None}
    memory = _sizes(one.memory_error("trial") for one in tried)
    too_low = max(0.0, *(-100 * (one.memory_error("trial") or 0.0) for one in tried))
    by_formula = _sizes(one.memory_error("formula") for one in outcomes)
    accelerate = _sizes(one.accelerate_bytes / one.peak_bytes - 1 for one in outcomes)
    memory_width = [_half_width(one.newest()["memory_bytes"], one.newest()["process_bytes"]) for one in outcomes]
    time_width = [_half_width(one.newest()["total_s"]) for one in outcomes]
    spreads = _spreads(outcomes)
    allowed = [max(10.0, 1.5 * spreads[one.case]) for one in tried]
    times = _sizes(one.time_error("trial") for one in tried)
    record(
        Topic(
            "Forecast against outcome",
            "make proof-forecast",
            [
                Figure("memory after real steps: median error", [statistics.median(memory)], "%", "< 6", 1),
                Figure("memory after real steps: worst", [max(memory)], "%", "< 15", 1),
                Figure("memory after real steps: most too low", [too_low], "%", "<= 8", 1),
                Figure("memory by formula: median error", [statistics.median(by_formula)], "%", "", 1),
                Figure("memory by formula: worst", [max(by_formula)], "%", "<= 25", 1),
                Figure("accelerate estimate-memory: median error", [statistics.median(accelerate)], "%", "", 1),
                Figure("time after real steps: median error", [statistics.median(times)], "%", "", 1),
                Figure(
                    "the same, in what is allowed (10 % or 1.5x the runs' difference)",
                    [statistics.median(error / most for error, most in zip(times, allowed, strict=True))],
                    "",
                    "<= 1",
                ),
                Figure("time by formula: median error", [_median(one.time_error("formula") for one in outcomes)], "%"),
                Figure("memory inside its range", [_share(one.memory_held() for one in outcomes)], "%", ">= 90", 0),
                Figure("time inside its range", [_share(one.time_held() for one in outcomes)], "%", ">= 90", 0),
                Figure("half width of the memory's range", [statistics.median(memory_width)], "%", "<= 25", 1),
                Figure("half width of the time's range", [statistics.median(time_width)], "%", "", 1),
                Figure("difference between two runs", list(spreads.values()), "%", "", 1),
                Figure("configurations without a trial", [float(len(skipped))], "", "<= 4", 0),
                Figure("trials over what they may cost", [float(_over_long(tried))], "", "<= 0", 0),
            ],
            packages=("torch", "accelerate"),
            notes=(
                f"{len({one.case for one in outcomes})} configurations, {len(outcomes)} runs: models of 30, 135 and "
                "360 million parameters with random weights, adapters and all weights, rows of up to 128, 384 and "
                "1,024 tokens, one to four at once, with and without checkpointing. "
                f"A run trains 5,000 to 60,000 tokens, {SHARE_WITHOUT_BF16:g} of that where the processor has no bf16.",
                "Memory is the resident peak above the imported, idle trainer: what its proportional set grows by.",
                f"{sum(one.disturbed for one in outcomes)} runs were measured again: other programs, or the host, took "
                "more than a quarter of the processors beside them.",
                f"Measured with {'; '.join(sorted({f'{one.machine} (commit {one.commit})' for one in outcomes}))}.",
                "accelerate's figure is that of training with Adam in bf16; it is not told of adapters or batches.",
            ),
        )
    )


def _half_width(said: dict[str, float], base: float = 0.0) -> float:
    """Of a range, as a share of its middle, in percent."""
    return 50 * (said["high"] - said["low"]) / (said["middle"] - base)


def _spreads(outcomes: list[Outcome]) -> dict[str, float]:
    """By configuration: the difference of its runs' times, in percent of their mean."""
    found: dict[str, float] = {}
    for name in dict.fromkeys(one.case for one in outcomes):
        times = [one.total_s for one in outcomes if one.case == name]
        found[name] = 100 * (max(times) - min(times)) / statistics.mean(times)
    return found


def _over_long(tried: Iterable[Outcome]) -> int:
    """Trials beyond a twentieth of the run, 30 s, or a step for each length and two more."""
    found = 0
    for one in tried:
        assert one.trial is not None
        steps_s = (one.trial["shapes"] + 2) * one.newest()["step_s"]["middle"]
        found += one.trial["seconds"] > max(0.05 * one.total_s, 30.0, steps_s)
    return found


def _median(errors: Iterable[float | None]) -> float:
    return statistics.median(_sizes(errors))


def _share(held: Iterable[bool]) -> float:
    return 100 * statistics.mean(list(held))


if __name__ == "__main__":
    main()
