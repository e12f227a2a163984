"""Keys of the backups over the socket: shown once, typed back, changed, renewed; never written into the log."""

import shutil
from pathlib import Path
from typing import Any

from btmd.backup.folder import BackupFolder
from btmd.backup.key_ring import open_ring, passphrase_secret
from btmd.backup.keys import recovery_secret
from btmd.errors import WrongKey
from tests.fixtures.daemon import Client, ThreadedDaemon, config_of


def opened(daemon: ThreadedDaemon, secret: Any) -> bool:
    """Whether the secret opens the ring that lies beside the backups."""
    ((_, data),) = BackupFolder(daemon.config.backups_dir).rings()
    try:
        open_ring(data, secret)
    except WrongKey:
        return False
    return True


def reminders(client: Client) -> str:
    return " ".join(client.get("/status").ok()["reminders"])


def test_status_reminds_until_the_recovery_key_was_typed_back(client: Client, daemon: ThreadedDaemon) -> None:
    assert reminders(client) == ""
    assert client.post("/backup").ok()["notices"]
    assert "show-recovery" in reminders(client)
    before = client.events()[-1]["seq"]
    shown = client.post("/backup-keys/recovery-key").ok()["recovery_key"]
    assert "confirm-recovery" in reminders(client)
    assert opened(daemon, recovery_secret(shown))
    mistyped = ("1" if shown[0] != "1" else "2") + shown[1:]
    refused = client.post("/backup-keys/recovery-key/confirm", {"recovery_key": mistyped})
    assert "Group 1" in refused.refused(422, "recovery_key_mistyped")["detail"]
    client.post("/backup-keys/recovery-key/confirm", {"recovery_key": shown.lower().replace("-", " ")}).ok()
    assert reminders(client) == ""
    assert client.post("/backup").ok()["notices"] == []
    types = [event["type"] for event in client.events(before) if event["stream"] == "backups"]
    assert types[:2] == ["RecoveryKeyShown", "RecoveryKeyConfirmed"]
    log = str(client.events())
    assert shown not in log
    assert shown.split("-")[0] not in log


def test_a_new_recovery_key_ends_the_old_one(client: Client, daemon: ThreadedDaemon) -> None:
    old = client.post("/backup-keys/recovery-key").ok()["recovery_key"]
    new = client.post("/backup-keys/recovery-key").ok()["recovery_key"]
    assert not opened(daemon, recovery_secret(old))
    assert opened(daemon, recovery_secret(new))
    client.post("/backup-keys/recovery-key/confirm", {"recovery_key": old}).refused(403, "wrong_key")
    client.post("/backup-keys/recovery-key", idempotency_key="shown").ok()
    client.post("/backup-keys/recovery-key", idempotency_key="shown").refused(409, "conflict")


def test_a_passphrase_opens_them_too(client: Client, daemon: ThreadedDaemon) -> None:
    client.post("/backup-keys/passphrase", {"passphrase": "short"}).refused(422, "invalid_value")
    client.post("/backup-keys/passphrase", {"passphrase": "correct horse battery"}).ok()
    assert opened(daemon, passphrase_secret("correct horse battery"))
    shown = client.get("/backup-keys").ok()
    assert {slot["kind"] for slot in shown["slots"]} >= {"key_file", "passphrase"}
    assert shown["passphrase"] is True
    assert "correct horse" not in str(client.events())


def test_a_rotation_comes_after_a_backup_and_leaves_every_backup_readable(
    client: Client, daemon: ThreadedDaemon
) -> None:
    key, before = (daemon.config.keys_dir / "key").read_bytes(), client.get("/backup-keys").ok()["key_id"]
    count = len(client.get("/backups").ok())
    first = client.post("/backup-keys/rotate", {}, idempotency_key="turn").ok()
    assert client.post("/backup-keys/rotate", {}, idempotency_key="turn").ok() == first
    listed = client.get("/backups").ok()
    assert (len(listed), listed[0]["cause"]) == (count + 1, "key rotation")
    assert listed[0]["verified_at"], "it was read through before the keys went"
    assert client.get("/backup-keys").ok()["key_id"] != before
    assert (daemon.config.keys_dir / "key").read_bytes() != key
    client.post("/backup").ok()
    assert all(one["ok"] for one in client.post("/backups/verify").ok()["backups"])


