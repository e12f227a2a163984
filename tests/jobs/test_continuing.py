"""What an adapter prescribes to the training that goes on from it, and the copy that the training keeps."""

import json
from pathlib import Path

import pytest

from btmd.errors import InvalidValue
from btmd.job_folder import JobFolder
from btmd.jobs.continuing import Start, adapter_sha256, begun_with, has_start, keep_adapter, with_adapter
from btmd.presets.reading import load_builtin_presets


@pytest.fixture
def result(tmp_path: Path) -> Path:
    folder = JobFolder(tmp_path / "first").result
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"r": 8}))
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "training.json").write_text("{}")
    return folder


def test_the_copy_outlives_the_job_it_came_from(tmp_path: Path, result: Path) -> None:
    folder = JobFolder(tmp_path / "second")
    keep_adapter(result, folder)
    for path in result.iterdir():
        path.unlink()
    assert sorted(path.name for path in folder.start.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert (folder.start / "adapter_model.safetensors").read_bytes() == b"weights"
    assert has_start({}, tmp_path, "second")


async def test_nothing_is_left_of_a_job_that_could_not_be_made(tmp_path: Path, result: Path) -> None:
    folder = JobFolder(tmp_path / "second")

    async def refused() -> None:
        async with begun_with(result, folder):
            assert folder.start.is_dir()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await refused()
    assert not folder.path.exists()


def test_a_lost_copy_is_taken_anew_only_from_the_same_adapter(tmp_path: Path, result: Path) -> None:
    told = {"from_job": "first", "adapter_sha256": adapter_sha256(result)}
    assert has_start(told, tmp_path, "second")
    assert (tmp_path / "second" / "start" / "adapter_model.safetensors").read_bytes() == b"weights"
    (result / "adapter_model.safetensors").unlink()
    (result / "adapter_model.safetensors").write_bytes(b"others")
    assert not has_start(told, tmp_path, "third")
    assert not has_start({"from_job": "nothing", "adapter_sha256": ""}, tmp_path, "third")


def test_the_adapter_decides_its_own_values(tmp_path: Path) -> None:
    presets = load_builtin_presets()
    start = Start("first", tmp_path, 8, 16, (), "0" * 64)
    asked = with_adapter(start, {"learning_rate": 1e-4, "lora_r": 8}, presets["quick_test"])
    assert asked == {"learning_rate": 1e-4, "lora_r": 8, "lora_alpha": 16, "target_modules": ()}
    full = next(preset for preset in presets.values() if preset.training_type == "fine_tuning")
    assert with_adapter(start, {}, full)["training_type"] == "lora_adaptation"
    for wrong in ({"lora_r": 4}, {"lora_alpha": 8}, {"target_modules": ["q_proj"]}, {"training_type": "fine_tuning"}):
        with pytest.raises(InvalidValue):
            with_adapter(start, wrong, presets["quick_test"])
