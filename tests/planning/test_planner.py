"""What a plan chooses, and that it says why."""

import re
from typing import Any

import pytest
from msgspec.structs import replace

from btmd.domain.hardware import Disk, GpuRefusal, Hardware
from btmd.errors import (
    DatasetRefused,
    GpuUnusable,
    InvalidValue,
    NotEnoughDisk,
    NotEnoughMemory,
    NothingToLearn,
    PackageMissing,
    UnknownKey,
)
from btmd.planning import TokenFacts, choose_preset, make_plan, recommend
from btmd.planning.hyperparameters import HYPERPARAMETERS
from btmd.planning.memory import Shape, estimate_memory
from tests.planning.given import (
    GB,
    PRESETS,
    ROWS,
    SEVEN_BILLION,
    SMALL,
    cpu_machine,
    gpu,
    gpu_machine,
    plan,
    request,
    value,
)


def test_every_value_has_a_source_and_a_reason() -> None:
    made = plan()
    assert list(made.values) == list(HYPERPARAMETERS)
    for key, chosen in made.values.items():
        assert chosen.reason.endswith("."), key
        assert "cuda" not in chosen.reason.lower(), key
    assert not any("cuda" in note.lower() for note in made.notes)


def test_the_preset_is_followed_where_nothing_speaks_against_it() -> None:
    made = plan("domain_expert", tokens=replace(ROWS, longest_row=500))
    assert value(made, "num_epochs") == (10, "preset")
    assert value(made, "learning_rate") == (1e-5, "preset")
    assert value(made, "batch_size") == (16, "preset")
    assert value(made, "max_length") == (512, "preset")
    assert value(made, "training_type") == ("fine_tuning", "preset")


def test_a_cpu_gets_up_to_four_rows_at_once_and_the_batch_is_kept() -> None:
    made = plan("domain_expert")
    assert value(made, "micro_batch_size") == (4, "hardware")
    assert value(made, "batch_size") == (16, "preset")
    assert "4 parts" in made.values["micro_batch_size"].reason


def test_an_odd_batch_is_split_into_even_parts() -> None:
    assert value(plan(batch_size=5), "micro_batch_size")[0] == 3


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp32")])
def test_a_cpu_uses_bf16_only_when_it_multiplies_it_itself(native: bool, expected: str) -> None:
    assert value(plan(hardware=cpu_machine(native_bf16=native)), "precision")[0] == expected


