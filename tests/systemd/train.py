"""The training of the systemd check: ``begin SOCKET FOLDER``, ``trainer SOCKET JOB``, ``finish SOCKET JOB``."""

import sys
from pathlib import Path

from tests.fixtures.daemon import QUICK, Client, rows, trainer_pid
from tests.fixtures.tiny_model import make_tiny_llama

STEPS = 400


def begin(client: Client, folder: Path) -> str:
    """Add a tiny model and a dataset, start a job, and wait until it learns."""
    client.patch("/settings", {"changes": QUICK}).ok()
    client.add_model(make_tiny_llama(folder / "tiny"))
    client.add_dataset(rows())
    overrides = {"num_epochs": 200, "max_steps": STEPS, "eval_every": 200, "save_every": 100, "sample_answers": 0}
    job_id = client.start(overrides=overrides)
    client.wait_for(job_id, lambda job: job["step"] >= 5)
    return job_id


def finish(client: Client, job_id: str) -> None:
    """Wait for the end and check that nothing was lost on the way."""
    job = client.wait_until(job_id, "completed")
    assert job["attempt"] == 1, job["attempts"]
    steps = [step for tick in client.ticks(job_id) for step in tick["steps"]]
    assert steps == list(range(1, STEPS + 1))


def main() -> None:
    what, path, given = sys.argv[1:]
    client = Client(Path(path))
    if what == "begin":
        print(begin(client, Path(given)))
    elif what == "trainer":
        state = Path(client.get("/health").ok()["state_dir"])
        print(trainer_pid(state / "jobs", given))
    else:
        finish(client, given)


if __name__ == "__main__":
    main()
