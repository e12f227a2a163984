"""btmctl backup against a real daemon: what is printed, and the exit codes that scripts go by."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from btmctl.__main__ import main
from btmd.backup.keys import Keys
from tests.fixtures.daemon import ThreadedDaemon, config_of
from tests.fixtures.short_folder import short_folder

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def daemon() -> Iterator[ThreadedDaemon]:
    with short_folder() as folder, ThreadedDaemon(config_of(folder)) as running:
        yield running


@pytest.fixture
def run(daemon: ThreadedDaemon, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--socket", str(daemon.config.socket_path)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def as_json(run: Run, *arguments: str) -> Any:
    code, out, err = run(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def create(run: Run, *arguments: str) -> dict[str, Any]:
    return dict(as_json(run, "backup", "create", *arguments))


def test_the_only_full_one_is_not_deleted_by_accident(run: Run) -> None:
    assert run("backup", "list")[2].startswith("There is no backup yet.")
    code, out, err = run("backup", "create")
    assert (code, "show-recovery" in err) == (0, True)
    assert as_json(run, "backup", "list")[0]["backup_id"] == out.strip()
    code, _, err = run("backup", "delete", out.strip())
    assert (code, "--yes" in err) == (6, True)
    code, _, err = run("backup", "delete", "last", "--yes")
    assert (code, "is deleted" in err) == (0, True)
    assert as_json(run, "backup", "list") == []


def test_made_listed_shown_verified_and_proved(run: Run) -> None:
    made = create(run, "--description", "before the experiment")
    code, out, _ = run("backup", "list")
    assert code == 0
    assert made["backup_id"] in out
    assert "before the experiment" in out
    assert "history of jobs" in run("backup", "show", create(run, "--kind", "config")["backup_id"])[1]
    code, out, _ = run("backup", "verify", made["backup_id"][:10])
    assert (code, out.split()[1]) == (0, "whole:")
    answer = as_json(run, "backup", "verify")
    assert (len(answer["backups"]), answer["out_of_reach"]) == (2, [])
    code, _, err = run("backup", "drill")
    assert (code, "Proved: " + made["backup_id"] in err) == (0, True)
    status = run("status")[1]
    assert "last proved restore  2" in status
    assert "backups              2, the last 2" in status


def test_parts_and_other_folders(run: Run, tmp_path: Path) -> None:
    made = create(run, "--only", "settings,models", "--to", str(tmp_path / "stick"))
    assert (made["kind"], made["components"]) == ("selective", ["settings", "models"])
    assert str(tmp_path / "stick") in run("backup", "list")[1]
    code, _, err = run("backup", "delete", made["backup_id"])
    assert (code, f"Delete the backup {made['backup_id']}" in err) == (6, True)
    assert made["backup_id"] in [one["backup_id"] for one in as_json(run, "backup", "list")]
    code, _, err = run("backup", "delete", "last", "--yes")
    assert (code, f"{made['backup_id']} is deleted; that freed " in err, " 0.0" in err) == (0, True, False)
    assert made["backup_id"] not in [one["backup_id"] for one in as_json(run, "backup", "list")]
    assert run("backup", "delete", made["backup_id"])[0] == 5


def test_a_folder_out_of_reach_is_named_to_people_and_to_programs(run: Run, tmp_path: Path) -> None:
    stick = tmp_path / "unplugged"
    made = create(run, "--to", str(stick))
    stick.rename(tmp_path / "drawer")
    assert as_json(run, "backup", "verify")["out_of_reach"] == [str(stick)]
    code, _, err = run("backup", "verify")
    assert (code, f"{stick} is out of reach; the backups in it were not checked." in err) == (0, True)
    (tmp_path / "drawer").rename(stick)
    assert run("backup", "delete", made["backup_id"], "--yes")[0] == 0


def test_what_cannot_be_is_refused(run: Run) -> None:
    assert run("backup", "show", "nothing")[0] == 5
    assert run("backup", "create", "--only", "everything")[0] == 2
    assert run("backup", "create", "--kind", "half")[0] == 2
    assert run("backup", "create", "--to", "/nowhere/at/all")[0] == 5


def test_the_exit_code_says_what_is_wrong_with_a_backup(run: Run, daemon: ThreadedDaemon, tmp_path: Path) -> None:
    folder = daemon.config.backups_dir
    create(run)
    older = sorted((folder / "objects").glob("*/*"))
    run("config", "set", "training.seed=3")
    made = create(run)
    (part,) = set((folder / "objects").glob("*/*")) - set(older)
    whole = part.read_bytes()

    def code(*arguments: str) -> int:
        return run("backup", *arguments)[0]

    part.write_bytes(whole[:-1] + b"!")
    assert code("verify", made["backup_id"]) == 7
    part.write_bytes(older[0].read_bytes())
    assert code("verify", made["backup_id"]) == 9
    part.unlink()
    assert code("verify", made["backup_id"]) == 10
    assert code("verify", "--json") == 10
    assert code("drill", made["backup_id"]) == 10
    part.write_bytes(whole)
    key, others = daemon.config.keys_dir / "key", Keys(tmp_path / "keys")
    others.open("another store", 0)
    mine = key.read_bytes()
    key.write_bytes(others.key_path.read_bytes())
    assert code("verify", made["backup_id"]) == 8
    key.write_bytes(mine)
    assert code("verify") == 0


def test_pruning_tells_what_went(run: Run) -> None:
    create(run)
    create(run)
    run(
        "config", "set", *(f"backup.keep_{period}=0" for period in ("daily", "weekly", "monthly")), "backup.keep_last=1"
    )
    listed = [one["backup_id"] for one in as_json(run, "backup", "list")]
    code, out, err = run("backup", "prune")
    assert (code, out, "--yes" in err) == (6, "", True)
    told = [one for one in listed if one in err]
    assert [one["backup_id"] for one in as_json(run, "backup", "list")] == listed
    code, out, err = run("backup", "prune", "--yes")
    assert out.split() == told
    assert (code, len(out.split()) >= 1) == (0, True)
    assert "went" in err
    assert [one["kind"] for one in as_json(run, "backup", "list")].count("full") == 1


def test_a_recovery_key_is_shown_and_typed_back(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    create(run)
    assert "show-recovery" in run("status")[2]
    code, out, err = run("backup", "key", "show-recovery")
    assert (code, "Write it down" in err) == (0, True)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert run("backup", "key", "confirm-recovery")[0] == 6
    monkeypatch.setattr("sys.stdin", io.StringIO("0000\n"))
    code, _, err = run("backup", "key", "confirm-recovery")
    assert (code, "Group 1" in err) == (2, True)
    monkeypatch.setattr("sys.stdin", io.StringIO(out))
    assert run("backup", "key", "confirm-recovery")[0] == 0
    assert "recovery" not in run("status")[2]
    code, _, err = run("backup", "key", "show-recovery")
    assert (code, "--yes" in err) == (6, True)
    assert "recovery key" in run("backup", "key", "list")[1]


def test_an_end_of_input_in_place_of_a_passphrase_is_no_answer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(*_: object) -> str:
        raise EOFError

    monkeypatch.setattr("getpass.getpass", ended)
    monkeypatch.setattr("btmctl.session.Session.can_ask", True)
    code, _, err = run("backup", "key", "passphrase")
    assert (code, "Nothing was typed." in err) == (6, True), err


def test_a_passphrase_and_a_rotation(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\n"))
    assert run("backup", "key", "passphrase")[0] == 0
    assert run("backup", "key", "rotate")[0] == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("wrong horse battery\n"))
    assert run("backup", "key", "renew", "--passphrase")[0] == 8
    assert run("backup", "key", "renew")[0] == 2
    assert run("backup", "verify")[0] == 0
