"""Real failures of real trainers on the CPU: each ends with a completed job and a true account, or one clear question.

The first few belong to the ordinary tests; all of them run with BTMD_PROOF=1, and are recorded then.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from benchmarks.results import Figure, Topic, record
from btmd.job_folder import JobFolder
from tests.fixtures.daemon import QUICK, Client, DaemonProcess, config_of, rows, trainer_pid
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

PROOF = bool(os.environ.get("BTMD_PROOF"))
long = pytest.mark.skipif(not PROOF, reason="a long form: make proof-recovery")

OVERRIDES: dict[str, Any] = {
    "num_epochs": 40,
    "max_steps": 40,
    "eval_every": 20,
    "save_every": 10,
    "sample_answers": 0,
    "precision": "fp32",
    "lora_dropout": 0.0,
}
FULL = {key: value for key, value in OVERRIDES.items() if key != "lora_dropout"} | {"training_type": "fine_tuning"}
SETTINGS: dict[str, Any] = {**QUICK, "recovery.wait_s": 0.2, "disk.reserve_gb": 0.0, "training.held_out_limit": 4}
ENDLESS = {"num_epochs": 1000, "max_steps": 20_000, "eval_every": 10_000}
"""For what has to happen in the middle of a training, however fast the machine; it is stopped afterwards."""
ODD_LETTER = "~"
SHIFTED_CLOCK = Path(__file__).parents[1] / "fixtures/shifted_clock"
DAY_S, NIGHT_S = 86_400.0, 8 * 3600.0
SCENES: dict[str, dict[str, Any]] = {}
"""By scene, what came of it: told at the end."""
ALL_SCENES = 10
"""Two of them take rights that not everybody has."""


@pytest.fixture(scope="module", autouse=True)
def _recorded(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if not PROOF or not SCENES or request.session.testsfailed:
        return
    figures = [Figure("real failures", [len(SCENES)], "", f">= {ALL_SCENES}", 0)]
    ended = sum(1 for one in SCENES.values() if one["state"] in ("completed", "needs_attention"))
    figures.append(Figure("ended with a completed job or one question", [ended], "", f">= {ALL_SCENES}", 0))
    for name, one in SCENES.items():
        if "difference" in one:
            figures.append(
                Figure(
                    f"{name}: largest difference of a loss over 20 steps", [one["difference"]], "nats", "<= 0.00001", 8
                )
            )
    notes = [
        f"{name}: {' -> '.join(one['ended'])}; done: {', '.join(one['actions']) or 'nothing'}."
        for name, one in SCENES.items()
    ]
    record(Topic("Recovery from real failures", "make proof-recovery", figures, notes=notes))


@pytest.fixture
def place() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@pytest.fixture
def daemon(place: Path) -> Iterator[DaemonProcess]:
    with DaemonProcess(config_of(place)) as running:
        prepare(running.client, place)
        yield running


def prepare(client: Client, place: Path, *, content: bytes | None = None, **changes: Any) -> None:
    client.patch("/settings", {"changes": SETTINGS | changes}).ok()
    if not (place / "tiny").exists():
        make_tiny_llama(place / "tiny")
    client.add_model(place / "tiny")
    client.add_dataset(rows() if content is None else content)


def account(client: Client, scene: str, job: dict[str, Any]) -> dict[str, Any]:
    """What is told of the job, checked for what must hold of each, and noted under the scene's name."""
    result = client.get(f"/result/{job['job_id']}").ok() if job["state"] == "completed" else {}
    actions = [one["action"] for one in job["recoveries"] if one["kind"] == "planned"]
    ended = [one["ended"] for one in job["attempts"]]
    SCENES[scene] = {"state": job["state"], "ended": ended, "actions": actions}
    failed = [one for one in job["recoveries"] if one["kind"] == "failed"]
    for one in failed:
        assert one["text"].endswith(".")
    if job["state"] == "completed":
        assert result["success"] is True
        assert [one for one in result["account"] if one.startswith("Attempt ")], result
        for one in failed:
            assert any(one["text"] in sentence for sentence in result["account"])
        assert f"failed {'once' if len(failed) == 1 else len(failed)}" in result["performance_summary"]
    return result


