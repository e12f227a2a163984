"""A full disk while data is added or updated: said in words, nothing half added, and done once there is room."""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator

import pytest

from benchmarks.results import Figure, Topic, record
from tests.faults.test_backup_disk import small_disk, wait_until_writable
from tests.faults.test_daemon_disk import fill
from tests.faults.test_data_kill import require_nothing_left_over
from tests.fixtures.daemon import Answer, Client, DaemonProcess, config_of
from tests.fixtures.short_folder import short_folder

PROOF = os.environ.get("BTMD_PROOF") == "1"
ROOMS = (0, 64, 1024, 3 * 1024, 5 * 1024, 7 * 1024) if PROOF else (64, 3 * 1024)
"""KiB that are left: for the log, for a part of the upload, for the upload, and for a part of the rows made from it."""
SAID = {"not_enough_disk", "disk_full", "store_failed"}


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    with short_folder() as folder:
        state = folder / "state"
        with small_disk(state, "64m"), DaemonProcess(config_of(folder)) as running:
            values = {"backup.every_hours": 0, "backup.drill_every_days": 0, "disk.reserve_gb": 0}
            running.client.patch("/settings", {"changes": values}).ok()
            yield running


def text(count: int) -> bytes:
    """About 2 KiB a row, which cannot be compressed much."""
    rows = ({"question": f"What is {number}?", "answer": secrets.token_hex(1000)} for number in range(count))
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def send_and_ask(client: Client, path: str, content: bytes, name: str) -> Answer:
    sha256 = hashlib.sha256(content).hexdigest()
    sent = client.send("PUT", f"/contents/{sha256}", content)
    if sent.status != 200:
        return sent
    return client.post(path, {"content": sha256, "file_name": f"{name}.jsonl"})


@pytest.mark.parametrize("operation", ["add", "update"])
def test_a_full_disk_is_said_and_leaves_nothing_half_added(daemon: DaemonProcess, operation: str) -> None:
    client, ballast, refused = daemon.client, daemon.config.state_dir / "ballast", 0
    for room_kib in ROOMS:
        name, content = f"{operation}-{room_kib}", text(2000)
        path, versions = "/datasets", 0
        if operation == "update":
            client.add_dataset(text(100), name, scopes=("train",))
            path, versions = f"/datasets/{name}/versions", 1
        fill(ballast)
        with ballast.open("r+b") as file:
            file.truncate(max(0, ballast.stat().st_size - room_kib * 1024))
        answer = send_and_ask(client, path, content, name)
        assert client.get("/health").status == 200
        if answer.status != 200:
            refused += 1
            assert answer.json["code"] in SAID, answer.json
            assert answer.json["detail"]
            assert answer.json["hint"]
        ballast.unlink()
        wait_until_writable(client)
        if answer.status != 200:
            there = client.get(f"/datasets/{name}/versions")
            assert (len(there.ok()) if there.status == 200 else 0) == versions
            require_nothing_left_over(daemon, half_uploads=True)
            send_and_ask(client, path, content, name).ok()
        assert len(client.get(f"/datasets/{name}/versions").ok()) == versions + 1
        client.post(f"/datasets/{name}/check", {}).ok()
        require_nothing_left_over(daemon)
        client.post(f"/erasures/{name}", {}).ok()
    assert refused >= len(ROOMS) - 1, "the disk was never full"
    if PROOF and operation == "update":
        record(
            Topic(
                "Data: full disks",
                "make proof-data-faults",
                [
                    Figure("additions and updates on a full disk", [2 * len(ROOMS)], digits=0),
                    Figure("datasets half added", [0], "", "<= 0", 0),
                    Figure("files left over once there was room", [0], "", "<= 0", 0),
                ],
            )
        )
