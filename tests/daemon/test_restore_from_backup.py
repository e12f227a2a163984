"""btmctl restore --backup on a real daemon: the backup is read through first, and what is wrong changes nothing."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from btmctl.__main__ import main
from btmd.backup.keys import Keys
from tests.fixtures.daemon import Client, ThreadedDaemon, config_of, rows
from tests.fixtures.short_folder import short_folder

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def daemon() -> Iterator[ThreadedDaemon]:
    with short_folder() as folder, ThreadedDaemon(config_of(folder)) as running:
        yield running


@pytest.fixture
def client(daemon: ThreadedDaemon) -> Client:
    return daemon.client


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], daemon: ThreadedDaemon) -> Run:
    def run(*arguments: str, socket: Path = daemon.config.socket_path) -> tuple[int, str, str]:
        code = main([*arguments, "--socket", str(socket)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def as_json(run: Run, *arguments: str, **where: Path) -> Any:
    code, out, err = run(*arguments, "--json", **where)
    assert code == 0, (out, err)
    return json.loads(out)


def set_values(client: Client, **values: object) -> None:
    client.patch("/settings", {"changes": {key.replace("__", "."): value for key, value in values.items()}}).ok()


def seed(client: Client) -> int:
    return int(client.get("/settings/training.seed").ok()["value"])


def test_looked_at_restored_and_taken_back(run: Run, client: Client) -> None:
    set_values(client, training__seed=11)
    made = as_json(run, "backup", "create")
    set_values(client, training__seed=12, training__patience=5)
    client.add_dataset(rows(20), "since")
    code, _, err = run("restore", "--backup", made["backup_id"][:8], "--dry-run")
    assert code == 0
    assert f"The state in the backup {made['backup_id']}" in err
    assert f"btmctl restore --backup {made['backup_id']} --expect" in err
    assert seed(client) == 12
    done = as_json(run, "restore", "--backup", "last", "--yes")
    assert {(one["component"], one["subject"]): (one["before"], one["after"]) for one in done["changes"]} == {
        ("settings", "training.patience"): (5, None),
        ("settings", "training.seed"): (12, 11),
        ("datasets", "since"): ("registered", None),
    }
    assert seed(client) == 11
    client.get("/datasets/since").refused(404, "dataset_not_found")
    assert client.get("/restores").ok()[0]["backup_id"] == made["backup_id"]
    assert run("restore", "--seq", str(done["undo_seq"]), "--yes")[0] == 0
    assert (seed(client), client.get("/datasets/since").ok()["scopes"]) == (12, ["train", "backup"])


def test_the_operation_that_clients_know(client: Client) -> None:
    set_values(client, training__seed=21)
    made = client.post("/backup").ok()
    set_values(client, training__seed=22)
    answer = client.post("/restore", {"backup_id": made["backup_id"]}, idempotency_key="once").ok()
    assert made["backup_id"] in answer["message"]
    assert seed(client) == 21
    set_values(client, training__seed=23)
    assert client.post("/restore", {"backup_id": made["backup_id"]}, idempotency_key="once").ok() == answer
    assert seed(client) == 23
    client.post("/restore", {}).refused(422, "invalid_value")
    client.post("/restore", {"backup_id": "ffffffff"}).refused(404, "backup_not_found")


def test_what_changed_since_the_preview_is_refused_unless_forced(run: Run, client: Client) -> None:
    set_values(client, training__seed=31)
    made = as_json(run, "backup", "create")
    set_values(client, training__seed=32)
    asked = ("restore", "--backup", made["backup_id"], "--only", "settings")
    expected = str(as_json(run, *asked, "--dry-run")["expected_head"])
    set_values(client, training__seed=33)
    assert run(*asked, "--expect", expected)[0] == 6
    assert seed(client) == 33
    assert run(*asked, "--expect", expected, "--force")[0] == 0
    assert seed(client) == 31


def test_a_merge_keeps_or_takes(run: Run, client: Client) -> None:
    set_values(client, training__seed=41, chat__idle_s=33)
    made = as_json(run, "backup", "create")
    set_values(client, training__seed=42, chat__idle_s=None)
    asked = ("restore", "--backup", made["backup_id"], "--only", "settings", "--mode", "merge", "--yes")
    assert run(*asked)[0] == 6
    assert run(*asked, "--prefer", "current")[0] == 0
    assert (seed(client), client.get("/settings/chat.idle_s").ok()["value"]) == (42, 33)
    assert run(*asked, "--prefer", "restored")[0] == 0
    assert seed(client) == 41


def test_a_selective_one_restores_what_it_holds_and_says_so(run: Run, client: Client) -> None:
    set_values(client, training__seed=51)
    made = as_json(run, "backup", "create", "--only", "settings")
    set_values(client, training__seed=52)
    client.add_dataset(rows(20), "later")
    done = as_json(run, "restore", "--backup", made["backup_id"], "--yes")
    assert [one["subject"] for one in done["changes"]] == ["training.seed"]
    assert any(text.startswith("datasets: not in the backup") for text in done["left_alone"])
    assert client.get("/datasets/later").status == 200
    code, _, err = run("restore", "--backup", made["backup_id"], "--only", "datasets", "--yes")
    assert (code, "holds settings" in err) == (2, True)
    client.send("DELETE", "/datasets/later").ok()


def test_contents_come_back_where_they_went_along(run: Run, daemon: ThreadedDaemon, client: Client) -> None:
    added = client.add_dataset(rows(25), "kept")
    before = set((daemon.config.backups_dir / "objects").glob("*/*"))
    made = as_json(run, "backup", "create", "--with-artefacts")
    asked = ("restore", "--backup", made["backup_id"], "--only", "datasets")
    client.send("DELETE", "/datasets/kept").ok()
    assert as_json(run, *asked, "--dry-run")["left_alone"] == []
    # One that is damaged stops the whole restore before anything is changed.
    largest = max(
        set((daemon.config.backups_dir / "objects").glob("*/*")) - before, key=lambda path: path.stat().st_size
    )
    whole = largest.read_bytes()
    largest.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert run(*asked, "--yes")[0] == 7
    client.get("/datasets/kept").refused(404, "dataset_not_found")
    largest.write_bytes(whole)
    done = as_json(run, *asked, "--yes")
    assert [(one["subject"], one["after"]) for one in done["changes"]] == [("kept", "registered")]
    back = client.get("/datasets/kept").ok()
    assert (back["version_id"], back["scopes"]) == (added["version_id"], ["train", "backup"])
    for path in daemon.config.content_dir.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    client.send("DELETE", "/datasets/kept").ok()


def flip(part: Path, other: Path) -> None:
    part.write_bytes(part.read_bytes()[:-1] + b"!")


def swap(part: Path, other: Path) -> None:
    part.write_bytes(other.read_bytes())


def remove(part: Path, other: Path) -> None:
    part.unlink()


@pytest.mark.parametrize(("harm", "code"), [(flip, 7), (swap, 9), (remove, 10)])
def test_a_backup_that_is_not_whole_changes_nothing(
    run: Run, daemon: ThreadedDaemon, client: Client, harm: Callable[[Path, Path], None], code: int
) -> None:
    objects = daemon.config.backups_dir / "objects"
    before = set(objects.glob("*/*")) or {Path(as_json(run, "backup", "create")["backup_path"])}
    set_values(client, training__seed=61)
    made = as_json(run, "backup", "create")
    set_values(client, training__seed=62)
    (part,) = set(objects.glob("*/*")) - before
    whole = part.read_bytes()
    harm(part, min(before))
    for more in (["--dry-run"], ["--yes", "--mode", "merge", "--prefer", "restored"]):
        assert run("restore", "--backup", made["backup_id"], *more)[0] == code
    assert seed(client) == 62
    assert next(one["fault"] for one in client.get("/backups").ok() if one["backup_id"] == made["backup_id"])
    part.write_bytes(whole)
    assert run("restore", "--backup", made["backup_id"], "--yes")[0] == 0
    assert seed(client) == 61


def test_another_key_changes_nothing(run: Run, daemon: ThreadedDaemon, client: Client, tmp_path: Path) -> None:
    set_values(client, training__seed=71)
    made = as_json(run, "backup", "create")
    set_values(client, training__seed=72)
    key, others = daemon.config.keys_dir / "key", Keys(tmp_path / "keys")
    others.open("another store", 0)
    mine = key.read_bytes()
    key.write_bytes(others.key_path.read_bytes())
    assert run("restore", "--backup", made["backup_id"], "--yes")[0] == 8
    assert seed(client) == 72
    key.write_bytes(mine)
    assert run("restore", "--backup", made["backup_id"], "--yes")[0] == 0
    assert seed(client) == 71


def test_the_state_of_a_log_that_was_given_up_comes_back(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with short_folder() as folder:
        config = config_of(folder)
        with ThreadedDaemon(config) as daemon:
            set_values(daemon.client, training__seed=1)
            daemon.client.add_dataset(rows(20), "early")
            earlier = daemon.client.post("/backup").ok()
            set_values(daemon.client, training__seed=2, training__patience=9)
            daemon.client.add_dataset(rows(30), "late")
            later = daemon.client.post("/backup").ok()
        contents = shutil.copytree(config.content_dir, folder / "contents")
        monkeypatch.setenv("BTMD_STATE_DIR", str(config.state_dir))
        again = ("recover", "--from", str(config.state_dir), "--backup", earlier["backup_id"], "--yes")
        assert main(again) == 0
        capsys.readouterr()
        with ThreadedDaemon(config) as daemon:
            client, socket = daemon.client, config.socket_path
            for number in range(12):
                # So many that the given-up log's last number means another event now.
                set_values(client, training__evaluations=number)
            assert client.events()[-1]["seq"] > later["head_seq"]
            asked = ("restore", "--backup", later["backup_id"], "--yes")
            done = as_json(run, *asked, "--only", "settings", socket=socket)
            assert seed(client) == 2
            assert {one["subject"] for one in done["changes"]} == {
                "training.seed",
                "training.patience",
                "training.evaluations",
            }
            without = as_json(run, *asked, "--only", "datasets", socket=socket)
            assert (without["changes"], "contents are gone" in without["left_alone"][0]) == ([], True)
            shutil.copytree(contents, config.content_dir, dirs_exist_ok=True)
            assert as_json(run, *asked, "--only", "datasets", socket=socket)["changes"][0]["subject"] == "late"
            assert client.get("/datasets/late").ok()["scopes"] == ["train", "backup"]
            # What was registered since goes, as with any restore, and can be taken back.
            assert run("restore", "--seq", str(done["undo_seq"]), "--yes", socket=socket)[0] == 0
            assert (seed(client), client.get("/datasets/late").status) == (1, 404)
            assert client.get("/audit/verification").ok()["verdict"] == "ok"