def when_at(client: Client, job_id: str, attempt: int, step: int) -> dict[str, Any]:
    return client.wait_for(
        job_id, lambda job: job["attempt"] == attempt and job["state"] == "training" and job["step"] >= step
    )


def losses_of(client: Client, job_id: str) -> dict[int, float]:
    """By step, as the last attempt that took it told."""
    return {
        step: loss for tick in client.ticks(job_id) for step, loss in zip(tick["steps"], tick["losses"], strict=True)
    }


@long
def test_a_crash_a_kill_and_deleted_checkpoints(daemon: DaemonProcess) -> None:
    client, jobs_dir = daemon.client, daemon.config.jobs_dir
    job_id = client.start(overrides=OVERRIDES | ENDLESS)
    when_at(client, job_id, 1, 11)
    os.kill(trainer_pid(jobs_dir, job_id), signal.SIGSEGV)
    when_at(client, job_id, 2, 11)
    os.kill(trainer_pid(jobs_dir, job_id), signal.SIGKILL)
    shutil.rmtree(JobFolder(jobs_dir / job_id).checkpoints)
    when_at(client, job_id, 3, 11)
    job = stopped(client, job_id)
    result = account(client, "segfault, kill, deleted checkpoints", job)
    assert [one["ended"] for one in job["attempts"]] == ["crash", "killed", "stopped"]
    failed = [one for one in job["recoveries"] if one["kind"] == "failed"]
    assert [one["evidence"]["signal"] for one in failed] == [signal.SIGSEGV, signal.SIGKILL]
    assert "SIGSEGV" in failed[0]["text"]
    assert "by a person or another program" in failed[1]["text"]
    assert any("No checkpoint was there any more when attempt 3 began" in one for one in result["account"])
    assert losses_of(client, job_id).keys() >= set(range(1, 12))


def stopped(client: Client, job_id: str) -> dict[str, Any]:
    """The job, ended early with its result."""
    client.post(f"/jobs/{job_id}/stop").ok()
    return client.wait_until(job_id, "completed")


@long
def test_out_of_memory_gives_the_losses_of_a_run_with_smaller_parts(daemon: DaemonProcess, place: Path) -> None:
    client, jobs_dir = daemon.client, daemon.config.jobs_dir
    client.add_model(make_tiny_llama(place / "deep", hidden=32, layers=24, heads=2, kv_heads=1))
    client.add_dataset(rows_of_length(24, 200), "long")
    steps = 20 if PROOF else 6
    wanted = {**OVERRIDES, "batch_size": 8, "max_steps": 500, "save_every": 500, "eval_every": 500, "num_epochs": 500}
    asked = {"model_id": "deep", "dataset_id": "long"}

    def trained(micro_batch_size: int, attempt: int) -> tuple[str, int]:
        """A job that has made its steps, and the most address space that it has had."""
        job_id = client.start(overrides={**wanted, "micro_batch_size": micro_batch_size}, **asked)
        when_at(client, job_id, attempt, steps)
        most = _status_bytes(trainer_pid(jobs_dir, job_id), "VmPeak")
        stopped(client, job_id)
        return job_id, most

    smaller, enough = trained(4, 1)
    # Four rows more leave some 70 MB for the backward pass.
    limit = enough + 35 * 1024 * 1024
    assert daemon.process is not None
    resource.prlimit(daemon.process.pid, resource.RLIMIT_AS, (limit, limit))
    job_id, _ = trained(8, 2)
    job = client.job(job_id)
    account(client, "address space used up", job)
    assert [one["ended"] for one in job["attempts"]] == ["out_of_memory", "stopped"]
    [failed] = [one for one in job["recoveries"] if one["kind"] == "failed"]
    assert failed["evidence"]["address_limit_bytes"] == limit
    assert job["changed"] == ["The number of rows computed at once was 8 in the plan and is 4."]
    recovered, expected = losses_of(client, job_id), losses_of(client, smaller)
    difference = max(abs(recovered[step] - expected[step]) for step in range(1, steps + 1))
    assert difference <= 1e-5
    if PROOF:
        SCENES["address space used up"]["difference"] = difference


