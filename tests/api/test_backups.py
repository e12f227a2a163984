"""Backups over the socket: made, listed, looked into, checked, proved, deleted; what is wrong is named."""

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from btmd.backup.keys import Keys
from tests.fixtures.daemon import Client, ThreadedDaemon, rows

FIELDS = {"backup_id": str, "created_at": str, "description": str, "backup_path": str, "size_mb": float}
SEEDS = itertools.count(1)


def change(client: Client) -> None:
    client.patch("/settings", {"changes": {"training.seed": next(SEEDS)}}).ok()


def create(client: Client, **body: Any) -> dict[str, Any]:
    return dict(client.post("/backup", body).ok())


def types(client: Client, after: int) -> list[str]:
    return [event["type"] for event in client.events(after) if event["stream"] == "backups"]


def head(client: Client) -> int:
    return int(client.events()[-1]["seq"])


def object_of(folder: Path, made: dict[str, Any], before: set[Path]) -> Path:
    """A part that was written for this backup alone."""
    (new,) = set((folder / "objects").glob("*/*")) - before
    return new


@pytest.fixture
def folder_of_backups(daemon: ThreadedDaemon) -> Path:
    return daemon.config.backups_dir


def test_a_backup_has_the_fields_that_clients_know(client: Client) -> None:
    made = create(client, description="Before the experiment")
    listed = client.get("/backups").ok()
    assert listed[0]["backup_id"] == made["backup_id"]
    for one in (made, *listed):
        assert {name: type(one[name]) for name in FIELDS} == FIELDS
        assert Path(one["backup_path"]).is_file()
        assert one["size_mb"] > 0
    assert made["description"] == "Before the experiment"
    assert client.post("/backup").ok()["description"] == "Manual backup"
    times = [one["created_at"] for one in client.get("/backups").ok()]
    assert times == sorted(times, reverse=True)
    assert client.get("/status").ok()["system_backups"] == len(times)
    assert client.get("/status").ok()["last_backup_at"] == times[0]


def test_only_what_is_new_is_written_and_every_backup_is_whole(client: Client) -> None:
    for _ in range(3):
        change(client)
        made = create(client)
    assert made["new_events"] == 2, "the change, and the record of the backup before"
    assert made["new_mb"] < 0.01
    assert made["events"] > made["new_events"]
    checked = client.post("/backups/verify").ok()["backups"]
    assert len(checked) >= 3
    assert all(one["ok"] and one["state"] == "matches" for one in checked)


def test_the_first_one_says_what_is_lost_with_the_key(client: Client) -> None:
    (notice,) = create(client)["notices"]
    assert "show-recovery" in notice


def test_the_same_request_twice_makes_one_backup(client: Client) -> None:
    before = len(client.get("/backups").ok())
    first = client.post("/backup", {"description": "once"}, idempotency_key="only-one").ok()
    assert client.post("/backup", {"description": "once"}, idempotency_key="only-one").ok() == first
    assert len(client.get("/backups").ok()) == before + 1
    client.post("/backup", {"description": "twice"}, idempotency_key="only-one").refused(422, "idempotency_mismatch")


def test_one_is_found_by_id_prefix_description_and_as_the_last(client: Client) -> None:
    made = create(client, description="the one with a name")
    for text in (made["backup_id"], made["backup_id"][:12], "the%20one%20with%20a%20name", "last"):
        assert client.get(f"/backups/{text}").ok()["backup_id"] == made["backup_id"]
    client.get("/backups/nothing").refused(404, "backup_not_found")
    client.send("DELETE", "/backup/nothing").refused(404, "backup_not_found")


def test_a_deleted_one_is_gone_and_the_others_stay_whole(client: Client) -> None:
    change(client)
    older = create(client)
    change(client)
    newer = create(client)
    before = head(client)
    answer = client.send("DELETE", f"/backup/{older['backup_id']}").ok()
    assert older["backup_id"] in answer["message"]
    assert not Path(older["backup_path"]).exists()
    assert types(client, before) == ["BackupDeletionBegun", "BackupDeleted"]
    assert older["backup_id"] not in [one["backup_id"] for one in client.get("/backups").ok()]
    assert client.post(f"/backups/{newer['backup_id']}/verify").ok()["ok"]


def test_parts_of_the_log_by_name(client: Client) -> None:
    config = create(client, kind="config")
    assert (config["kind"], "jobs" in config["components"]) == ("config", False)
    chosen = create(client, only=["settings"])
    assert (chosen["kind"], chosen["components"]) == ("selective", ["settings"])
    client.post("/backup", {"only": ["everything"]}).refused(422, "invalid_value")
    client.post("/backup", {"kind": "full", "only": ["settings"]}).refused(422, "invalid_value")
    shown = client.get(f"/backups/{chosen['backup_id']}").ok()
    assert {one["what"] for one in shown["omissions"]} >= {"history of jobs", "history of models"}


