"""Real steps before the first one: whether the run fits, and how long it will take.

Forward and backward passes are real, the optimizer steps with a rate of zero on gradients of zero: its memory is
touched and its time is taken, and no weight changes. Moments, counters and random states are put back, so that the
run goes on as if nothing had been tried.
"""

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import torch

from btmd.files.durable import write_atomically
from btmd.frames import MachineRate
from btmd.job_folder import JobFolder, TrainerPlan, TrialPlan
from btmd.trainer.cost import FEW, Sample
from btmd.trainer.failures import TrainingFailed
from btmd.trainer.machine_rates import measure_rates
from btmd.trainer.outlook import Tried, forecast_after, trained_seconds
from btmd.trainer.process import available_bytes, peak_resident_bytes, resident_bytes
from btmd.trainer.run import Run
from btmd.trainer.step import make_batch
from btmd.trainer.time_budget import TimeBudget
from btmd.trainer.workload import Portion, Shape, Workload, covering, portion_of, workload_of

WARM_SAMPLES = 5
WARM_S = 6.0
"""Spent on timing what has been computed before, if the trial may last that long; at least FEW are timed."""
KERNEL_BYTES = 600_000
ADAPTER_PRODUCTS, FULL_PRODUCTS, ROW_PRODUCTS, HEAD_PRODUCTS = 28, 13, 6, 3
"""Distinct products at each length of the flat axis, of a row and of the vocabulary's places."""
RESERVE_SHARE = 0.05
"""Of the memory, kept free when it is judged whether a run fits."""


class Settled(msgspec.Struct, frozen=True):
    """What an attempt leaves to those after it; not ``done``: it ended while it tried ``micro_batch_size``."""

    micro_batch_size: int
    done: bool