def poisoned(place: Path, lines: set[int]) -> bytes:
    """Rows of which some hold a letter that the model in ``place`` computes nothing right for."""
    from btmd.data.encoding import Encoder

    model = make_tiny_llama(place / "tiny", tied=False)
    weights = load_file(model / "model.safetensors")
    (odd,) = Encoder.load(model)._tokenizer.encode(ODD_LETTER, add_special_tokens=False).ids
    weights["model.embed_tokens.weight"][odd] = np.nan
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    written = [json.loads(line) for line in rows().splitlines()]
    for line in lines:
        written[line - 1]["question"] += ODD_LETTER
    return b"".join(json.dumps(row).encode() + b"\n" for row in written)


def test_a_row_that_gives_no_number_is_left_out_by_name(place: Path) -> None:
    content = poisoned(place, {17, 30})
    with DaemonProcess(config_of(place)) as daemon:
        client = daemon.client
        prepare(client, place, content=content)
        job_id = client.start(overrides={**OVERRIDES, "save_every": 2})
        job = client.wait_until(job_id, "completed")
        result = account(client, "rows that give no number", job)
        actions = [one["action"] for one in job["recoveries"] if one["kind"] == "planned"]
        assert actions
        assert set(actions) == {"skip_rows"}
        told = [sentence for sentence in result["account"] if sentence.startswith("Left out of the training")]
        # Either may be held out, and then takes no part anyway.
        assert told
        assert set(told[0].rstrip(".").split(": ")[1].removeprefix("rows ").removeprefix("row ").split(", ")) <= {
            "17",
            "30",
        }


@long
def test_a_learning_rate_that_diverges_is_lowered(daemon: DaemonProcess) -> None:
    client = daemon.client
    # A model that has learned something has something to lose.
    learned = client.start(overrides={**FULL, "max_steps": 150, "num_epochs": 100, "learning_rate": 0.003})
    taught = client.wait_until(learned, "completed")
    model = client.add_model(Path(taught["model_path"]))
    rate = {"learning_rate": 0.1, "max_gradient_norm": 0, "warmup_ratio": 0, "lora_r": 4, "lora_alpha": 512}
    job_id = client.start(overrides=OVERRIDES | ENDLESS | rate, model_id=model["model_id"])
    client.wait_for(job_id, lambda job: job["attempt"] > 1 and job["step"] >= 400)
    job = stopped(client, job_id)
    account(client, "a learning rate that diverges", job)
    actions = [one["action"] for one in job["recoveries"] if one["kind"] == "planned"]
    assert "lower_rate" in actions
    assert any("learning rate was 0.1 in the plan" in one for one in job["changed"])


@long
def test_a_trainer_that_was_stopped_is_found_ended_and_taken_up_again(daemon: DaemonProcess) -> None:
    client = daemon.client
    job_id = client.start(overrides=OVERRIDES | ENDLESS)
    when_at(client, job_id, 1, 11)
    os.kill(trainer_pid(daemon.config.jobs_dir, job_id), signal.SIGSTOP)
    when_at(client, job_id, 2, 11)
    job = stopped(client, job_id)
    account(client, "SIGSTOP", job)
    assert [one["ended"] for one in job["attempts"]] == ["hung", "stopped"]
    assert "stopped by a signal" in job["attempts"][0]["text"]


