"""A simpler preset in place of one that does not fit: only when it was permitted, and only as a last way."""

from typing import Any

import pytest
from msgspec.structs import replace

from btmd.errors import InvalidValue, NotEnoughMemory
from btmd.planning import Plan, TokenFacts, make_plan
from tests.planning.given import PRESETS, SEVEN_BILLION, cpu_machine, gpu, gpu_machine, request, value

LONG = TokenFacts(1000, 400_000, 200_000, 700, {64: 990, 128: 900, 256: 15, 512: 5})


def simpler_plan(preset: str, **given: Any) -> Plan:
    return make_plan(replace(request(preset, **given), simpler=PRESETS["quick_test"]))


def test_it_is_used_where_nothing_of_the_asked_one_fits() -> None:
    machine = gpu_machine(gpu(40))
    with pytest.raises(NotEnoughMemory):
        simpler_plan("chat_fine_tune", model=SEVEN_BILLION, hardware=machine)
    made = simpler_plan("chat_fine_tune", model=SEVEN_BILLION, hardware=machine, allow="simpler")
    assert made.preset == "quick_test"
    assert value(made, "training_type") == ("lora_adaptation", "preset")
    assert value(made, "learning_rate") == (3e-4, "preset")
    assert made.integer("batch_size") == PRESETS["chat_fine_tune"].batch_size
    assert "The preset Quick Test is used in place of Chat Fine-tuning, as you allowed" in made.notes[0]


def test_it_is_not_used_while_the_asked_one_fits_or_another_permission_is_enough() -> None:
    assert simpler_plan("chat_fine_tune", allow="simpler").preset == "chat_fine_tune"
    made = simpler_plan("chat_fine_tune", model=SEVEN_BILLION, hardware=gpu_machine(gpu(40)), allow="lora simpler")
    assert (made.preset, made.text("training_type")) == ("chat_fine_tune", "lora_adaptation")


def test_of_the_same_type_it_means_shorter_rows_and_never_raised_ones() -> None:
    sizes = [cpu_machine(free / 4) for free in range(80, 20, -1)]
    found = []
    for machine in sizes:
        try:
            found.append(simpler_plan("code_assistant", tokens=LONG, hardware=machine, allow="simpler", model=BIG))
        except NotEnoughMemory:
            break
    lengths = {made.preset: made.integer("max_length") for made in found}
    assert lengths == {"code_assistant": 704, "quick_test": 256}
    # The simpler one comes only below all that the asked one fits in.
    presets = [made.preset for made in found]
    assert presets == sorted(presets)


def test_where_it_does_not_fit_either_the_refusal_is_that_of_the_asked_one() -> None:
    for allow in ("", "simpler"):
        with pytest.raises(NotEnoughMemory) as refused:
            simpler_plan("chat_fine_tune", model=SEVEN_BILLION, hardware=cpu_machine(4), allow=allow)
        assert "Training all weights" in refused.value.detail


def test_what_was_set_still_wins() -> None:
    machine = gpu_machine(gpu(40))
    given: dict[str, Any] = {"model": SEVEN_BILLION, "hardware": machine, "allow": "simpler"}
    made = simpler_plan("chat_fine_tune", **given, num_epochs=7, batch_size=6)
    assert (made.preset, made.integer("num_epochs"), made.integer("batch_size")) == ("quick_test", 7, 6)
    with pytest.raises(NotEnoughMemory):
        simpler_plan("chat_fine_tune", **given, training_type="fine_tuning")
    with pytest.raises(InvalidValue):
        simpler_plan("chat_fine_tune", **{**given, "allow": "simple"})


BIG = replace(SEVEN_BILLION, parameters=3_000_000_000, layers=28, hidden_size=3072, intermediate_size=8192, heads=24)
