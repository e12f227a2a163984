"""A trainer that is ended for what was found about it leaves no checkpoint, and is taken up again."""

import os
import signal

import anyio.from_thread

from btmd.domain.warning import CRITICAL, Finding
from btmd.job_folder import JobFolder
from tests.fixtures.daemon import QUICK, ThreadedDaemon, config_of, end_trainers, rows, trainer_pid
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

LONG = {"num_epochs": 1000, "max_steps": 20_000, "sample_answers": 0, "eval_every": 0, "save_every": 20_000}


def test_a_trainer_that_was_stopped_is_ended_and_another_one_is_started() -> None:
    with short_folder() as folder, ThreadedDaemon(config_of(folder)) as daemon:
        client, jobs_dir = daemon.client, daemon.config.jobs_dir
        client.patch("/settings", {"changes": QUICK}).ok()
        client.add_model(make_tiny_llama(folder / "tiny"))
        client.add_dataset(rows())
        job_id = client.start(overrides=LONG)
        client.wait_for(job_id, lambda job: job["step"] >= 1)
        os.kill(trainer_pid(jobs_dir, job_id), signal.SIGSTOP)
        found = Finding("hung", CRITICAL, {"cause": "stopped", "silent_s": 99.0}, stops=True)
        supervisor = daemon.daemon.assembly.supervisor
        anyio.from_thread.run_sync(supervisor.intervene, job_id, found, 1, token=daemon._token)
        job = client.wait_for(job_id, lambda job: job["attempt"] == 2 and job["state"] == "training")
        assert [one["ended"] for one in job["attempts"]] == ["hung", ""]
        assert job["attempts"][0]["text"].startswith("The training process was stopped by a signal")
        [failed] = [one for one in job["recoveries"] if one["kind"] == "failed"]
        assert failed["evidence"]["silent_s"] == 99.0
        assert list(JobFolder(jobs_dir / job_id).checkpoints.glob("step-*")) == []
        client.post(f"/jobs/{job_id}/cancel").ok()
        end_trainers(jobs_dir)
