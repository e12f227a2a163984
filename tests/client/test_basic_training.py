"""The Python client against a real daemon: the calls of the contract, as they are printed there."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from btmctl import (
    BasicTrainingMode,
    BtmdError,
    DaemonUnreachable,
    PlannedTraining,
    Preset,
    Progress,
    TrainingRefused,
)
from tests.fixtures.daemon import QUICK, ThreadedDaemon, config_of, end_trainers, rows
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def daemon() -> Iterator[ThreadedDaemon]:
    with short_folder() as folder, ThreadedDaemon(config_of(folder)) as running:
        running.client.patch("/settings", {"changes": QUICK}).ok()
        running.client.add_model(make_tiny_llama(folder / "tiny"))
        running.client.add_dataset(rows())
        yield running
        end_trainers(running.config.jobs_dir)


@pytest.fixture
def training(daemon: ThreadedDaemon) -> BasicTrainingMode:
    return BasicTrainingMode(daemon.config.socket_path)


def test_the_calls_of_the_contract(training: BasicTrainingMode) -> None:
    async def begin() -> str:
        presets = await training.get_recommended_presets()
        assert {"quick_test", "preference"} <= {one.key for one in presets}
        preset = await training.get_preset_for_model("tiny")
        assert isinstance(preset, Preset)
        assert preset.name in {one.name for one in presets}
        job = await training.start_basic_training(
            model_id="tiny", dataset_id="facts", preset_name="Quick Test", overrides={"max_steps": 4}
        )
        assert (job.status, job.state) == ("Getting ready...", "queued")
        return job.job_id

    job_id = asyncio.run(begin())
    while (result := training.get_training_result(job_id)) is None:
        progress = training.get_training_progress(job_id)
        assert 0 <= progress.progress_percentage <= 100
        assert progress.estimated_remaining
    assert result.success, result.performance_summary
    assert (result.job_id, result.model_name) == (job_id, "tiny")
    assert Path(str(result.model_path)).is_dir()
    assert training.cancel_training(job_id) is False
    assert training.get_training_progress(job_id).status == "Training completed!"


def test_backups_of_the_contract(training: BasicTrainingMode, daemon: ThreadedDaemon) -> None:
    daemon.client.patch("/settings", {"changes": {"training.seed": 7}}).ok()
    backup = training.create_system_backup("Before the experiment")
    assert backup.description == "Before the experiment"
    assert training.list_system_backups()[0].backup_id == backup.backup_id
    daemon.client.patch("/settings", {"changes": {"training.seed": 8}}).ok()
    assert training.restore_system_backup(backup.backup_id) is True
    assert daemon.client.get("/settings/training.seed").ok()["value"] == 7
    assert training.delete_system_backup(backup.backup_id) is True
    assert training.reset_to_factory_defaults(preserve_user_data=True) is True
    assert daemon.client.get("/settings/training.seed").ok()["value"] == 42


def test_a_plan_starts_nothing(training: BasicTrainingMode, daemon: ThreadedDaemon) -> None:
    before = len(daemon.client.get("/jobs").ok())
    planned = asyncio.run(training.start_basic_training("tiny", "facts", dry_run=True))
    assert isinstance(planned, PlannedTraining)
    assert planned.plan["forecast_texts"]["time"]
    assert len(daemon.client.get("/jobs").ok()) == before


def test_refusals_carry_what_the_daemon_said(training: BasicTrainingMode, daemon: ThreadedDaemon) -> None:
    daemon.client.add_dataset(rows(31), "closed", consent=False)
    with pytest.raises(TrainingRefused) as refused:
        asyncio.run(training.start_basic_training(model_id="tiny", dataset_id="closed"))
    assert (refused.value.code, refused.value.status) == ("consent_missing", 409)
    assert "consent" in refused.value.hint
    with pytest.raises(TrainingRefused) as missing:
        training.get_training_progress("nobody")
    assert (missing.value.code, missing.value.status) == ("job_not_found", 404)
    with pytest.raises(TrainingRefused):
        training.get_training_result("nobody")
    with pytest.raises(TrainingRefused):
        training.cancel_training("nobody")
    for name in ("", "a/b", "ä \0"):
        with pytest.raises(BtmdError):
            training.get_training_result(name)


def test_a_missing_daemon_is_told(tmp_path: Path) -> None:
    with pytest.raises(DaemonUnreachable) as missing:
        BasicTrainingMode(tmp_path / "sock").list_system_backups()
    assert (missing.value.code, bool(missing.value.hint)) == ("unreachable", True)


def test_what_the_daemon_says_beside_the_contract_is_kept(training: BasicTrainingMode) -> None:
    job_id = asyncio.run(
        training.start_basic_training("tiny", "facts", "quick_test", overrides={"max_steps": 4})
    ).job_id
    progress = training.get_training_progress(job_id)
    assert "tokens_per_second" in progress.more
    assert not {one.name for one in fields(Progress)} & set(progress.more)
    assert training.cancel_training(job_id) is True


def test_it_imports_nothing_heavy_and_the_command_line_not_even_that() -> None:
    first = "import sys, btmctl; assert 'btmctl.basic_training' not in sys.modules"
    program = f"{first}; btmctl.BasicTrainingMode; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    heavy = {"torch", "transformers", "sqlmodel", "sqlalchemy", "starlette", "uvicorn", "numpy"}
    assert not heavy & set(loaded.stdout.split())


def test_the_examples_run(daemon: ThreadedDaemon) -> None:
    environment = {**os.environ, "BTMD_SOCKET": str(daemon.config.socket_path)}

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            env=environment,
            cwd=ROOT,
            input="\n",
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    daemon.client.patch("/settings", {"changes": {"training.preset": "quick_test"}}).ok()
    assert "It should take" in run("examples/train_a_model.py", "tiny", "facts")
    assert "as they were before" in run("examples/experiment_and_go_back.py")
