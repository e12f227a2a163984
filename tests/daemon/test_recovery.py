"""A database that is lost or damaged: the daemon says so, one command rebuilds it, and everything goes on."""

import io
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from btmctl.__main__ import main
from btmd.errors import Damaged, DatabaseMissing
from tests.fixtures.daemon import QUICK, Client, DaemonProcess, ThreadedDaemon, config_of, rows, trainer_pid
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

Run = Callable[..., tuple[int, str, str]]


class Place:
    """A state folder with a backup of settings and a dataset, the keys to it, and what was in the log."""

    def __init__(self, folder: Path) -> None:
        self.config = config_of(folder)
        with ThreadedDaemon(self.config) as daemon:
            client = daemon.client
            client.patch("/settings", {"changes": {"training.seed": 4711}}).ok()
            self.dataset = client.add_dataset(rows(20))
            self.recovery_key = client.post("/backup-keys/recovery-key").ok()["recovery_key"]
            client.post("/backup-keys/passphrase", {"passphrase": "correct horse battery"}).ok()
            self.backup = client.post("/backup", {"with_artefacts": True}).ok()
            self.events = [event["event_id"] for event in client.events()][: self.backup["events"]]

    @property
    def state(self) -> Path:
        return self.config.state_dir


@pytest.fixture(scope="module")
def made() -> Iterator[Place]:
    with short_folder() as folder:
        yield Place(folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


@pytest.fixture
def place(made: Place, folder: Path) -> Path:
    """A copy of the state folder, to be harmed."""
    return Path(shutil.copytree(made.state, folder / "state"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*arguments: str, state: Path | None = None, typed: str = "") -> tuple[int, str, str]:
        if state is not None:
            monkeypatch.setenv("BTMD_STATE_DIR", str(state))
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def require_all(client: Client, made: Place) -> None:
    """Settings, registrations and history are those that were backed up, and the dataset can be used."""
    assert client.get("/settings/training.seed").ok()["value"] == 4711
    assert client.get("/datasets/facts").ok()["version_id"] == made.dataset["version_id"]
    assert [event["event_id"] for event in client.events()][: len(made.events)] == made.events
    assert client.get("/health").ok()["store"]["epoch"] == 2
    assert client.post("/datasets/facts/check", {}).status == 200


def wait_for_a_backup(client: Client) -> None:
    """Nobody asks for them: the daemon looks at its folder by itself."""
    deadline_s = time.monotonic() + 60
    while not client.get("/status").ok()["system_backups"]:
        assert time.monotonic() < deadline_s, "no backup was found"
        time.sleep(0.05)


def lose(state: Path) -> None:
    for path in state.glob("btmd.db*"):
        path.unlink()


def damage(state: Path) -> None:
    with (state / "btmd.db").open("r+b") as file:
        file.write(b"not a database, not any more....")


@pytest.mark.parametrize(("harm", "error"), [(lose, DatabaseMissing), (damage, Damaged)])
def test_the_daemon_says_so_and_one_command_brings_everything_back(
    made: Place, place: Path, folder: Path, run: Run, harm: Callable[[Path], None], error: type[Damaged]
) -> None:
    harm(place)
    with pytest.raises(error) as refused, ThreadedDaemon(config_of(folder)):
        pass
    assert refused.value.exit_code == 7
    command = f"btmctl recover --from {place / 'backups'}"
    assert command in refused.value.hint
    assert harm is damage or not (place / "btmd.db").exists(), "nothing was begun in its place"
    code, _, err = run(*command.split()[1:], state=place)
    assert code == 0, err
    assert made.backup["backup_id"] in err
    kept = list(place.glob("btmd.db.before-recovery-*"))
    assert len(kept) == (1 if harm is damage else 0)
    with ThreadedDaemon(config_of(folder)) as daemon:
        require_all(daemon.client, made)
        wait_for_a_backup(daemon.client)
        assert daemon.client.post("/backup").ok()["epoch"] == 2
        assert all(one["ok"] for one in daemon.client.post("/backups/verify").ok()["backups"])


@pytest.mark.parametrize("secret", ["key file", "recovery key", "passphrase"])
def test_a_machine_that_has_only_the_backup_folder_and_a_secret(
    made: Place, folder: Path, run: Run, secret: str
) -> None:
    stick = shutil.copytree(made.config.backups_dir, folder / "stick")
    key = shutil.copy(made.config.keys_dir / "key", folder / "key.txt")
    options, typed = {
        "key file": (["--key", str(key)], ""),
        "recovery key": (["--recovery-key"], made.recovery_key + "\n"),
        "passphrase": (["--passphrase"], "correct horse battery\n"),
    }[secret]
    code, out, err = run("recover", "--from", str(stick), *options, "--json", state=folder / "state", typed=typed)
    assert code == 0, err
    done = json.loads(out)
    assert (done["events"], done["artefacts"], done["epoch"]) == (made.backup["events"], 2, 2)
    for path in (folder / "state").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    with ThreadedDaemon(config_of(folder)) as daemon:
        require_all(daemon.client, made)
        # The new machine has keys of its own to the old backups.
        daemon.client.post("/backup").ok()
        made_there = daemon.client.post("/backup", {"to": str(stick)}).ok()
        assert made_there["new_events"] < made_there["events"], "it goes on from the backups that are there"


LONG = {"num_epochs": 1000, "max_steps": 20_000, "eval_every": 5000, "save_every": 20, "sample_answers": 0}


def test_a_training_goes_on_under_the_recovered_log(folder: Path, run: Run) -> None:
    with DaemonProcess(config_of(folder)) as daemon:
        client, jobs_dir = daemon.client, daemon.config.jobs_dir
        client.patch("/settings", {"changes": QUICK}).ok()
        client.add_model(make_tiny_llama(folder / "tiny"))
        client.add_dataset(rows())
        job_id = client.start(overrides=LONG)
        client.wait_for(job_id, lambda job: job["step"] >= 1)
        client.post("/backup").ok()
        after = client.wait_for(job_id, lambda job: job["step"] >= 25)["step"]
        pid = trainer_pid(jobs_dir, job_id)
        daemon.kill()
        lose(daemon.config.state_dir)
        source = str(daemon.config.backups_dir)
        assert run("recover", "--from", source, state=daemon.config.state_dir)[0] == 0
        daemon.start()
        # The trainer was never disturbed, and what it did since the backup is found again.
        client.wait_for(job_id, lambda job: job["step"] > after)
        assert trainer_pid(jobs_dir, job_id) == pid
        numbers = [tick["number"] for tick in client.ticks(job_id)]
        assert numbers == sorted(set(numbers))
        # A later attempt carries the new epoch, so that another start finds it again too.
        os.kill(pid, signal.SIGKILL)
        client.wait_for(job_id, lambda job: job["attempt"] == 2 and job["step"] > after)
        daemon.kill()
        daemon.start()
        step = client.job(job_id)["step"]
        client.wait_for(job_id, lambda job: job["step"] > step)
        client.post(f"/jobs/{job_id}/cancel").ok()


@pytest.mark.skipif(os.environ.get("BTMD_PROOF") != "1", reason="three daemons and as many trainers")
def test_an_attempt_that_the_recovered_log_never_knew_is_paused_and_its_checkpoint_used(folder: Path, run: Run) -> None:
    with DaemonProcess(config_of(folder)) as daemon:
        client, jobs_dir = daemon.client, daemon.config.jobs_dir
        client.patch("/settings", {"changes": QUICK}).ok()
        client.add_model(make_tiny_llama(folder / "tiny"))
        client.add_dataset(rows())
        job_id = client.start(overrides=LONG)
        client.wait_for(job_id, lambda job: job["step"] >= 1)
        client.post("/backup").ok()
        client.wait_for(job_id, lambda job: job["step"] >= 25)
        os.kill(trainer_pid(jobs_dir, job_id), signal.SIGKILL)
        reached = client.wait_for(job_id, lambda job: job["attempt"] == 2 and job["step"] >= 30)["step"]
        pid = trainer_pid(jobs_dir, job_id)
        daemon.kill()
        lose(daemon.config.state_dir)
        assert run("recover", "--from", str(daemon.config.backups_dir), state=daemon.config.state_dir)[0] == 0
        daemon.start()
        client.wait_for(job_id, lambda job: job["attempt"] == 2 and job["step"] > reached)
        assert trainer_pid(jobs_dir, job_id) != pid
        assert next(tick["step"] for tick in client.ticks(job_id) if tick["attempt"] == 2) > 20
        client.post(f"/jobs/{job_id}/cancel").ok()


def refusals() -> list[tuple[list[str], str, int, str]]:
    return [
        (["--passphrase"], "wrong horse battery\n", 8, "wrong_key"),
        (["--recovery-key"], "00000\n", 2, "recovery_key_mistyped"),
        (["--passphrase"], "", 6, "needs_answer"),
        (["--key", "/nowhere"], "", 10, "part_missing"),
        ([], "", 2, "usage"),
        (["--passphrase", "--backup", "ffff"], "correct horse battery\n", 5, "backup_not_found"),
    ]


def test_what_is_missing_or_wrong_is_named_and_nothing_begun(made: Place, folder: Path, run: Run) -> None:
    state = folder / "state"
    for options, typed, code, name in refusals():
        source = str(made.config.backups_dir)
        found, out, _ = run("recover", "--from", source, *options, "--json", state=state, typed=typed)
        assert (found, json.loads(out)["code"]) == (code, name), options
    found, out, _ = run("recover", "--from", str(folder), "--passphrase", state=state, typed="correct horse battery")
    assert found == 6
    assert not (state / "btmd.db").exists()
    assert not (state / "keys").exists()


def test_a_folder_is_no_key(made: Place, place: Path, folder: Path, run: Run) -> None:
    for option in ("--key", "--credential"):
        code, _, err = run("recover", "--from", str(place), option, str(folder), state=folder / "new")
        assert (code, f"{option} names a folder" in err) == (2, True), err
    assert not (folder / "new").exists()


def test_a_running_daemon_keeps_its_database(made: Place, place: Path, folder: Path, run: Run) -> None:
    with ThreadedDaemon(config_of(folder)) as daemon:
        code, _, err = run("recover", "--from", str(place / "backups"), "--yes", state=place)
        assert (code, str(os.getpid()) in err) == (6, True)
        assert daemon.client.get("/health").ok()["store"]["epoch"] == 1


def test_a_database_that_is_whole_is_only_replaced_when_told(made: Place, place: Path, folder: Path, run: Run) -> None:
    before = (place / "btmd.db").read_bytes()
    code, _, err = run("recover", "--from", str(place), state=place)
    assert (code, "is not damaged" in err) == (6, True)
    assert (place / "btmd.db").read_bytes() == before
    # The path of a backup, as the list shows it, is understood too.
    manifest = place / "backups" / "manifests" / Path(made.backup["backup_path"]).name
    assert run("recover", "--from", str(manifest), "--yes", state=place)[0] == 0
    with ThreadedDaemon(config_of(folder)) as daemon:
        require_all(daemon.client, made)


def test_a_file_that_cannot_come_back_hides_none_of_the_others(
    made: Place, place: Path, folder: Path, run: Run
) -> None:
    lose(place)
    shutil.rmtree(place / "content")
    largest = max((place / "backups" / "objects").glob("*/*"), key=_names_rows(made, place))
    largest.write_bytes(largest.read_bytes()[:-1] + b"!")
    code, out, _ = run("recover", "--from", str(place), "--json", state=place)
    done: dict[str, Any] = json.loads(out)
    assert (code, done["artefacts"], [one["code"] for one in done["problems"]]) == (7, 1, ["damaged"])
    with ThreadedDaemon(config_of(folder)) as daemon:
        assert daemon.client.get("/settings/training.seed").ok()["value"] == 4711


def _names_rows(made: Place, place: Path) -> Callable[[Path], int]:
    """Objects that are artefacts before all others: they are not in a backup without artefacts."""
    from btmd.backup.sealed_file import read_prologue

    def weight(path: Path) -> int:
        with path.open("rb") as file:
            return int(read_prologue(file, path.name).header["kind"] == "artefact")

    return weight