@pytest.mark.parametrize(
    ("capability", "expected"), [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16"), ((5, 2), "fp32")]
)
def test_a_gpu_uses_what_it_computes(capability: tuple[int, int], expected: str) -> None:
    made = plan(hardware=gpu_machine(gpu(20, capability=capability)))
    assert value(made, "precision") == (expected, "hardware")


def test_the_gpu_with_most_free_memory_is_used() -> None:
    made = plan(hardware=gpu_machine(gpu(4), gpu(20, index=1), gpu(20, index=2)))
    assert value(made, "device") == ("cuda:1", "hardware")


def test_checkpointing_stays_off_while_memory_allows_and_goes_on_before_anything_is_refused() -> None:
    roomy = plan("code_assistant", tokens=replace(ROWS, longest_row=1000), hardware=cpu_machine(22))
    assert value(roomy, "gradient_checkpointing") == (False, "hardware")
    plainly = estimate_memory(SMALL, Shape(1, 1024, "bf16", False, 16, "cpu")).total_bytes
    twice = estimate_memory(SMALL, Shape(1, 1024, "bf16", True, 16, "cpu")).total_bytes
    between_gb = (plainly + twice) / 2 / GB / 0.9
    tight = plan("code_assistant", tokens=replace(ROWS, longest_row=1000), hardware=cpu_machine(between_gb))
    assert value(tight, "gradient_checkpointing") == (True, "hardware")
    assert value(tight, "max_length") == value(roomy, "max_length")


# --- length -----------------------------------------------------------------------------------------


def test_the_length_is_lowered_to_the_longest_row() -> None:
    made = plan(tokens=replace(ROWS, longest_row=100))
    assert value(made, "max_length") == (128, "data")
    assert made.left_out_rows == 0


def test_the_length_is_raised_when_many_rows_would_be_left_out() -> None:
    tokens = replace(ROWS, longest_row=900, over_long={128: 600, 256: 50, 512: 10, 1024: 0})
    made = plan(tokens=tokens)
    assert value(made, "max_length") == (512, "data")
    assert "50 rows" in made.values["max_length"].reason
    assert made.left_out_rows == 10
    assert any("10 rows are longer than 512 tokens" in note for note in made.notes)


def test_few_over_long_rows_are_left_out_whole_and_counted() -> None:
    made = plan(tokens=replace(ROWS, longest_row=4000, over_long={256: 20, 512: 5}))
    assert value(made, "max_length") == (256, "preset")
    assert made.left_out_rows == 20
    assert any("2.0%" in note and "left out whole" in note for note in made.notes)


def test_the_length_is_not_raised_beyond_the_model_or_2048() -> None:
    tokens = replace(ROWS, longest_row=9000, over_long={256: 900, 512: 850, 1024: 800, 2048: 700, 4096: 600})
    assert value(plan(tokens=tokens), "max_length")[0] == 2048
    assert value(plan(tokens=tokens, model=replace(SMALL, context_length=1024)), "max_length")[0] == 1024


def test_the_preset_asks_for_more_than_the_model_reads() -> None:
    made = plan(tokens=replace(ROWS, longest_row=600, over_long={128: 10}), model=replace(SMALL, context_length=128))
    assert value(made, "max_length") == (128, "model")


def test_a_raised_length_that_does_not_fit_gives_way_without_asking() -> None:
    tokens = replace(ROWS, longest_row=2000, over_long={256: 500, 512: 400, 1024: 300, 2048: 0})
    big = replace(SMALL, parameters=400_000_000, layers=48, hidden_size=1024, intermediate_size=4096)
    made = plan(tokens=tokens, model=big, hardware=cpu_machine(2.3))
    assert 256 <= made.integer("max_length") < 2048
    assert made.left_out_rows > 0


# --- memory and permission --------------------------------------------------------------------------


def test_full_training_that_does_not_fit_is_refused_with_the_way_on() -> None:
    with pytest.raises(NotEnoughMemory) as refused:
        plan("chat_fine_tune", model=SEVEN_BILLION, hardware=gpu_machine(gpu(40), free_gb=64))
    assert "--allow lora" in refused.value.hint
    assert "40 GB" in refused.value.detail


def test_with_permission_it_becomes_an_adapter_with_ten_times_the_rate() -> None:
    made = plan("chat_fine_tune", model=SEVEN_BILLION, hardware=gpu_machine(gpu(40)), allow="lora")
    assert value(made, "training_type") == ("lora_adaptation", "hardware")
    assert value(made, "learning_rate") == (2e-4, "hardware")
    assert value(made, "batch_size") == (8, "preset")
    assert any("adapter is trained instead" in note for note in made.notes)


def test_permission_is_not_used_while_the_wish_fits() -> None:
    assert value(plan("chat_fine_tune", allow="lora"), "training_type") == ("fine_tuning", "preset")


def test_what_fits_with_no_permission_is_refused_plainly() -> None:
    with pytest.raises(NotEnoughMemory) as refused:
        plan(model=SEVEN_BILLION, hardware=cpu_machine(4), allow="lora shorter cpu")
    assert "--allow" not in refused.value.hint


def test_the_cpu_takes_over_only_with_permission() -> None:
    machine = gpu_machine(gpu(1, capability=(5, 2)), free_gb=64)
    with pytest.raises(NotEnoughMemory) as refused:
        plan("chat_fine_tune", hardware=machine)
    assert "cpu" in refused.value.hint
    made = plan("chat_fine_tune", hardware=machine, allow="cpu")
    assert value(made, "device") == ("cpu", "hardware")


def test_an_unknown_permission_is_refused() -> None:
    with pytest.raises(InvalidValue, match="faster"):
        plan(allow="faster")


def test_the_disk_is_checked_before_any_work() -> None:
    with pytest.raises(NotEnoughDisk, match="free") as refused:
        plan("chat_fine_tune", hardware=cpu_machine(disk_gb=3))
    assert "--allow lora" in refused.value.hint
    made = plan("chat_fine_tune", hardware=cpu_machine(disk_gb=3), allow="lora")
    assert value(made, "training_type") == ("lora_adaptation", "hardware")
    assert any("do not fit on the disk" in note for note in made.notes)


def test_fewer_checkpoints_are_kept_on_a_small_disk() -> None:
    machine = cpu_machine()
    enough = plan("chat_fine_tune", hardware=machine).disk
    small = replace(machine, disk=Disk(GB * 100, enough.total_bytes + GB - 1))
    assert value(plan("chat_fine_tune", hardware=small), "keep_checkpoints") == (1, "hardware")


# --- overrides --------------------------------------------------------------------------------------


def test_what_the_user_sets_wins_and_is_marked() -> None:
    made = plan(num_epochs="7", learning_rate="2e-4", gradient_checkpointing="yes", target_modules="q_proj,v_proj")
    assert value(made, "num_epochs") == (7, "user")
    assert value(made, "learning_rate") == (2e-4, "user")
    assert value(made, "gradient_checkpointing") == (True, "user")
    assert value(made, "target_modules") == (("q_proj", "v_proj"), "user")


def test_changing_the_type_changes_the_learning_rate_unless_that_is_set_too() -> None:
    to_full = plan(training_type="fine_tuning")
    assert value(to_full, "learning_rate") == (3e-5, "user")
    to_adapter = plan("chat_fine_tune", training_type="lora_adaptation")
    assert value(to_adapter, "learning_rate") == (2e-4, "user")
    both = plan("chat_fine_tune", training_type="lora_adaptation", learning_rate=1e-5)
    assert value(both, "learning_rate") == (1e-5, "user")


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(UnknownKey) as refused:
        plan(learnign_rate=1e-4)
    assert refused.value.hint == "Did you mean learning_rate?"


@pytest.mark.parametrize(
    ("key", "given"),
    [
        ("learning_rate", "fast"),
        ("learning_rate", "nan"),
        ("learning_rate", 0),
        ("learning_rate", 10**400),
        ("learning_rate", True),
        ("num_epochs", 0),
        ("num_epochs", 1.5),
        ("num_epochs", None),
        ("batch_size", -4),
        ("max_length", 8),
        ("max_length", 9000),
        ("micro_batch_size", 5),
        ("training_type", "magic"),
        ("training_type", "qlora_adaptation"),
        ("precision", "fp16"),
        ("precision", "int8"),
        ("lora_dropout", 1),
        ("gradient_checkpointing", "perhaps"),
        ("device", "cuda:0"),
        ("device", "cuda"),
        ("target_modules", "../x"),
        ("target_modules", "nonsense"),
        ("target_modules", "q_proj,nonsense"),
        ("seed", -1),
        ("held_out_fraction", 1),
        ("lr_scheduler", ["cosine"]),
    ],
)
def test_an_impossible_value_is_refused_in_a_sentence(key: str, given: object) -> None:
    overrides: dict[str, Any] = {key: given}
    with pytest.raises(InvalidValue) as refused:
        make_plan(request(**overrides))
    assert refused.value.detail.endswith(".")
    assert len(refused.value.detail) < 300


def test_adapter_values_without_an_adapter_are_a_misunderstanding() -> None:
    with pytest.raises(InvalidValue, match="lora_r") as refused:
        plan("chat_fine_tune", lora_r=8)
    assert "training_type=lora_adaptation" in refused.value.hint


def test_settings_are_used_and_named() -> None:
    made = plan(
        settings={"training.seed": 7, "training.threads": 1, "training.held_out_fraction": 0.2, "checkpoints.keep": 3}
    )
    assert value(made, "seed") == (7, "setting")
    assert value(made, "threads") == (1, "setting")
    assert value(made, "keep_checkpoints") == (3, "setting")
    assert made.held_out_rows == 200
    assert "training.seed" in made.values["seed"].reason


# --- data and schedule ------------------------------------------------------------------------------


def test_data_with_nothing_to_learn_is_refused() -> None:
    with pytest.raises(NothingToLearn):
        plan(tokens=replace(ROWS, learned_tokens=0))
    with pytest.raises(DatasetRefused):
        plan(tokens=TokenFacts(0, 0, 0, 0))
    with pytest.raises(NothingToLearn, match="longer than 256"):
        plan(tokens=replace(ROWS, longest_row=9000, over_long={256: 1000, 2048: 1000}), max_length=256)


def test_steps_are_counted_from_the_rows_that_are_left() -> None:
    made = plan("code_assistant", tokens=replace(ROWS, rows_without_learned=100))
    assert (made.train_rows, made.held_out_rows) == (810, 90)
    assert made.total_steps == 5 * 203
    assert plan("code_assistant", max_steps=12).total_steps == 12


def test_a_file_that_says_which_rows_are_held_out_is_obeyed() -> None:
    made = plan(tokens=replace(ROWS, rows=180, train_rows=150, held_out_rows=30))
    assert (made.train_rows, made.held_out_rows) == (150, 30)
    assert value(made, "held_out_fraction")[1] == "data"


def test_very_small_data_still_gives_a_sensible_run_and_a_warning() -> None:
    made = plan(tokens=TokenFacts(60, 6000, 3000, 120))
    assert made.train_rows == 54
    assert made.total_steps == 14
    assert made.integer("eval_every") >= 1
    assert any("very small" in note for note in made.notes)
    assert any("14 steps" in note for note in made.notes)


def test_a_handful_of_rows_is_not_refused() -> None:
    made = plan(tokens=TokenFacts(3, 300, 100, 120))
    assert made.train_rows + made.held_out_rows == 3
    assert made.total_steps >= 1


def test_without_held_out_rows_nothing_is_measured_and_that_is_said() -> None:
    made = plan("code_assistant", held_out_fraction=0)
    assert (made.integer("eval_every"), made.integer("patience")) == (0, 0)
    assert any("nobody can tell" in note for note in made.notes)


def test_early_stopping_is_on_from_three_epochs() -> None:
    assert value(plan(), "patience") == (0, "preset")
    assert value(plan("chat_fine_tune"), "patience") == (3, "setting")
    assert value(plan(num_epochs=3), "patience") == (3, "setting")


@pytest.mark.parametrize("epochs", [3, 4, 5, 7, 20])
@pytest.mark.parametrize("rows", [60, 300, 20_000])
def test_from_three_epochs_on_a_run_that_gains_nothing_can_be_ended_before_its_end(epochs: int, rows: int) -> None:
    tokens = TokenFacts(rows=rows, total_tokens=rows * 80, learned_tokens=rows * 40, longest_row=120)
    made = plan(tokens=tokens, num_epochs=epochs)
    on_the_way = (made.total_steps - 1) // made.integer("eval_every")
    assert made.integer("patience") == 3
    assert on_the_way > made.integer("patience")


# --- presets ----------------------------------------------------------------------------------------


def test_presets_that_fit_are_recommended_first_each_with_a_verdict() -> None:
    listed = recommend(PRESETS.values(), cpu_machine(7))
    keys = [preset.key for preset, _ in listed]
    assert keys[:4] == ["quick_test", "support_chat", "handouts", "chat_fine_tune"]
    assert keys[-1] == "code_assistant" or keys.index("domain_expert") > keys.index("preference")
    verdicts = {preset.key: verdict for preset, verdict in listed}
    assert verdicts["quick_test"].startswith("Fits this machine")
    assert verdicts["domain_expert"].startswith("Too large")
    assert "12 GB" in verdicts["domain_expert"]
    assert "7.0 GB" in verdicts["domain_expert"]


def test_the_best_preset_comes_with_its_reason() -> None:
    assert choose_preset(PRESETS, SMALL, cpu_machine())[0].key == "quick_test"
    assert choose_preset(PRESETS, replace(SMALL, is_code=True), cpu_machine())[0].key == "code_assistant"
    preset, reason = choose_preset(PRESETS, SMALL, gpu_machine(gpu(40)))
    assert preset.key == "chat_fine_tune"
    assert reason


def test_problems_of_the_machine_are_passed_on() -> None:
    machine = cpu_machine()
    broken = Hardware(machine.cpu, machine.memory, machine.disk, problems=("The GPU was lost.",))
    assert "The GPU was lost." in plan(hardware=broken).notes


def test_a_gpu_that_torch_cannot_use_is_never_left_for_the_cpu_unasked() -> None:
    machine = replace(
        gpu_machine(gpu(20)), gpu_refusal=GpuRefusal("The installed torch was built without CUDA.", "Install another.")
    )
    for given in ({}, {"allow": "lora shorter"}, {"allow": "cpu", "device": "cuda:0"}):
        with pytest.raises(GpuUnusable, match="without CUDA") as refused:
            plan(hardware=machine, **given)
        assert refused.value.hint == "Install another."
    asked: list[dict[str, Any]] = [{"device": "cpu"}, {"allow": "cpu"}]
    for given in asked:
        made = plan(hardware=machine, **given)
        assert made.text("device") == "cpu"
        assert any("without CUDA" in note for note in made.notes)


# --- the order in which things give way --------------------------------------------------------------


def on_gpu(free_gb: float, *, bitsandbytes: str | None = "0.48.2", capability: tuple[int, int] = (8, 6)) -> Hardware:
    machine = gpu_machine(gpu(free_gb, capability=capability), free_gb=64)
    return replace(machine, bitsandbytes_version=bitsandbytes)


def test_what_does_not_fit_as_an_adapter_is_asked_about_on_four_bits() -> None:
    with pytest.raises(NotEnoughMemory) as refused:
        plan("code_assistant", model=SEVEN_BILLION, hardware=on_gpu(10))
    assert refused.value.allow == ("qlora",)
    assert "--allow qlora" in refused.value.hint
    made = plan("code_assistant", model=SEVEN_BILLION, hardware=on_gpu(10), allow="qlora")
    assert value(made, "training_type") == ("qlora_adaptation", "hardware")
    assert value(made, "learning_rate") == (1e-4, "preset")
    assert value(made, "batch_size") == (4, "preset")
    assert made.fixed["base_precision"].value == "nf4"
    assert any("four bits" in note for note in made.notes)
    assert made.memory.total_bytes <= 0.9 * 10 * GB


def test_all_weights_give_way_to_an_adapter_before_four_bits() -> None:
    both = "lora qlora"
    roomy = plan("chat_fine_tune", model=SEVEN_BILLION, hardware=on_gpu(40), allow=both)
    assert value(roomy, "training_type")[0] == "lora_adaptation"
    tight = plan("chat_fine_tune", model=SEVEN_BILLION, hardware=on_gpu(10), allow=both)
    assert value(tight, "training_type")[0] == "qlora_adaptation"
    assert value(tight, "learning_rate") == (2e-4, "hardware")
    assert value(tight, "lora_r") == (16, "hardware")
    assert "instead of all weights" in tight.values["lora_alpha"].reason


def test_four_bits_without_their_library_or_gpu_are_refused_with_what_to_do() -> None:
    for given in ({"allow": "qlora"}, {"training_type": "qlora_adaptation"}):
        with pytest.raises(PackageMissing) as missing:
            plan("code_assistant", model=SEVEN_BILLION, hardware=on_gpu(10, bitsandbytes=None), **given)
        assert "btmctl doctor" in missing.value.hint
    for machine in (cpu_machine(), on_gpu(40, capability=(5, 2))):
        with pytest.raises(InvalidValue, match="NVIDIA GPU") as refused:
            plan(hardware=machine, training_type="qlora_adaptation")
        assert "lora_adaptation" in refused.value.hint


def test_what_fits_with_several_changes_names_all_of_them() -> None:
    tokens = replace(ROWS, longest_row=500, over_long={64: 950, 128: 600, 256: 500})
    with pytest.raises(NotEnoughMemory) as refused:
        plan("chat_fine_tune", hardware=gpu_machine(gpu(1.2), free_gb=1.5), tokens=tokens)
    assert refused.value.allow
    assert f"--allow {','.join(refused.value.allow)}" in refused.value.hint
    permitted = plan(
        "chat_fine_tune",
        hardware=gpu_machine(gpu(1.2), free_gb=1.5),
        tokens=tokens,
        allow=" ".join(refused.value.allow),
    )
    assert permitted.total_steps


def test_a_value_of_ones_own_that_keeps_it_from_fitting_is_named() -> None:
    with pytest.raises(NotEnoughMemory) as refused:
        plan("code_assistant", max_length=8192, micro_batch_size=4, hardware=cpu_machine(3))
    assert "micro_batch_size=4" in refused.value.detail
    assert "--set micro_batch_size" in refused.value.hint
    with pytest.raises(NotEnoughMemory) as plainly:
        plan("code_assistant", max_length=8192, gradient_checkpointing=False, hardware=cpu_machine(3))
    assert "gradient_checkpointing=false" in plainly.value.detail


def test_the_main_memory_beside_a_gpu_is_looked_at_too() -> None:
    with pytest.raises(NotEnoughMemory, match="beside the GPU") as refused:
        plan(hardware=gpu_machine(gpu(24), free_gb=1.5))
    assert refused.value.allow == ("cpu",)
    assert plan(hardware=gpu_machine(gpu(24), free_gb=1.5), allow="cpu").text("device") == "cpu"
    assert plan(hardware=gpu_machine(gpu(24), free_gb=4)).text("device") == "cuda:0"


def test_a_newer_gpu_is_used_before_an_older_one_with_more_memory() -> None:
    old, new = gpu(40, capability=(6, 1)), gpu(20, index=1, capability=(8, 9))
    assert value(plan(hardware=gpu_machine(old, new)), "device")[0] == "cuda:1"
    assert value(plan(hardware=gpu_machine(old, gpu(0.1, index=1, capability=(8, 9)))), "device")[0] == "cuda:0"


def test_a_gpu_that_was_asked_for_is_the_best_one_and_never_the_processor() -> None:
    old, new = gpu(40, capability=(6, 1)), gpu(20, index=1, capability=(8, 9))
    assert value(plan(hardware=gpu_machine(old, new), device="cuda"), "device") == ("cuda:1", "user")
    with pytest.raises(NotEnoughMemory) as refused:
        plan(hardware=gpu_machine(gpu(0.1)), device="cuda", allow="cpu")
    assert "cpu" not in refused.value.allow


def test_nobody_waits_for_weeks_where_an_adapter_on_the_gpu_was_permitted_too() -> None:
    machine = replace(gpu_machine(gpu(30), free_gb=500), disk=Disk(2000 * GB, 1000 * GB))
    much = TokenFacts(50_000, 12_000_000, 6_000_000, 250)
    given: dict[str, Any] = {"model": SEVEN_BILLION, "hardware": machine, "tokens": much}
    assert plan("chat_fine_tune", allow="cpu", **given).text("device") == "cpu"
    both = plan("chat_fine_tune", allow="cpu lora", **given)
    assert (both.text("training_type"), both.text("device")) == ("lora_adaptation", "cuda:0")


def test_the_weight_of_an_adapter_follows_a_rank_that_was_asked_for() -> None:
    made = plan(lora_r=64)
    assert value(made, "lora_alpha") == (128, "user")
    assert "rank" in made.values["lora_alpha"].reason
    assert value(plan(lora_r=64, lora_alpha=16), "lora_alpha") == (16, "user")
    assert value(plan(), "lora_alpha")[1] == "preset"


# --- compiling, and what cannot be set --------------------------------------------------------------

GPT2 = replace(SMALL, architecture="GPT2LMHeadModel", context_length=1024, linear_layers=())
LONG = replace(ROWS, rows=100_000, total_tokens=25_000_000, learned_tokens=9_000_000)


def test_compiling_is_chosen_only_where_it_repays_itself() -> None:
    compiling = replace(cpu_machine(), has_compiler=True)
    long = plan("code_assistant", model=GPT2, tokens=LONG, hardware=compiling)
    assert value(long, "compile") == (True, "hardware")
    assert "repays" in long.values["compile"].reason
    short = plan(model=GPT2, hardware=compiling)
    assert value(short, "compile") == (False, "hardware")
    assert "saves about" in short.values["compile"].reason
    without = plan("code_assistant", model=GPT2, tokens=LONG)
    assert value(without, "compile") == (False, "hardware")
    assert "compiler" in without.values["compile"].reason
    own = plan("code_assistant", tokens=LONG, hardware=compiling)
    assert value(own, "compile") == (False, "model")
    assert value(plan(compile=True), "compile") == (True, "user")


def test_what_follows_from_the_values_is_told_too() -> None:
    made = plan("domain_expert")
    assert made.fixed["gradient_accumulation"].value == 4
    for key, told in made.fixed.items():
        assert key not in HYPERPARAMETERS
        assert told.reason.endswith("."), key
    assert plan(batch_size=1).fixed["gradient_accumulation"].value == 1
    assert made.fixed["base_precision"].value == "bf16"


def test_what_16_bit_numbers_and_checkpointing_save_is_told() -> None:
    def saved(reason: str) -> float:
        found = re.search(r"([\d.]+) (GB|MB)(?:,| less)", reason)
        assert found, reason
        return float(found[1]) * (1024 if found[2] == "GB" else 1)

    made = plan("code_assistant", tokens=replace(ROWS, longest_row=1000))
    other = Shape(4, 1024, "fp32", False, 16, "cpu")
    difference = estimate_memory(SMALL, other).total_bytes - made.memory.total_bytes
    assert saved(made.values["precision"].reason) * 1024**2 == pytest.approx(difference, rel=0.1)
    assert re.search(r"would save [\d.]+ [GM]B", made.values["gradient_checkpointing"].reason)
    tight = plan("code_assistant", tokens=replace(ROWS, longest_row=1000), gradient_checkpointing=True)
    assert tight.values["gradient_checkpointing"].source == "user"
