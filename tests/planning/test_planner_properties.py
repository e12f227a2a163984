"""What holds for every plan, whatever the machine, the model and the data."""

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from btmd.domain.hardware import Hardware, Memory
from btmd.errors import BtmdError, InvalidValue, NotEnoughDisk, NotEnoughMemory, PackageMissing
from btmd.planning import Plan, PlanRequest, TokenFacts, make_plan
from btmd.planning.hyperparameters import HYPERPARAMETERS, read_overrides
from btmd.planning.memory import usable_bytes
from tests.planning.given import GB, PRESETS, SEVEN_BILLION, SMALL, cpu_machine, gpu, gpu_machine
from tests.planning.simulated import KINDS, pace

MODELS = st.sampled_from(
    [
        SMALL,
        SEVEN_BILLION,
        replace(SMALL, architecture="GPT2LMHeadModel", context_length=1024),
        replace(SEVEN_BILLION, parameters=1_100_000_000, layers=22, hidden_size=2048, heads=32),
    ]
)
ALLOW = st.frozensets(st.sampled_from(["lora", "cpu", "shorter", "simpler", "qlora"]))
MEMORY_GB = st.floats(0.5, 192)


@st.composite
def token_facts(draw: st.DrawFn) -> TokenFacts:
    rows = draw(st.integers(1, 100_000))
    longest = draw(st.integers(1, 10_000))
    counts = sorted(draw(st.lists(st.integers(0, rows), min_size=8, max_size=8)), reverse=True)
    lengths = [64 * 2**power for power in range(8)]
    over = {length: 0 if length >= longest else count for length, count in zip(lengths, counts, strict=True)}
    total = rows * draw(st.integers(1, longest))
    return TokenFacts(rows, total, max(1, total // 2), longest, over)


@st.composite
def machines(draw: st.DrawFn) -> Hardware:
    cpu = cpu_machine(draw(MEMORY_GB), native_bf16=draw(st.booleans()), cores=draw(st.integers(1, 128)))
    capabilities = st.sampled_from([(5, 2), (7, 5), (8, 0), (9, 0)])
    gpus = tuple(
        gpu(draw(MEMORY_GB), index=index, capability=draw(capabilities)) for index in range(draw(st.integers(0, 3)))
    )
    return replace(cpu, gpus=gpus)


@st.composite
def requests(draw: st.DrawFn) -> PlanRequest:
    overrides = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "batch_size": st.integers(1, 300),
                "num_epochs": st.integers(1, 50),
                "max_steps": st.integers(0, 500),
            },
        )
    )
    preset = PRESETS[draw(st.sampled_from(sorted(PRESETS)))]
    tokens = replace(draw(token_facts()), kind=KINDS.get(preset.training_type, "conversation"))
    return PlanRequest(preset, draw(MODELS), tokens, draw(machines()), {}, overrides, draw(ALLOW))


def planned(request: PlanRequest) -> Plan | None:
    try:
        return make_plan(request)
    except BtmdError as refused:
        said = (refused.detail, refused.hint)
        assert all(said)
        return None


@given(requests())
@settings(max_examples=200)
def test_every_plan_fits_keeps_its_batch_and_is_bounded(request: PlanRequest) -> None:
    made = planned(request)
    if made is None:
        return
    batch, micro = made.integer("batch_size"), made.integer("micro_batch_size")
    assert batch == request.overrides.get("batch_size", request.preset.batch_size)
    parts = -(-batch // micro)
    assert 1 <= micro <= batch
    assert (parts - 1) * micro < batch <= parts * micro
    assert made.memory.total_bytes <= usable_bytes(made.memory_available_bytes)
    assert made.integer("max_length") <= request.model.context_length
    assert made.total_steps >= 1
    assert made.train_rows >= 1
    if request.tokens.kind != "text":
        assert made.train_rows + made.held_out_rows + made.left_out_rows <= request.tokens.rows
    if every := made.integer("eval_every"):
        assert made.total_steps // every <= 6
    assert 1 <= made.integer("save_every") <= made.total_steps
    assert made == make_plan(request)


@given(requests())
@settings(max_examples=100)
def test_every_value_of_a_plan_could_be_set_by_hand(request: PlanRequest) -> None:
    made = planned(request)
    if made is not None:
        for key, chosen in made.values.items():
            assert HYPERPARAMETERS[key].read(chosen.value) == chosen.value


@given(requests(), MEMORY_GB)
@settings(max_examples=200)
def test_more_memory_never_makes_a_worse_plan(request: PlanRequest, more_gb: float) -> None:
    before = planned(request)
    more = int(more_gb * GB)
    hardware = request.hardware
    richer = replace(
        hardware,
        memory=Memory(hardware.memory.total_bytes + more, hardware.memory.available_bytes + more),
        gpus=tuple(
            replace(one, free_bytes=one.free_bytes + more, total_bytes=one.total_bytes + more) for one in hardware.gpus
        ),
    )
    after = planned(replace(request, hardware=richer))
    if before is None:
        return
    assert after is not None
    if before.text("training_type") == "fine_tuning":
        assert after.text("training_type") == "fine_tuning"
    if before.text("training_type") != after.text("training_type"):
        return
    assert after.integer("max_length") >= before.integer("max_length")
    if after.integer("max_length") == before.integer("max_length"):
        assert pace(request, after) <= pace(request, before)


@given(requests())
@settings(max_examples=60)
def test_a_permission_only_turns_refusals_into_plans(request: PlanRequest) -> None:
    strict = planned(replace(request, allow=frozenset()))
    if strict is not None:
        assert make_plan(request) == strict


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(HYPERPARAMETERS)) | st.text(max_size=200), JSON, max_size=3))
@settings(max_examples=300)
def test_no_override_does_worse_than_a_clear_refusal(overrides: dict[str, object]) -> None:
    try:
        chosen = read_overrides(overrides)
    except InvalidValue as refused:
        said = (refused.detail, refused.hint)
        assert all(said)
        return
    for key, given_value in chosen.items():
        assert HYPERPARAMETERS[key].read(given_value) == given_value


def test_a_machine_without_memory_or_disk_is_refused_not_crashed() -> None:
    machine = cpu_machine(0, disk_gb=0)
    for preset in PRESETS.values():
        for hardware in (machine, gpu_machine(gpu(0), free_gb=0)):
            try:
                kind = KINDS.get(preset.training_type, "conversation")
                make_plan(PlanRequest(preset, SMALL, TokenFacts(100, 10_000, 5000, 200, kind=kind), hardware))
            except (NotEnoughMemory, NotEnoughDisk, PackageMissing, InvalidValue):
                continue
            raise AssertionError("planned a training without memory")
