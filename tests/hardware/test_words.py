"""What a machine means for training, in words: what is said, and what is not."""

import pytest
from msgspec.structs import replace

from btmd.domain.hardware import Disk, Gpu, GpuInstance, GpuProcess, GpuRefusal, Hardware, Memory, Power
from btmd.planning.machine_words import explain
from btmd.planning.usual_models import USUAL_MODELS, largest_models
from tests.planning.given import GB, cpu_machine, gpu, gpu_machine


def words(hardware: Hardware) -> str:
    found = explain(hardware)
    for sentence in found:
        assert sentence.endswith("."), sentence
        assert "None" not in sentence
    return "\n".join(found)


def test_a_small_machine_without_a_gpu() -> None:
    said = words(cpu_machine(22))
    assert said.startswith("This machine has 2 processor cores with native bf16 and 24 GB of memory, of which 22 GB")
    assert "It has no GPU" in said
    assert "billion weights train with adapters in reasonable time" in said
    assert "A GPU is worth it" in said
    assert "QLoRA" not in said
    assert "bf16" not in words(cpu_machine(22, native_bf16=False))


def test_a_machine_with_too_little_memory_is_not_praised() -> None:
    said = words(cpu_machine(0.4))
    assert "No model of a usual size can train with adapters" in said
    assert "No model of a usual size can train in full" in said


def test_limits_are_named_with_what_holds_back() -> None:
    machine = cpu_machine(8)
    limited = replace(
        machine,
        cpu=replace(machine.cpu, physical_cores=32, usable_cores=2, quota_cores=2.0),
        memory=Memory(12 * GB, 8 * GB, 12 * GB),
    )
    said = words(limited)
    assert "It has 32 cores, but the control group that btmd runs in grants 2 of them." in said
    assert "limited to 12 GB" in said
    pinned = replace(machine, cpu=replace(machine.cpu, physical_cores=32, usable_cores=4))
    assert "btmd may run on 4 of them" in words(pinned)


def test_a_gpu_with_who_uses_it_and_how_it_feels() -> None:
    one = replace(
        gpu(20),
        processes=(GpuProcess(7, 4 * GB, 1000, "ollama"), GpuProcess(8, None)),
        temperature_c=91,
        temperature_limit_c=93,
        throttle_reasons=("thermal",),
    )
    said = words(gpu_machine(one))
    assert "process 7 (ollama) with 4.0 GB, process 8: ending them frees memory" in said
    assert "slower than it could just now: thermal" in said
    assert "91 °C" in said
    assert "QLoRA" in said
    assert "A GPU is worth it" not in said
    calm = words(gpu_machine(replace(one, temperature_c=60, throttle_reasons=(), processes=())))
    assert "slower" not in calm
    assert "°C" not in calm
    assert "also used" not in calm


def test_a_gpu_in_parts_and_one_that_cannot_be_used() -> None:
    parts = (GpuInstance("MIG-1", 10 * GB, 9 * GB), GpuInstance("MIG-2", 10 * GB, 9 * GB))
    assert "split into 2 parts (MIG)" in words(gpu_machine(replace(gpu(9), mig_instances=parts)))
    refused = replace(gpu_machine(gpu(20)), gpu_refusal=GpuRefusal("Torch was built without CUDA.", "Install it anew."))
    said = words(refused)
    assert "without CUDA. Install it anew." in said
    assert "QLoRA" not in said


def test_other_kinds_of_gpus_disks_and_batteries() -> None:
    machine = replace(
        cpu_machine(),
        other_gpus=("AMD",),
        disk=Disk(100 * GB, 5 * GB, "nfs4"),
        power=Power("battery", 41),
        problems=("GPU 0 was lost.",),
    )
    said = words(machine)
    for text in ("The AMD GPU", "Only 5.0 GB", "another machine's disk", "battery (41 %)", "GPU 0 was lost."):
        assert text in said
    assert "after a restart" in words(replace(machine, disk=Disk(100 * GB, 50 * GB, "tmpfs")))


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_more_memory_never_makes_the_largest_model_smaller(kind: str) -> None:
    before: dict[str, int] = {}
    for free_gb in (0.5, 1, 2, 4, 8, 16, 24, 48, 96, 192):
        machine = cpu_machine(free_gb) if kind == "cpu" else gpu_machine(gpu(free_gb))
        found = largest_models(machine)
        for training_type, largest in found.items():
            assert largest.in_reasonable_time <= largest.in_memory
            assert largest.in_memory >= before.get(training_type, 0)
            before[training_type] = largest.in_memory
        assert found["fine_tuning"].in_memory <= found["lora_adaptation"].in_memory
        if kind == "gpu":
            assert found["lora_adaptation"].in_memory <= found["qlora_adaptation"].in_memory
    assert before["lora_adaptation"] == USUAL_MODELS[-1].parameters


def test_the_first_gpu_is_not_the_only_one_named() -> None:
    said = words(gpu_machine(gpu(20), Gpu(1, "Another", 9 * GB, 8 * GB, GB, (7, 5))))
    assert "GPU 0 is GPU 0" in said
    assert "GPU 1 is Another with 9.0 GB, 8.0 GB free. It computes fp16, but not bf16." in said
