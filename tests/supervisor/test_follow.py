"""Following a trainer where something is in the way."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from btmd.jobs import attempt
from tests.fixtures.daemon import QUICK, ThreadedDaemon, config_of, end_trainers, rows, trainer_pid
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

SHORT = {"max_steps": 3, "sample_answers": 0, "eval_every": 0}
LONG = {"num_epochs": 1000, "max_steps": 20_000, "sample_answers": 0, "eval_every": 0}


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


def test_without_file_watches_and_after_an_error_of_our_own_the_job_is_still_followed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([RuntimeError("once")])
    observe = attempt.observe

    def watchless(_: Path) -> None:
        raise OSError(24, "the kernel grants no more file watches")

    def failing_once(*given: Any) -> Any:
        for failure in failures:
            raise failure
        return observe(*given)

    monkeypatch.setattr(attempt, "FolderWatch", watchless)
    monkeypatch.setattr(attempt, "observe", failing_once)
    with ThreadedDaemon(config_of(folder)) as daemon:
        client = daemon.client
        client.patch("/settings", {"changes": QUICK}).ok()
        client.add_model(make_tiny_llama(folder / "tiny"))
        client.add_dataset(rows())
        job_id = client.start(overrides=SHORT)
        job = client.wait_until(job_id, "completed")
        assert job["attempt"] == 1
        end = time.monotonic() + 60
        while client.get("/status").ok()["problems"]:
            assert time.monotonic() < end, "the trouble was not taken back"
            time.sleep(0.1)
        end_trainers(daemon.config.jobs_dir)
    assert next(failures, None) is None


def test_a_job_whose_folder_was_taken_away_begins_anew_and_can_be_cancelled(folder: Path) -> None:
    with ThreadedDaemon(config_of(folder)) as daemon:
        client, jobs_dir = daemon.client, daemon.config.jobs_dir
        client.patch("/settings", {"changes": QUICK}).ok()
        client.add_model(make_tiny_llama(folder / "tiny"))
        client.add_dataset(rows())
        job_id = client.start(overrides=LONG)
        client.wait_for(job_id, lambda job: job["step"] >= 1)
        first = trainer_pid(jobs_dir, job_id)
        (jobs_dir / job_id).rename(folder / "taken")
        client.wait_for(job_id, lambda job: job["attempt"] == 2 and job["state"] == "training")
        assert not Path(f"/proc/{first}").exists()
        assert "folder" in client.job(job_id)["attempts"][0]["text"]
        client.post(f"/jobs/{job_id}/cancel").ok()
        end = time.monotonic() + 60
        while client.job(job_id)["state"] != "cancelled":
            assert time.monotonic() < end
            time.sleep(0.05)
        end_trainers(jobs_dir)