@long
def test_killed_for_the_memory_of_its_control_group(place: Path) -> None:
    group = _control_group()
    try:
        with DaemonProcess(config_of(place)) as daemon:
            client, jobs_dir = daemon.client, daemon.config.jobs_dir
            prepare(client, place)
            client.add_model(make_tiny_llama(place / "deep", hidden=32, layers=24, heads=2, kv_heads=1))
            client.add_dataset(rows_of_length(48, 200), "long")
            assert daemon.process is not None
            # Its trainers are born there; what the daemon has already stays where it is.
            (group / "cgroup.procs").write_text(str(daemon.process.pid))
            wanted = {**OVERRIDES, **ENDLESS, "batch_size": 16, "save_every": 4}
            asked: dict[str, Any] = {"model_id": "deep", "dataset_id": "long"}
            smaller = client.start(overrides={**wanted, "micro_batch_size": 8}, **asked)
            when_at(client, smaller, 1, 20)
            enough = _status_bytes(trainer_pid(jobs_dir, smaller), "RssAnon")
            stopped(client, smaller)
            job_id = client.start(overrides={**wanted, "micro_batch_size": 16}, **asked)
            client.wait_for(job_id, lambda job: job["attempt"] == 1)
            # Eight rows more take some 120 MB.
            (group / "memory.limit_in_bytes").write_text(str(enough + 60 * 1024 * 1024))
            client.wait_for(job_id, lambda job: job["state"] == "training" and job["step"] >= 20)
            job = stopped(client, job_id)
            account(client, "killed by its control group", job)
            recovered, expected = losses_of(client, job_id), losses_of(client, smaller)
        first = next(one for one in job["recoveries"] if one["kind"] == "failed")
        assert (first["action"], first["evidence"]["where"]) == ("out_of_memory", "cgroup")
        assert "control group" in first["text"]
        assert any("rows computed at once was 16" in one for one in job["changed"])
        difference = max(abs(recovered[step] - expected[step]) for step in range(1, 21))
        assert difference <= 1e-5
        SCENES["killed by its control group"]["difference"] = difference
    finally:
        _remove(group)


def rows_of_length(count: int, words: int) -> bytes:
    return b"".join(
        json.dumps({"question": f"Say {n} often.", "answer": " ".join(str(n % 10) for _ in range(words))}).encode()
        + b"\n"
        for n in range(count)
    )


def _status_bytes(pid: int, key: str) -> int:
    line = next(one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


def _control_group() -> Path:
    """A control group for memory, version 1, below this process's own."""
    if os.geteuid() != 0:
        pytest.skip("a control group of one's own needs root")
    own = next((one for one in Path("/proc/self/cgroup").read_text().splitlines() if ":memory:" in one), None)
    if own is None:
        pytest.skip("this machine has no control groups of version 1 for memory")
    mounted = Path("/sys/fs/cgroup/memory")
    parent = mounted / own.split(":", 2)[2].lstrip("/")
    group = (parent if parent.is_dir() else mounted) / f"btmd-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as problem:
        pytest.skip(f"no control group can be made here: {problem.strerror}")
    return group


def _remove(group: Path) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.2)


@long
def test_a_full_disk_is_waited_for_and_the_training_goes_on_by_itself(place: Path) -> None:
    jobs = place / "state" / "jobs"
    jobs.mkdir(parents=True)
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(jobs)], check=False).returncode
    ):
        pytest.skip("no small tmpfs can be mounted here")
    try:
        with DaemonProcess(config_of(place)) as daemon:
            client = daemon.client
            prepare(client, place)
            job_id = client.start(overrides=FULL | ENDLESS)
            when_at(client, job_id, 1, 11)
            _fill(jobs / "ballast")
            job = client.wait_for(
                job_id, lambda job: job["state"] == "recovering" and "It waits for room" in job["text"]
            )
            assert "are free" in job["text"]
            (jobs / "ballast").unlink()
            when_at(client, job_id, 2, 11)
            job = stopped(client, job_id)
            account(client, "a disk that fills", job)
            assert job["attempts"][0]["ended"] == "disk_full"
    finally:
        subprocess.run(["umount", "--lazy", str(jobs)], check=True)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0" * 65536)