def settled(folder: JobFolder, plan: TrainerPlan) -> TrainerPlan:
    """The plan as an earlier attempt's trial has changed it."""
    found = _read(folder)
    if found is None:
        return plan
    # Ended without a word in the middle of it: most likely killed for the memory it took.
    size = found.micro_batch_size if found.done else max(1, found.micro_batch_size // 2)
    return msgspec.structs.replace(plan, micro_batch_size=min(plan.micro_batch_size, size))


def _read(folder: JobFolder) -> Settled | None:
    try:
        return msgspec.json.decode(folder.trial_path.read_bytes(), type=Settled)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def try_out(run: Run, *, idle_bytes: int, budget: TimeBudget | None) -> None:
    """Take trial steps if the plan wants them and nothing has been trained yet; tell the forecast they make.

    With a ``budget`` it is decided from them how many steps there will be.

    ``idle_bytes`` was resident before the model was loaded. Makes the micro-batches smaller where the run would not
    fit. Raises TrainingFailed(out_of_memory) where nothing helps, StopRequested.
    """
    wanted, progress = run.plan.trial, run.state.progress
    earlier = _read(run.folder)
    if wanted is None or progress.step or progress.accumulation.rows_done or (earlier is not None and earlier.done):
        return
    run.reporter.stage("preparing", "Taking a few steps on trial: does it fit, and how long will it take?")
    with _as_before(run):
        if wanted.measures_rates:
            flops, copied_bytes_s = measure_rates(run.state.model)
            plan = run.plan
            run.reporter.append(
                MachineRate(_now_us(), run.state.model.device.type, plan.precision, plan.threads, flops, copied_bytes_s)
            )
        tried = _Trial(run, wanted).run()
        if budget is not None:
            budget.decide(run, trained_seconds(run, tried) / run.total_steps)
        told = forecast_after(run, wanted, tried, idle_bytes=idle_bytes, at_us=_now_us())
    _settle(run, done=True)
    run.reporter.append(told)


@contextmanager
def _as_before(run: Run) -> Iterator[None]:
    optimizer, device = run.state.optimizer, run.state.model.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            optimizer.drop_gradients()
            for tensor in optimizer.state_tensors().values():
                tensor.zero_()


def _settle(run: Run, *, done: bool) -> None:
    settled = Settled(run.plan.micro_batch_size, done)
    write_atomically(run.folder.trial_path, msgspec.json.encode(settled))


class _Trial:
    """The steps of one trial."""

    def __init__(self, run: Run, wanted: TrialPlan) -> None:
        self._run, self._wanted = run, wanted
        self._rows = run.material.dataset.train
        self._seen: frozenset[Shape] = frozenset()
        self._samples: list[Sample] = []
        self._began_s = time.monotonic()

    def run(self) -> Tried:
        workload, optimizer_s = self._largest()
        before, known = self._memory(), self._seen
        for portion in covering(workload.portions, self._seen):
            hurried = self._run.plan.time_limit_s > 0 and self._over(self._wanted.most_s)
            if hurried or self._run.stop.read() == "stop":
                break
            self._take(portion)
        self._run.state.optimizer.drop_gradients()
        met = len(self._seen & workload.shapes) - len(known & workload.shapes)
        grown = max(0, self._memory() - before) / met if met else 0.0
        self._largest_again(workload)
        self._time_warm(workload)
        left = workload.shapes - self._seen
        return Tried(
            samples=tuple(self._samples),
            workload=workload,
            optimizer_s=optimizer_s,
            peak_bytes=self._peak(),
            host_peak_bytes=peak_resident_bytes(),
            to_come_bytes=max(int(grown * len(left)), self._kernel_bytes(left)),
            shapes=len(workload.shapes),
            shapes_left=len(left),
            seconds=time.monotonic() - self._began_s,
        )

    def _largest(self) -> tuple[Workload, float]:
        """The longest row by itself and then the largest micro-batch, made smaller until it fits."""
        longest = max(self._workload().portions, key=lambda one: max(self._lengths(one)))
        row = max(longest.members, key=lambda member: self._lengths_of(member))
        single = portion_of(self._rows, [row], self._run.state.model.implementation)
        self._take(single)
        optimizer_s = self._idle_step()
        while True:
            workload = self._workload()
            heaviest = workload.heaviest
            more = self._wanted.row_bytes * max(0.0, heaviest.tokens / single.tokens - 1)
            if not self._fits(more if heaviest.tokens > single.tokens else 0.0):
                self._smaller()
                continue
            _settle(self._run, done=False)
            try:
                self._take(heaviest)
            except torch.OutOfMemoryError:
                self._run.state.optimizer.drop_gradients()
                torch.cuda.empty_cache()
                self._smaller()
                continue
            return workload, min(optimizer_s, self._idle_step())

    def _kernel_bytes(self, shapes: frozenset[Shape]) -> int:
        """What oneDNN will keep for these lengths: by count, should the few that were tried have been odd."""
        model = self._run.state.model
        if model.device.type != "cpu" or model.dtype == torch.float32:
            return 0
        flat = ADAPTER_PRODUCTS if self._run.plan.trains_adapter else FULL_PRODUCTS
        products = {"flat": flat, "row": ROW_PRODUCTS, "head": HEAD_PRODUCTS}
        return sum(KERNEL_BYTES * products.get(kind, flat) for kind, _ in shapes)

    def _largest_again(self, workload: Workload) -> None:
        """The peak of a step in the middle of the run: beside every length's kernels and a step's gradients."""
        plan = self._run.plan
        if plan.batch_size > plan.micro_batch_size:
            self._take(min(workload.portions, key=lambda one: (not one.shapes <= self._seen, one.tokens)))
        self._take(workload.heaviest)

    def _time_warm(self, workload: Workload) -> None:
        """Small to large and round again: a machine is not always as fast as it was a second ago."""
        known = [one for one in workload.spread(WARM_SAMPLES) if one.shapes <= self._seen]
        until_s = min(time.monotonic() - self._began_s + WARM_S, self._wanted.most_s)
        for taken, portion in enumerate(itertools.cycle(known)):
            if taken >= FEW and self._over(until_s):
                break
            self._take(portion)

    def _lengths(self, portion: Portion) -> list[int]:
        return [self._lengths_of(member) for member in portion.members]

    def _lengths_of(self, member: int) -> int:
        start, end = self._rows.firsts[member], self._rows.firsts[member + 1]
        return int(self._rows.offsets[end] - self._rows.offsets[start])

    def _workload(self) -> Workload:
        plan = self._run.plan
        return workload_of(
            self._rows,
            batch_size=plan.batch_size,
            micro_batch_size=plan.micro_batch_size,
            seed=plan.seed,
            total_steps=self._run.total_steps,
            implementation=self._run.state.model.implementation,
        )

    def _fits(self, more_bytes: float) -> bool:
        """Whether so much more than now can be had, with a reserve."""
        if self._run.state.model.device.type == "cuda":
            free, total = torch.cuda.mem_get_info(self._run.state.model.device)
            return more_bytes <= free - RESERVE_SHARE * total
        limit = self._wanted.limit_bytes
        free = available_bytes()
        if limit:
            free = min(free, limit - resident_bytes())
        # What the peak was above the present is there already: it was had a moment ago.
        above_now = max(0, peak_resident_bytes() - resident_bytes())
        return more_bytes + above_now <= free - RESERVE_SHARE * (free + resident_bytes())

    def _smaller(self) -> None:
        """Half the rows at once, the same rows a step."""
        run, size = self._run, self._run.plan.micro_batch_size
        if size == 1:
            raise TrainingFailed(
                "out_of_memory",
                "A step on one row alone takes more memory than there is. Shorter rows (--set max_length=...) or "
                "--set gradient_checkpointing=true take less, and so does closing other programs.",
            )
        run.take_micro_batch_size(size // 2)
        run.reporter.notice(
            "micro_batch_smaller",
            f"{size} rows at once would not fit in memory: {size // 2} are computed at once, and a step still learns "
            f"from {run.plan.batch_size}.",
        )

    def _take(self, portion: Portion) -> None:
        """Forward and backward over a portion, timed."""
        run = self._run
        run.stop.leave_if_asked()
        began_s = time.monotonic()
        batch = make_batch(self._rows, portion.members)
        loss_sum = run.objective.loss_sum(run.state.model, batch)
        (loss_sum / max(1, batch.count_learned())).backward()  # type: ignore[no-untyped-call]
        float(loss_sum.detach())
        self._wait()
        warm = portion.shapes <= self._seen
        self._samples.append(Sample(portion.tokens, time.monotonic() - began_s, warm))
        self._seen |= portion.shapes

    def _idle_step(self) -> float:
        """The end of a step that changes nothing; its seconds."""
        optimizer = self._run.state.optimizer
        began_s = time.monotonic()
        gradients = optimizer.gradients()
        float(torch.nn.utils.get_total_norm(gradients))
        torch._foreach_zero_(gradients)
        optimizer.step(0.0)
        self._wait()
        optimizer.drop_gradients()
        return time.monotonic() - began_s

    def _wait(self) -> None:
        if self._run.state.model.device.type == "cuda":
            torch.cuda.synchronize(self._run.state.model.device)

    def _over(self, seconds: float) -> bool:
        return time.monotonic() - self._began_s > seconds or self._run.stop.read() == "stop"

    def _memory(self) -> int:
        device = self._run.state.model.device
        return int(torch.cuda.memory_reserved(device)) if device.type == "cuda" else resident_bytes()

    def _peak(self) -> int:
        device = self._run.state.model.device
        return int(torch.cuda.max_memory_reserved(device)) if device.type == "cuda" else peak_resident_bytes()


def _now_us() -> int:
    return time.time_ns() // 1000