def test_contents_go_along_when_asked_and_are_named_when_not(client: Client) -> None:
    client.add_dataset(rows(20), "facts")
    client.add_dataset(rows(21), "private", consent=False)
    without = client.get(f"/backups/{create(client)['backup_id']}").ok()
    assert without["contents"] == []
    assert {one["what"]: one["count"] for one in without["omissions"]}["contents of datasets"] == 4
    made = create(client, with_artefacts=True)
    shown = client.get(f"/backups/{made['backup_id']}").ok()
    assert {(one["kind"], one["owner"]) for one in shown["contents"]} == {("dataset", "facts")}
    assert len(shown["contents"]) == made["artefacts"] == 2
    assert {one["what"]: one["count"] for one in shown["omissions"]}["contents of datasets without consent"] == 2
    assert client.post(f"/backups/{made['backup_id']}/verify").ok()["artefacts"] == 2
    again = create(client, with_artefacts=True)
    assert again["new_mb"] < 0.01, "what is there already is not kept twice"


def test_a_drill_proves_the_newest_full_one(client: Client) -> None:
    made = create(client)
    create(client, kind="config")
    before = head(client)
    done = client.post("/backups/last/drill").ok()
    assert (done["backup_id"], done["proved"], done["events"]) == (made["backup_id"], True, made["events"])
    assert types(client, before) == ["DrillPassed"]
    assert client.get("/status").ok()["last_proved_restore_at"]
    assert next(one for one in client.get("/backups").ok() if one["backup_id"] == made["backup_id"])["drilled_at"]


Harm = Callable[[Path, Path], None]


def flip(part: Path, other: Path) -> None:
    part.write_bytes(part.read_bytes()[:-40] + b"!" + part.read_bytes()[-39:])


def swap(part: Path, other: Path) -> None:
    part.write_bytes(other.read_bytes())


def remove(part: Path, other: Path) -> None:
    part.unlink()


@pytest.mark.parametrize(("harm", "code"), [(flip, "damaged"), (swap, "tampered"), (remove, "part_missing")])
def test_what_is_wrong_is_named_recorded_and_seen(
    client: Client, folder_of_backups: Path, harm: Harm, code: str
) -> None:
    change(client)
    create(client)
    before_parts = set((folder_of_backups / "objects").glob("*/*"))
    change(client)
    made = create(client)
    part = object_of(folder_of_backups, made, before_parts)
    whole = part.read_bytes()
    before = head(client)
    harm(part, next(iter(before_parts)))
    path = f"/backups/{made['backup_id']}"
    client.post(f"{path}/verify").refused(503, code)
    client.post(f"{path}/drill").refused(503, code)
    assert types(client, before) == ["BackupFaulty", "DrillFailed"]
    assert client.get("/backups").ok()[0]["fault"] == code
    assert "restore drill" in client.get("/health").ok()["problems"]
    every = {one["backup_id"]: one["code"] for one in client.post("/backups/verify").ok()["backups"]}
    assert {name for name, found in every.items() if found} == {made["backup_id"]}
    part.write_bytes(whole)
    assert client.post(f"{path}/verify").ok()["ok"]
    assert "restore drill" not in client.get("/health").ok()["problems"]
    assert client.post(f"{path}/drill").ok()["proved"]
    assert client.get("/backups").ok()[0]["fault"] == ""
    assert client.get("/health").ok()["problems"] == {}


@pytest.fixture
def without_its_key(daemon: ThreadedDaemon) -> Iterator[Path]:
    key = daemon.config.keys_dir / "key"
    held = key.read_bytes()
    yield key
    key.write_bytes(held)


def test_another_key_says_so_and_no_backup_is_lost(client: Client, without_its_key: Path, tmp_path: Path) -> None:
    made = create(client)
    known = client.get("/backups").ok()
    without_its_key.unlink()
    client.post("/backups/last/verify").refused(503, "part_missing")
    client.post("/backup").refused(503, "part_missing")
    others = Keys(tmp_path / "keys")
    others.open("another store", 0)
    without_its_key.write_bytes(others.key_path.read_bytes())
    client.post("/backups/last/verify").refused(403, "wrong_key")
    client.post("/backups/last/drill").refused(403, "wrong_key")
    assert client.get("/backups").ok() == known
    assert "backup" in client.get("/health").ok()["problems"]
    assert made["backup_id"] == known[0]["backup_id"]


