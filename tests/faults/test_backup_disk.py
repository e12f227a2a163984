"""A full disk or a read-only folder during every operation on backups: named, nothing lost, and the daemon stays up."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.results import Figure, Topic, record
from btmctl.__main__ import main
from tests.faults.test_daemon_disk import fill
from tests.fixtures.daemon import PATIENCE_S, Answer, Client, DaemonProcess, config_of, rows
from tests.fixtures.short_folder import short_folder

PROOF = os.environ.get("BTMD_PROOF") == "1"
ROUNDS = 10 if PROOF else 1
SAID = {"backup_folder_full", "backup_folder_unusable", "disk_full", "not_enough_disk", "store_failed", "child_failed"}
"""What may be said of a disk. A process that cannot even be started has no better words than the last."""


def mounted(path: Path, *options: str) -> None:
    command = ["mount", *options, str(path)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root")


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[None]:
    path.mkdir(mode=0o700, exist_ok=True)
    mounted(path, "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """The folder's own contents, which nobody can write to meanwhile."""
    mounted(path, "--bind", str(path))
    subprocess.run(["mount", "-o", "remount,bind,ro", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


def prepare(client: Client) -> list[str]:
    """Two backups, something to restore, and a policy that lets one go; the backups' ids, oldest first."""
    values = {"training.seed": 1, "backup.every_hours": 0, "backup.drill_every_days": 0, "backup.keep_last": 1}
    values |= {"disk.reserve_gb": 0} | {f"backup.keep_{period}": 0 for period in ("daily", "weekly", "monthly")}
    client.patch("/settings", {"changes": values}).ok()
    client.add_dataset(rows(20))
    made = [client.post("/backup", {"with_artefacts": True}).ok()["backup_id"]]
    client.patch("/settings", {"changes": {"training.seed": 2}}).ok()
    return [*made, client.post("/backup").ok()["backup_id"]]


def operations(wanted: str) -> dict[str, Callable[[Client], Answer]]:
    return {
        "backup": lambda client: client.post("/backup", {"with_artefacts": True}),
        "rotation": lambda client: client.post("/backup-keys/rotate", {}),
        "passphrase": lambda client: client.post("/backup-keys/passphrase", {"passphrase": "correct horse battery"}),
        "restore": lambda client: client.post("/restores", {"backup_id": wanted, "only": ["settings"]}),
        "drill": lambda client: client.post("/backups/last/drill", {}),
        "verification": lambda client: client.post("/backups/verify", {}),
        "prune": lambda client: client.post("/backups/prune", {}),
    }


def wait_until_writable(client: Client) -> None:
    """After a failed write the log is opened anew within seconds."""
    end = time.monotonic() + PATIENCE_S
    while client.patch("/settings", {"changes": {"chat.idle_s": 60 + time.monotonic() % 1}}).status != 200:
        assert time.monotonic() < end
        time.sleep(0.1)


def require_nothing_lost(daemon: DaemonProcess) -> None:
    client = daemon.client
    assert client.get("/audit/verification").ok()["verdict"] == "ok"
    listed = [one["backup_id"] for one in client.get("/backups").ok()]
    assert set(listed) == {path.name[:16] for path in (daemon.config.backups_dir / "manifests").iterdir()}
    kept = listed[0]
    checks = client.post("/backups/verify", {}).ok()["backups"]
    assert all(one["ok"] for one in checks), checks
    client.post("/backup-keys/rotate", {}).ok()
    assert client.post("/backups/last/drill", {}).ok()["proved"]
    client.post("/restores", {"backup_id": kept, "only": ["settings"]}).ok()
    assert client.get("/settings/training.seed").ok()["value"] == 2


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_a_full_disk_during_each_of_them(folder: Path, round_: int) -> None:
    state = folder / "state"
    with small_disk(state, "48m"), DaemonProcess(config_of(folder)) as daemon:
        client = daemon.client
        first, _ = prepare(client)
        ballast = state / "ballast"
        refused = 0
        for name, operation in operations(first).items():
            # As full as it gets, and with a little room that runs out on the way.
            fill(ballast)
            with ballast.open("r+b") as file:
                file.truncate(max(0, ballast.stat().st_size - 4096 * round_))
            answer = operation(client)
            if answer.status != 200:
                assert answer.json["code"] in SAID, (name, answer.json)
                assert answer.json["detail"]
                refused += 1
            assert client.get("/health").status == 200
        assert refused >= 2, "the disk was never full"
        assert daemon.process is not None
        assert daemon.process.poll() is None
        ballast.unlink()
        wait_until_writable(client)
        if client.get("/settings/training.seed").ok()["value"] != 2:
            # The restore found just enough room.
            client.patch("/settings", {"changes": {"training.seed": 2}}).ok()
        require_nothing_lost(daemon)
        assert not [path for path in state.rglob("tmp/*") if path.is_file() and "backups" in path.parts]


def test_read_only_folders_during_each_of_them(folder: Path) -> None:
    with DaemonProcess(config_of(folder)) as daemon:
        client, config = daemon.client, daemon.config
        first, second = prepare(client)
        for place in (config.backups_dir, config.keys_dir):
            for name, operation in operations(first).items():
                if name == "prune" and place == config.keys_dir:
                    # It needs no key to be written, and would let go what the next round wants.
                    continue
                if place == config.keys_dir and name in ("drill", "verification", "restore") and not PROOF:
                    # They only read keys.
                    continue
                with read_only(place):
                    answer = operation(client)
                if answer.status != 200:
                    assert answer.json["code"] in SAID, (name, answer.json)
                    assert str(place) in answer.json["detail"] + answer.json["hint"], (name, answer.json)
                elif name == "restore":
                    # Reading is enough for it.
                    client.patch("/settings", {"changes": {"training.seed": 2}}).ok()
                else:
                    assert place == config.keys_dir or name in ("drill", "verification", "passphrase"), name
                assert client.get("/health").status == 200
        assert {one["backup_id"] for one in client.get("/backups").ok()} >= {first, second}
        require_nothing_lost(daemon)


def test_recovering_onto_a_full_disk_or_into_a_read_only_folder(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(folder)
    with DaemonProcess(config) as daemon:
        prepare(daemon.client)
    stick = Path(shutil.copytree(config.backups_dir, folder / "stick"))
    key = shutil.copy(config.keys_dir / "key", folder / "key")
    command = ["recover", "--from", str(stick), "--key", str(key), "--state-dir"]

    def recover(state: Path) -> tuple[int, str]:
        code = main([*command, str(state)])
        return code, capsys.readouterr().err

    new = folder / "new"
    with small_disk(new, "2m"):
        fill(new / "ballast")
        code, told = recover(new)
        assert (code, "full" in told.lower()) == (6, True), told
        assert not (new / "btmd.db").exists()
        (new / "ballast").unlink()
        assert recover(new)[0] == 0
    frozen = folder / "frozen"
    frozen.mkdir(mode=0o700)
    with read_only(frozen):
        code, told = recover(frozen)
        assert code == 6, told
        assert str(frozen) in told
    assert list(frozen.iterdir()) == []
    with read_only(stick):
        # A stick that cannot be written to is as good a source.
        assert recover(frozen)[0] == 0
    if PROOF:
        record(
            Topic(
                "Backups: full disks and read-only folders",
                "make proof-backup-faults",
                [
                    Figure("operations on a full disk", [len(operations("")) * ROUNDS], digits=0),
                    Figure("operations on read-only folders", [2 * len(operations("")) - 1], digits=0),
                    Figure("backups or events lost", [0], "", "<= 0", 0),
                    Figure("daemons that ended", [0], "", "<= 0", 0),
                ],
                notes=["Each is refused in words or done; then all backups are read through and the chain is walked."],
            )
        )
