"""A thousand simulated machines, the models and data planned on them, and what has to hold for every plan."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from btmd.domain.hardware import Cpu, Disk, Gpu, Hardware, Memory
from btmd.errors import BtmdError
from btmd.planning import Plan, PlanRequest, TokenFacts, make_plan
from btmd.planning.forecast import GPU_HOST_BYTES
from btmd.planning.length import bucket
from btmd.planning.memory import Shape, estimate_memory, usable_bytes
from btmd.planning.row_kinds import PACKED_TYPE, PAIR_TYPE
from btmd.planning.time_estimate import StepWork, usual_step_seconds
from btmd.planning.training_types import FULL, LORA, QLORA
from btmd.planning.usual_models import USUAL_MODELS
from tests.planning.given import GB, PRESETS, SMALL

KINDS = {PACKED_TYPE: "text", PAIR_TYPE: "preference"}
"""The rows that a training type learns from, where they are not conversations."""
MORE_GB = (0.3, 0.7, 1.5, 4.0, 17.0, 80.0)
"""Added one after the other, finely where small models begin to fit."""
ALLOWANCES = (
    "",
    "lora",
    "shorter",
    "shorter cpu",
    "lora qlora",
    "lora cpu",
    "lora qlora cpu shorter simpler",
    "simpler",
    "simpler cpu",
    "lora simpler",
    "qlora simpler",
)
CAPABILITIES = ((5, 2), (6, 1), (7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (12, 0))
GPU_SIZES_GB = (2, 3, 4, 6, 8, 10, 11, 12, 16, 20, 24, 32, 40, 48, 80, 96, 141, 192)
MODELS = (
    *USUAL_MODELS,
    SMALL,
    replace(USUAL_MODELS[2], architecture="GPT2LMHeadModel", context_length=1024, linear_layers=()),
)
TOKENS = (
    TokenFacts(1000, 150_000, 80_000, 250, {64: 950, 128: 600}),
    TokenFacts(200, 160_000, 50_000, 1900, {64: 190, 128: 180, 256: 150, 512: 90, 1024: 40}),
    TokenFacts(40_000, 30_000_000, 9_000_000, 9000, {256: 30_000, 512: 15_000, 1024: 5000, 2048: 500, 4096: 40}),
)


def machine(number: int) -> Hardware:
    """The machine of this number, always the same: 0-8 GPUs of 2-192 GB, full and empty ones, odd limits."""
    draws = random.Random(number)
    total_gb = draws.choice((2, 4, 8, 15.5, 16, 24, 31, 64, 125, 192, 503))
    limit_gb = draws.choice((None, None, None, 0.7, 1.9, 3.3, 7.5, 13.0, total_gb * 1.5))
    limit = None if limit_gb is None or limit_gb >= total_gb else int(limit_gb * GB)
    whole = int(total_gb * GB) if limit is None else limit
    cores = draws.choice((1, 2, 4, 6, 8, 16, 56, 128))
    quota = draws.choice((None, None, 0.5, 1.5, 3.0))
    usable = cores if quota is None else max(1, min(cores, round(quota)))
    kinds = [draws.choice(CAPABILITIES) for _ in range(2)]
    gpus = []
    for index in range(draws.choice((0, 0, 1, 1, 2, 3, 4, 8))):
        size = draws.choice(GPU_SIZES_GB) * GB
        used = int(size * draws.choice((0.0, 0.02, 0.3, 0.5, 0.9, 1.0)))
        gpus.append(Gpu(index, f"GPU {index}", size, size - used, used, draws.choice(kinds)))
    return Hardware(
        Cpu("a processor", cores, cores, usable, (), draws.random() < 0.5, quota),
        Memory(whole, int(whole * draws.uniform(0.3, 0.98)), limit),
        Disk(4000 * GB, int(draws.choice((3, 40, 2000, 2000)) * GB)),
        tuple(gpus),
        bitsandbytes_version=draws.choice((None, "0.48.2")),
        has_compiler=draws.random() < 0.5,
    )


def with_more(hardware: Hardware, more_gb: float, only: str = "") -> Hardware:
    """The same machine with so much more free memory: everywhere, or only on one device."""
    more = int(more_gb * GB)
    memory = hardware.memory
    if only in ("", "cpu"):
        limit = memory.limit_bytes
        memory = replace(
            memory,
            total_bytes=memory.total_bytes + more,
            available_bytes=memory.available_bytes + more,
            limit_bytes=None if limit is None else limit + more,
        )
    gpus = tuple(
        replace(one, total_bytes=one.total_bytes + more, free_bytes=one.free_bytes + more)
        if only in ("", f"cuda:{one.index}")
        else one
        for one in hardware.gpus
    )
    return replace(hardware, memory=memory, gpus=gpus)


def requests_on(number: int, presets: int | None = None, models: int | None = None) -> Iterator[PlanRequest]:
    """Presets x model sizes on the machine of this number; with fewer of them, others for each machine."""
    hardware = machine(number)
    draws = random.Random(-1 - number)
    keys = sorted(PRESETS)
    chosen_presets = keys if presets is None else draws.sample(keys, min(presets, len(keys)))
    for key in chosen_presets:
        # Small models are drawn more often: large ones are mostly refused, each time for the same reason.
        for model in MODELS if models is None else draws.choices(MODELS, (9, 8, 7, 6, 5, 4, 2, 1, 1, 5, 5), k=models):
            allow = frozenset(draws.choice(ALLOWANCES).split())
            tokens = replace(draws.choice(TOKENS), kind=KINDS.get(PRESETS[key].training_type, "conversation"))
            yield PlanRequest(PRESETS[key], model, tokens, hardware, {}, {}, allow, PRESETS["quick_test"])


def planned(request: PlanRequest) -> Plan | None:
    """The plan, or None where it was refused in whole sentences."""
    try:
        return make_plan(request)
    except BtmdError as refused:
        if not (refused.detail and refused.hint):
            raise
        return None


@dataclass
class Count:
    """What was looked at, and how often something that must hold did not."""

    machines: int = 0
    plans: int = 0
    refusals: int = 0
    pairs: int = 0
    not_fitting: int = 0
    batch_lost: int = 0
    not_repeated: int = 0
    worse_type: int = 0
    shorter: int = 0
    slower: int = 0
    refused_with_more: int = 0
    changed_unasked: int = 0

    @property
    def broken(self) -> int:
        return (
            self.not_fitting
            + self.batch_lost
            + self.not_repeated
            + self.worse_type
            + self.shorter
            + self.slower
            + self.refused_with_more
            + self.changed_unasked
        )


def examine(request: PlanRequest, count: Count) -> None:
    """Plan on this machine and on ones with more and more memory, and count what does not hold."""
    first = planned(request)
    if first is None:
        count.refusals += 1
    else:
        count.plans += 1
        examine_one(request, first, count)
        count.not_repeated += first != make_plan(request)
    devices = ["cpu", *(f"cuda:{one.index}" for one in request.hardware.gpus)]
    for device in devices if first is not None and len(devices) > 1 else ():
        _examine_richer(request, first, with_more(request.hardware, 40, device), count)
    before = first
    for more_gb in MORE_GB:
        before = _examine_richer(request, before, with_more(request.hardware, more_gb), count)


def _examine_richer(request: PlanRequest, before: Plan | None, hardware: Hardware, count: Count) -> Plan | None:
    richer = replace(request, hardware=hardware)
    after = planned(richer)
    if before is not None:
        count.pairs += 1
        compare(request, before, after, count)
    if after is not None:
        examine_one(richer, after, count)
    return after


def examine_one(request: PlanRequest, made: Plan, count: Count) -> None:
    """What holds for every plan by itself."""
    needed = estimate_memory(request.model, shape_of(made)).total_bytes
    available = available_on(request.hardware, made.text("device"))
    on_cpu = made.text("device") == "cpu"
    host_fits = on_cpu or usable_bytes(request.hardware.memory.available_bytes) >= GPU_HOST_BYTES
    count.not_fitting += not (host_fits and needed == made.memory.total_bytes <= usable_bytes(available))
    batch, micro = made.integer("batch_size"), made.integer("micro_batch_size")
    parts = made.fixed["gradient_accumulation"].value
    assert isinstance(parts, int)
    count.batch_lost += not (batch == request.preset.batch_size and (parts - 1) * micro < batch <= parts * micro)
    count.changed_unasked += not _permitted(request, made)


def _permitted(request: PlanRequest, made: Plan) -> bool:
    """Nothing that the person would have to be asked about has changed without permission."""
    preset, allow = request.preset, request.allow
    if made.preset != preset.key:
        on_cpu = made.text("device") == "cpu" and bool(request.hardware.gpus)
        return "simpler" in allow and (not on_cpu or "cpu" in allow)
    kind = made.text("training_type")
    if kind != preset.training_type and ({LORA: "lora", QLORA: "qlora"}.get(kind)) not in allow:
        return False
    if not preset.lora_r and kind in KINDS and made.integer("lora_r") and "lora" not in allow:
        return False
    if made.text("device") == "cpu" and request.hardware.gpus and "cpu" not in allow:
        return False
    asked = min(preset.max_length, request.model.context_length, bucket(request.tokens.longest_row))
    return made.integer("max_length") >= asked or "shorter" in allow


def compare(request: PlanRequest, before: Plan, after: Plan | None, count: Count) -> None:
    """More memory: never refused, never a worse type; at the same type no shorter, at the same length no slower."""
    if after is None:
        count.refused_with_more += 1
        return
    ranks = [rank_of(made) for made in (before, after)]
    count.worse_type += ranks[1] < ranks[0]
    if ranks[0] != ranks[1]:
        return
    lengths = [made.integer("max_length") for made in (before, after)]
    count.shorter += lengths[1] < lengths[0]
    if lengths[0] == lengths[1]:
        count.slower += pace(request, after) > pace(request, before)


def rank_of(made: Plan) -> int:
    """How good the type is: all weights, an adapter, an adapter on four bits."""
    if made.text("training_type") == QLORA:
        return 0
    return 1 if adapter_rank(made) else 2


def adapter_rank(made: Plan) -> int:
    return 0 if made.text("training_type") == FULL else made.integer("lora_r")


def pace(request: PlanRequest, made: Plan) -> tuple[float, int]:
    """Seconds a step by formula, and rows not computed at once: less is faster in both."""
    work = StepWork(
        model=request.model,
        trained=0 if adapter_rank(made) else request.model.parameters,
        precision=made.text("precision"),
        gradient_checkpointing=made.flag("gradient_checkpointing"),
        batch_size=made.integer("batch_size"),
        mean_length=256.0,
    )
    step_s = usual_step_seconds(work, request.hardware, device=made.text("device"), threads=made.integer("threads"))
    return step_s, -made.integer("micro_batch_size")


def shape_of(made: Plan) -> Shape:
    kind = made.text("training_type")
    return Shape(
        made.integer("micro_batch_size"),
        made.integer("max_length"),
        made.text("precision"),
        made.flag("gradient_checkpointing"),
        adapter_rank(made),
        made.text("device"),
        made.names("target_modules"),
        quantised_base=kind == QLORA,
        rows_an_example=2 if kind == PAIR_TYPE else 1,
    )


def available_on(hardware: Hardware, device: str) -> int:
    if device == "cpu":
        return hardware.memory.available_bytes
    return next(gpu.free_bytes for gpu in hardware.gpus if device == f"cuda:{gpu.index}")