def test_one_that_vanished_or_came_is_noticed(client: Client) -> None:
    made = create(client, description="comes and goes")
    path = Path(made["backup_path"])
    held, before = path.read_bytes(), head(client)
    path.unlink()
    assert made["backup_id"] not in [one["backup_id"] for one in client.get("/backups").ok()]
    client.post(f"/backups/{made['backup_id']}/verify").refused(503, "part_missing")
    client.post("/restores", {"backup_id": made["backup_id"]}).refused(503, "part_missing")
    checks = client.post("/backups/verify").ok()["backups"]
    assert [one["code"] for one in checks if one["backup_id"] == made["backup_id"]] == ["part_missing"]
    assert "1 backup is gone" in " ".join(client.get("/status").ok()["reminders"])
    path.write_bytes(held)
    again = client.get("/backups").ok()[0]
    assert (again["backup_id"], again["description"]) == (made["backup_id"], "comes and goes")
    told = [one for one in types(client, before) if one != "BackupVerified"]
    assert told == ["BackupLost", "BackupFound"]


def test_one_that_is_gone_is_struck_off_by_deleting_it(client: Client) -> None:
    made = create(client)
    Path(made["backup_path"]).unlink()
    client.post(f"/backups/{made['backup_id']}/verify").refused(503, "part_missing")
    client.send("DELETE", f"/backup/{made['backup_id']}").ok()
    client.post(f"/backups/{made['backup_id']}/verify").refused(404, "backup_not_found")
    assert "gone" not in " ".join(client.get("/status").ok()["reminders"])


def test_into_another_folder_which_holds_no_key(client: Client, folder: Path) -> None:
    stick = folder / "stick"
    made = create(client, to=str(stick), description="for the drawer")
    assert Path(made["backup_path"]).is_relative_to(stick)
    assert made["events"] == made["new_events"], "it rests on nothing outside"
    assert not [path for path in stick.rglob("*") if path.name == "key"]
    assert client.post(f"/backups/{made['backup_id']}/drill").ok()["proved"]
    stick.rename(folder / "taken away")
    (away,) = [one for one in client.get("/backups").ok() if one["backup_id"] == made["backup_id"]]
    assert (away["reachable"], away["frees_mb"]) == (False, None)
    client.post(f"/backups/{made['backup_id']}/verify").refused(503, "backup_folder_unusable")
    assert client.post("/backups/verify").ok()["out_of_reach"] == [str(stick)]
    (folder / "taken away").rename(stick)
    assert client.post(f"/backups/{made['backup_id']}/verify").ok()["ok"]
    client.post("/backup", {"to": "relative"}).refused(422, "invalid_value")
    client.post("/backup", {"to": str(folder / "not" / "there")}).refused(404, "file_not_found")
    client.send("DELETE", f"/backup/{made['backup_id']}").ok()
    shutil.rmtree(stick)


@pytest.mark.parametrize("inside", ["state", "state/keys", "state/content", "state/new", "state/backups/x", "config"])
def test_none_goes_where_the_daemon_keeps_its_own_things(client: Client, folder: Path, inside: str) -> None:
    link = folder / "link"
    link.symlink_to(folder / Path(inside).parent)
    for to in (folder / inside, link / Path(inside).name, folder / "stick" / ".." / inside):
        client.post("/backup", {"to": str(to)}).refused(422, "invalid_value")
    link.unlink()


def test_the_daemons_own_folder_may_be_named(client: Client, folder: Path) -> None:
    own = folder / "state" / "backups"
    (folder / "own").symlink_to(own)
    for to in (own, folder / "own"):
        assert Path(create(client, to=str(to))["backup_path"]).parent == own / "manifests"


def test_old_ones_go_by_the_settings(client: Client) -> None:
    for _ in range(2):
        change(client)
        create(client)
    policy = {"backup.keep_last": 1, "backup.keep_daily": 0, "backup.keep_weekly": 0, "backup.keep_monthly": 0}
    client.patch("/settings", {"changes": policy}).ok()
    before = head(client)
    pruned = client.post("/backups/prune").ok()
    assert len(pruned["deleted"]) >= 1
    assert types(client, before) == ["BackupDeletionBegun", *["BackupDeleted"] * len(pruned["deleted"])]
    left = client.get("/backups").ok()
    assert len({one["kind"] for one in left}) == len(left), "the newest of each kind"
    assert all(one["ok"] for one in client.post("/backups/verify").ok()["backups"])