@long
def test_a_daemon_killed_in_the_middle_of_recoveries_loses_none(daemon: DaemonProcess) -> None:
    client, jobs_dir = daemon.client, daemon.config.jobs_dir
    client.patch("/settings", {"changes": {"recovery.wait_s": 2.0, "jobs.crash_resumes": 50}}).ok()
    job_id = client.start(overrides={**OVERRIDES, **ENDLESS, "save_every": 5})
    for kill in range(8):
        # Every other time without a newer checkpoint, so that the next attempt waits.
        when_at(client, job_id, kill + 1, 6 * (kill // 2 + 1))
        os.kill(trainer_pid(jobs_dir, job_id), signal.SIGKILL)
        time.sleep(0.05 * kill)
        daemon.kill()
        daemon.start()
        client.wait_for(job_id, lambda job, kill=kill: job["attempt"] == kill + 2)
    when_at(client, job_id, 9, 1)
    job = stopped(client, job_id)
    account(client, "eight recoveries with the daemon killed in each", job)
    assert len(job["attempts"]) == 9
    steps = losses_of(client, job_id).keys()
    assert steps == set(range(1, max(steps) + 1))


@long
def test_a_suspend_is_no_failure(daemon: DaemonProcess) -> None:
    client = daemon.client
    job_id = client.start(overrides=OVERRIDES | ENDLESS)
    when_at(client, job_id, 1, 20)
    stop_and_continue(daemon, job_id, lambda: time.sleep(90))
    goes_on(client, job_id)
    job = stopped(client, job_id)
    assert [one["ended"] for one in job["attempts"]] == ["stopped"]
    SCENES["a suspend"] = {"state": job["state"], "ended": ["stopped"], "actions": []}


def stop_and_continue(daemon: DaemonProcess, job_id: str, meanwhile: Callable[[], None]) -> None:
    """Daemon and trainer stand still, as everything does while a machine sleeps."""
    assert daemon.process is not None
    everybody = [trainer_pid(daemon.config.jobs_dir, job_id), daemon.process.pid]
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    meanwhile()
    for pid in everybody:
        os.kill(pid, signal.SIGCONT)


def goes_on(client: Client, job_id: str) -> None:
    when_at(client, job_id, 1, client.job(job_id)["step"] + 20)


@long
def test_a_clock_that_is_set_and_a_night_of_sleep_are_no_failures(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = place / "ahead"
    monkeypatch.setenv("BTMD_SHIFTED_CLOCK", str(ahead))
    with DaemonProcess(config_of(place), modules=SHIFTED_CLOCK) as daemon:
        client = daemon.client
        prepare(client, place, **{"monitoring.sample_every_s": 5})
        job_id = client.start(overrides=OVERRIDES | ENDLESS)
        when_at(client, job_id, 1, 20)
        began_s = time.monotonic()
        set_clocks(ahead, DAY_S, 0.0)
        warned(client, job_id, "clock_jumped", {"forward"})
        goes_on(client, job_id)
        set_clocks(ahead, -8 * DAY_S, 0.0)
        goes_on(client, job_id)
        stop_and_continue(daemon, job_id, lambda: set_clocks(ahead, -8 * DAY_S, NIGHT_S))
        warned(client, job_id, "suspended", {"slept,"})
        goes_on(client, job_id)
        progress = client.get(f"/progress/{job_id}").ok()
        job = stopped(client, job_id)
        assert [one["ended"] for one in job["attempts"]] == ["stopped"]
        assert {one["kind"] for one in job["warnings"]} == {"clock_jumped", "suspended"}
        trained_s = time.monotonic() - began_s
        # By the pace of its steps, and nothing of a day that never was or a night in which none was made.
        assert progress["remaining_s"] < 10 * trained_s * progress["total_steps"] / progress["current_step"]
        assert progress["elapsed_s"] > 0
        times = [one["recorded_at"] for one in client.get("/events?limit=1000").ok()]
        assert times == sorted(times)
        assert client.get("/audit/verification").ok()["verdict"] == "ok"
    told = {"state": job["state"], "ended": ["stopped"], "actions": []}
    SCENES["the clock set forward and back, and a night of sleep"] = told


def set_clocks(ahead: Path, set_s: float, slept_s: float) -> None:
    """Of daemon and trainer, at once."""
    new = ahead.with_suffix(".new")
    new.write_text(f"{set_s} {slept_s}")
    new.replace(ahead)


def warned(client: Client, job_id: str, kind: str, texts: set[str]) -> None:
    """Wait until the job has this warning, with one of these words in its text."""
    client.wait_for(
        job_id,
        lambda job: any(one["kind"] == kind and texts & set(one["text"].split()) for one in job["warnings"]),
    )
