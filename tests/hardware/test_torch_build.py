"""Torch, driver and GPU that fit each other, and those that do not: each told apart, with what mends it."""

from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from btmd.domain.hardware import Gpu, TorchBuild
from btmd.hardware import probe
from btmd.hardware.torch_build import judge_torch, read_torch_build
from tests.hardware.recorded_nvml import RecordedNvml, loaded

GB = 1024**3


def gpus(*capabilities: tuple[int, int]) -> tuple[Gpu, ...]:
    return tuple(
        Gpu(index, "An NVIDIA GPU", 24 * GB, 20 * GB, 0, capability) for index, capability in enumerate(capabilities)
    )


def installed(folder: Path, version: str, written: str | None) -> TorchBuild | None:
    """What is read of a torch with this version and this ``torch/version.py``."""
    info = folder / f"torch-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
    if written is not None:
        (folder / "torch").mkdir()
        (folder / "torch" / "version.py").write_text(written)
    return read_torch_build(lambda name: metadata.Distribution.at(info))


def test_the_installed_torch_is_read_as_it_tells_itself() -> None:
    found = read_torch_build()
    assert found is not None
    # The mark of a build, such as +cu130, is not in the version of the packages that come from the index.
    assert found.version.partition("+")[0] == torch.__version__.partition("+")[0]
    assert found.cuda_version == (torch.version.cuda or "")


@pytest.mark.parametrize(
    ("version", "written", "cuda"),
    [
        ("2.8.0", "__version__ = '2.8.0+cu128'\ncuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n", "12.8"),
        ("2.5.1+cu124", "cuda = '12.4'\n", "12.4"),
        ("2.13.0+cpu", "cuda: Optional[str] = None\n", ""),
        ("2.9.0+cu130", None, "13.0"),
        ("2.9.0+rocm6.4", None, ""),
    ],
)
def test_the_cuda_of_a_build_is_read_from_its_files(
    tmp_path: Path, version: str, written: str | None, cuda: str
) -> None:
    found = installed(tmp_path, version, written)
    assert found == TorchBuild(version, cuda)


def test_without_torch_there_is_nothing_to_read() -> None:
    def absent(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    assert read_torch_build(absent) is None


@pytest.mark.parametrize(
    ("built", "capability", "driver"),
    [
        ("12.8", (8, 6), "13.0"),
        ("12.8", (8, 6), "12.2"),
        ("13.0", (9, 0), "13.0"),
        ("12.6", (6, 1), "12.8"),
        ("12.8", (12, 0), "12.8"),
        ("12.8", (0, 0), ""),
    ],
)
def test_what_fits_is_not_refused(built: str, capability: tuple[int, int], driver: str) -> None:
    assert judge_torch(TorchBuild("2.9", built), gpus(capability), driver) is None


@pytest.mark.parametrize(
    ("built", "capability", "driver", "said", "index"),
    [
        ("", (8, 6), "12.4", "without CUDA", "whl/cu128"),
        ("", (8, 6), "13.0", "without CUDA", "whl/cu130"),
        ("", (6, 1), "13.0", "without CUDA", "whl/cu128"),
        ("13.0", (8, 6), "12.4", "needs CUDA 13.0", "whl/cu128"),
        ("13.0", (6, 1), "13.0", "no code for", "whl/cu128"),
        ("12.6", (12, 0), "13.0", "no code for", "whl/cu130"),
        ("12.6", (12, 0), "12.8", "no code for", "whl/cu128"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_command_that_mends_it(
    built: str, capability: tuple[int, int], driver: str, said: str, index: str
) -> None:
    refusal = judge_torch(TorchBuild("2.9", built), gpus(capability), driver)
    assert refusal is not None
    assert said in refusal.detail
    assert index in refusal.remedy
    assert "--set device=cpu" in refusal.remedy


def test_an_old_driver_is_told_which_one_would_do() -> None:
    refusal = judge_torch(TorchBuild("2.9", "13.0"), gpus((8, 6)), "12.4")
    assert refusal is not None
    assert "580" in refusal.remedy


def test_one_gpu_that_can_be_used_is_enough_and_none_is_nothing_to_refuse() -> None:
    assert judge_torch(TorchBuild("2.9", "13.0"), gpus((6, 1), (8, 6)), "13.0") is None
    assert judge_torch(TorchBuild("2.9", ""), (), "13.0") is None
    assert judge_torch(None, gpus((8, 6)), "13.0") is None


def test_a_machine_is_read_with_the_verdict_on_its_torch(tmp_path: Path) -> None:
    found = probe(tmp_path, tmp_path, loaded(RecordedNvml(count=1)), lambda: TorchBuild("2.13.0+cpu"))
    assert found.gpu_refusal is not None
    assert "without CUDA" in found.gpu_refusal.detail
    assert found.best_gpu is None
    fitting = probe(tmp_path, tmp_path, loaded(RecordedNvml(count=1)), lambda: TorchBuild("2.9", "12.8"))
    assert fitting.gpu_refusal is None
    assert fitting.torch == TorchBuild("2.9", "12.8")


def test_a_gpu_too_old_for_torch_is_left_out_beside_one_that_is_not(tmp_path: Path) -> None:
    class OldAndNew(RecordedNvml):
        def nvmlDeviceGetCudaComputeCapability(self, handle: Any) -> Any:
            return (6, 1) if handle == 0 else (8, 9)

    found = probe(tmp_path, tmp_path, loaded(OldAndNew(count=2)), lambda: TorchBuild("2.9", "13.0"))
    assert [gpu.index for gpu in found.gpus] == [1]
    assert "GPU 0" in found.problems[0]
    assert found.gpu_refusal is None
