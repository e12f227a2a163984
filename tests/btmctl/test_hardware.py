"""btmctl hardware: against a real daemon on this machine, and against the answer of one with GPUs."""

import json
import os
import pwd
from pathlib import Path

import pytest
from msgspec import to_builtins
from msgspec.structs import replace

from btmctl.__main__ import main
from btmd.domain.hardware import GpuProcess, Hardware, Power, TorchBuild
from btmd.planning.machine_words import explain
from btmd.planning.usual_models import largest_models
from tests.btmctl.conftest import Btmctl
from tests.btmctl.small_server import SmallServer
from tests.fixtures.daemon import ThreadedDaemon, config_of
from tests.fixtures.short_folder import short_folder
from tests.planning.given import GB, gpu, gpu_machine


def test_a_real_daemon_tells_its_machine_in_words_and_in_fields(capsys: pytest.CaptureFixture[str]) -> None:
    with short_folder() as folder, ThreadedDaemon(config_of(folder)) as daemon:
        socket = str(daemon.config.socket_path)
        assert main(["hardware", "--socket", socket]) == 0
        said = capsys.readouterr().out
        assert main(["hardware", "--json", "--socket", socket]) == 0
        found = json.loads(capsys.readouterr().out)
    assert "This machine has" in said
    assert "train with adapters" in said
    assert set(found) >= {
        "cpu", "memory", "disk", "gpus", "problems", "power", "torch", "driver_version", "driver_cuda_version",
        "gpu_refusal", "other_gpus", "explained", "largest_models",
    }  # fmt: skip
    assert found["cpu"]["usable_cores"] <= len(os.sched_getaffinity(0))
    assert found["largest_models"].keys() >= {"lora_adaptation", "fine_tuning"}
    assert found["explained"][0].split(".")[0][:20] in said


def answer(hardware: Hardware) -> dict[str, object]:
    largest = {key: to_builtins(value) for key, value in largest_models(hardware).items()}
    return {**to_builtins(hardware), "explained": explain(hardware), "largest_models": largest}


def test_gpus_are_shown_with_those_who_use_them(server: SmallServer, btmctl: Btmctl, tmp_path: Path) -> None:
    uid = os.getuid()
    one = replace(
        gpu(20),
        name="NVIDIA L4",
        temperature_c=61,
        throttle_reasons=("power cap",),
        uncorrected_errors=2,
        processes=(GpuProcess(7, 3 * GB, uid, "python3"), GpuProcess(8, None, 4_000_000_000, "")),
    )
    machine = replace(
        gpu_machine(one),
        power=Power("battery", 50),
        torch=TorchBuild("2.9.0", "12.8"),
        driver_version="580.95.05",
        driver_cuda_version="13.0",
    )
    server.answers("GET", "/hardware", answer(machine))
    code, out, _ = btmctl("hardware")
    assert code == 0
    for text in ("NVIDIA L4", "8.6", "61 °C", "power cap", "580.95.05, CUDA 13.0", "2.9.0, CUDA 12.8", "at 50 %"):
        assert text in out, text
    assert pwd.getpwuid(uid).pw_name in out
    assert "4000000000" in out
    assert "3.0 GB" in out
    assert "MIG" not in out