def test_a_rotation_does_not_rest_on_a_backup_that_is_damaged(client: Client, daemon: ThreadedDaemon) -> None:
    client.post("/backup").ok()
    parts = {path: path.read_bytes() for path in (daemon.config.backups_dir / "objects").glob("*/*")}
    for path, whole in parts.items():
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    client.post("/backup-keys/rotate", {}).ok()
    newest = client.get("/backups").ok()[0]
    assert (newest["cause"], newest["fault"], newest["verified_at"] is None) == ("key rotation", "", False)
    for path, whole in parts.items():
        path.write_bytes(whole)
    assert all(one["ok"] for one in client.post("/backups/verify").ok()["backups"])


def test_a_lost_key_file_is_made_anew_by_another_secret(client: Client, daemon: ThreadedDaemon) -> None:
    client.post("/backup-keys/passphrase", {"passphrase": "correct horse battery"}).ok()
    (daemon.config.keys_dir / "key").unlink()
    client.post("/backup").refused(503, "part_missing")
    client.post("/backup-keys/key-file", {"passphrase": "wrong horse battery"}).refused(403, "wrong_key")
    client.post("/backup-keys/key-file", {}).refused(422, "invalid_value")
    client.post("/backup-keys/key-file", {"passphrase": "correct horse battery"}).ok()
    client.post("/backup").ok()
    assert all(one["ok"] for one in client.post("/backups/verify").ok()["backups"])
    assert client.get("/health").ok()["problems"] == {}


def test_keys_that_are_gone_are_never_replaced_in_silence(client: Client, daemon: ThreadedDaemon) -> None:
    recovery_key = client.post("/backup-keys/recovery-key").ok()["recovery_key"]
    client.post("/backup").ok()
    keys = daemon.config.keys_dir
    shutil.rmtree(keys)
    assert "renew --recovery-key" in client.get("/status").ok()["problems"]["backup keys"]
    client.post("/backup").refused(503, "part_missing")
    client.get("/backup-keys").refused(503, "part_missing")
    assert not keys.exists()
    client.post("/backup-keys/key-file", {"recovery_key": recovery_key}).ok()
    assert all(one["ok"] for one in client.post("/backups/verify").ok()["backups"])
    client.post("/backup").ok()
    assert client.get("/health").ok()["problems"] == {}
    (keys / "ring").unlink()
    client.post("/backups/last/verify").ok()
    assert (keys / "ring").exists(), "it came back from the backup folder"


def test_a_folder_without_its_key_ring_is_not_called_whole(client: Client, daemon: ThreadedDaemon) -> None:
    client.post("/backup").ok()
    rings = daemon.config.backups_dir / "rings"
    for path in rings.iterdir():
        path.write_bytes(b"no ring" * 100)
    client.post("/backups/last/verify").refused(503, "damaged")
    assert client.post("/backups/last/verify").ok()["ok"], "a whole copy was put there"
    shutil.rmtree(rings)
    client.post("/backups/last/drill").refused(503, "part_missing")
    assert client.post("/backups/last/drill").ok()["proved"]


def test_looking_at_the_keys_makes_none_and_new_ones_need_the_word(folder: Path) -> None:
    with ThreadedDaemon(config_of(folder / "other")) as daemon:
        client, keys = daemon.client, daemon.config.keys_dir
        assert client.get("/backup-keys").ok()["slots"] == []
        assert not keys.exists()
        client.post("/backup-keys/recovery-key").ok()
        client.post("/backup").ok()
        shutil.rmtree(keys)
        client.post("/backup-keys/key-file", {"anew": True}).ok()
        assert client.post("/backup").ok()["new_events"] > 0
        assert client.get("/backup-keys").ok()["recovery_key"] == "none"


def test_a_folder_out_of_reach_is_named(client: Client, folder: Path) -> None:
    stick = folder / "stick"
    client.post("/backup", {"to": str(stick)}).ok()
    stick.rename(folder / "away")
    answer = client.post("/backup-keys/passphrase", {"passphrase": "battery horse correct"}).ok()
    assert answer["unreached"] == [str(stick)]
