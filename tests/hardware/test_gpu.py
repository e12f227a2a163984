"""GPUs from a driver that answers, lies, loses them or is not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from btmd.hardware.gpu import read_gpus
from btmd.hardware.nvml import load_nvml
from tests.hardware.machines import machine
from tests.hardware.recorded_nvml import GB, RecordedNvml, loaded, missing


def with_pci(root: Path, vendor: str, kind: str = "0x030000") -> Path:
    return machine(root, {"sys/bus/pci/devices/0/vendor": vendor + "\n", "sys/bus/pci/devices/0/class": kind + "\n"})


def test_a_machine_without_a_gpu_says_nothing_about_one(tmp_path: Path) -> None:
    found = read_gpus(tmp_path, missing)
    assert (found.gpus, found.problems, found.other_gpus) == ((), (), ())


def test_a_library_that_is_not_there_is_no_reason_to_fail() -> None:
    assert load_nvml("libnvidia-ml-which-nobody-has.so.1") is None


def test_the_library_is_only_imported_where_it_can_do_something() -> None:
    code = (
        "import sys\nfrom btmd.hardware.nvml import load_nvml\n"
        "found = load_nvml('libnvidia-ml-which-nobody-has.so.1')\n"
        "assert found is None and 'pynvml' not in sys.modules\n"
        "found = load_nvml('libc.so.6')\nassert found is not None and 'pynvml' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_driver_without_a_device_breaks_nothing(tmp_path: Path) -> None:
    nvml = RecordedNvml(count=0)
    found = read_gpus(tmp_path, loaded(nvml))
    assert (found.gpus, found.driver_version, found.driver_cuda_version) == ((), "580.95.05", "13.0")
    assert nvml.open == 0


@pytest.mark.parametrize("init", [0, RecordedNvml.NVML_ERROR_DRIVER_NOT_LOADED])
def test_a_gpu_without_a_driver_is_named(tmp_path: Path, init: int) -> None:
    root = with_pci(tmp_path, "0x10de", "0x030200")
    found = read_gpus(root, loaded(RecordedNvml(init=init)) if init else missing)
    assert found.gpus == ()
    assert "driver" in found.problems[0]


def test_device_files_that_are_closed_are_told_apart_from_a_missing_driver(tmp_path: Path) -> None:
    nvml = RecordedNvml(init=RecordedNvml.NVML_ERROR_NO_PERMISSION)
    found = read_gpus(with_pci(tmp_path, "0x10de"), loaded(nvml))
    assert "may not use it" in found.problems[0]


def test_an_updated_driver_asks_for_a_restart(tmp_path: Path) -> None:
    nvml = RecordedNvml(init=RecordedNvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
    assert "restart" in read_gpus(tmp_path, loaded(nvml)).problems[0]


def test_everything_a_gpu_tells_is_read(tmp_path: Path) -> None:
    nvml = RecordedNvml(count=1, ecc_errors=0, throttle=0x1 | 0x20 | 0x4)
    (gpu,) = read_gpus(tmp_path, loaded(nvml)).gpus
    assert (gpu.name, gpu.uuid) == ("NVIDIA GeForce RTX 4090", "GPU-0")
    assert (gpu.total_bytes, gpu.free_bytes, gpu.used_bytes) == (24 * GB, 20 * GB, 4 * GB)
    assert (gpu.compute_capability, gpu.native_bf16, gpu.utilization) == ((8, 9), True, 37.0)
    assert (gpu.temperature_c, gpu.temperature_limit_c) == (61, 93)
    assert gpu.throttle_reasons == ("power cap", "thermal")
    assert (gpu.ecc_enabled, gpu.uncorrected_errors, gpu.mig_instances) == (True, 0, ())
    assert [(process.pid, process.used_bytes) for process in gpu.processes] == [(3, 200 * 1024**2), (7, GB), (8, None)]
    assert nvml.open == 0


def test_whose_processes_use_a_gpu_is_told_where_the_kernel_shows_it(tmp_path: Path) -> None:
    status = "Name:\tpython3\nState:\tR (running)\nUid:\t1005\t1005\t1005\t1005\n"
    root = machine(tmp_path, {"proc/7/status": status, "proc/7/comm": "python3\n"})
    (gpu,) = read_gpus(root, loaded(RecordedNvml(count=1))).gpus
    assert [(process.pid, process.uid, process.name) for process in gpu.processes] == [
        (3, None, ""),
        (7, 1005, "python3"),
        (8, None, ""),
    ]


def test_a_process_of_this_machine_is_named_with_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = RecordedNvml(count=1)
    monkeypatch.setattr("tests.hardware.recorded_nvml._process", lambda pid, used: SimpleProcess())
    (gpu,) = read_gpus(Path("/"), loaded(nvml)).gpus
    (process,) = gpu.processes
    assert (process.pid, process.uid) == (os.getpid(), os.getuid())
    assert process.name


class SimpleProcess:
    pid = os.getpid()
    usedGpuMemory = 1


def test_a_gpu_that_tells_only_its_memory_is_still_used(tmp_path: Path) -> None:
    (gpu,) = read_gpus(tmp_path, loaded(RecordedNvml(count=1, bare=True))).gpus
    assert (gpu.utilization, gpu.temperature_c, gpu.processes, gpu.native_bf16) == (None, None, (), False)
    assert (gpu.ecc_enabled, gpu.throttle_reasons) == (None, ())


def test_a_gpu_that_is_split_offers_the_memory_of_its_first_part(tmp_path: Path) -> None:
    (gpu,) = read_gpus(tmp_path, loaded(RecordedNvml(count=1, split=2))).gpus
    assert (gpu.total_bytes, gpu.free_bytes, gpu.used_bytes, gpu.uuid) == (10 * GB, 6 * GB, 4 * GB, "MIG-0")
    assert [instance.uuid for instance in gpu.mig_instances] == ["MIG-0", "MIG-1"]


def test_a_gpu_that_is_to_be_split_but_has_no_part_is_not_used(tmp_path: Path) -> None:
    found = read_gpus(tmp_path, loaded(RecordedNvml(count=1, split=0)))
    assert found.gpus == ()
    assert "MIG" in found.problems[0]


def test_memory_errors_that_could_not_be_mended_are_told(tmp_path: Path) -> None:
    found = read_gpus(tmp_path, loaded(RecordedNvml(count=1, ecc_errors=3)))
    assert found.gpus[0].uncorrected_errors == 3
    assert "3 memory errors" in found.problems[0]


def test_a_lost_gpu_is_named_and_the_others_are_used(tmp_path: Path) -> None:
    found = read_gpus(tmp_path, loaded(RecordedNvml(count=3, lost=(1,))))
    assert [gpu.index for gpu in found.gpus] == [0, 2]
    assert "GPU 1" in found.problems[0]
    assert "lost" in found.problems[0]


def test_a_gpu_lost_at_any_moment_of_being_read_is_not_used(tmp_path: Path) -> None:
    whole = RecordedNvml(count=1, ecc_errors=0, split=2)
    assert len(read_gpus(tmp_path, loaded(whole)).gpus) == 1
    for questions in range(whole.asked):
        nvml = RecordedNvml(count=1, ecc_errors=0, split=2, lost_after=questions)
        found = read_gpus(tmp_path, loaded(nvml))
        assert found.gpus == (), questions
        assert "lost" in found.problems[0]
        assert nvml.open == 0


def test_gpus_of_other_makers_are_named(tmp_path: Path) -> None:
    found = read_gpus(with_pci(tmp_path, "0x1002"), missing)
    assert (found.other_gpus, found.problems) == (("AMD",), ())
    network_card = with_pci(tmp_path / "other", "0x1002", "0x020000")
    assert read_gpus(network_card, missing).other_gpus == ()
