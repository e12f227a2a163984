"""Every kind of key takes a person back: typed, mistyped, foreign, lost, rotated; and links are never followed."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from btmctl.__main__ import main
from btmd.backup.recovery_key import write_recovery_key
from btmd.config import BACKUP_CREDENTIAL, Config, SystemdContext
from tests.fixtures.daemon import ThreadedDaemon, config_of
from tests.fixtures.short_folder import short_folder

PASSPHRASE = "correct horse battery"
FOREIGN = write_recovery_key(bytes(range(20)))


class Person:
    """Somebody at a shell: types commands, and what is asked for."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def runs(self, *arguments: str, typed: str = "") -> tuple[int, str, str]:
        self._monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        code = main(arguments)
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def reaches(self, config: Config) -> None:
        self._monkeypatch.setenv("BTMD_SOCKET", str(config.socket_path))
        self._monkeypatch.setenv("BTMD_STATE_DIR", str(config.state_dir))

    def does(self, *arguments: str, typed: str = "") -> str:
        code, out, err = self.runs(*arguments, typed=typed)
        assert code == 0, (out, err)
        return out

    def backs_up(self, *more: str) -> dict[str, Any]:
        return dict(json.loads(self.does("backup", "create", "--json", *more)))

    def sets_seed(self, value: int) -> None:
        self.does("config", "set", f"training.seed={value}")

    def seed(self) -> int:
        return int(json.loads(self.does("config", "get", "training.seed", "--json"))["value"])

    def restores(self, made: dict[str, Any]) -> int:
        return self.runs("restore", "--backup", made["backup_id"], "--yes")[0]


@pytest.fixture
def person(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Person:
    return Person(capsys, monkeypatch)


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


def mistyped(key: str) -> str:
    return ("2" if key[0] != "2" else "3") + key[1:]


def require_private(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink() and not path.is_socket():
            assert path.stat().st_mode & 0o077 == 0, path


def test_keys_that_are_rotated_lost_and_made_anew(person: Person, folder: Path) -> None:
    config = config_of(folder)
    person.reaches(config)
    with ThreadedDaemon(config):
        person.sets_seed(1)
        first = person.backs_up()
        person.does("backup", "key", "passphrase", typed=f"{PASSPHRASE}\n")
        recovery_key = person.does("backup", "key", "show-recovery").strip()
        confirm = ("backup", "key", "confirm-recovery")
        code, _, err = person.runs(*confirm, typed=mistyped(recovery_key))
        assert (code, "Group 1" in err) == (2, True)
        assert person.runs(*confirm, typed=FOREIGN)[0] == 8
        person.does(*confirm, typed=recovery_key)
        person.sets_seed(2)
        second = person.backs_up()
        person.does("backup", "key", "rotate")
        person.sets_seed(3)
        third = person.backs_up("--to", str(folder / "stick"))
        # Old and new backups are restored under the keys of now.
        for made, seed in ((first, 1), (third, 3), (second, 2)):
            assert person.restores(made) == 0
            assert person.seed() == seed

        key = config.keys_dir / "key"
        for option, wrong, right in (
            ("--recovery-key", ((mistyped(recovery_key), 2), (FOREIGN, 8)), recovery_key),
            ("--passphrase", (("wrong horse battery", 8),), PASSPHRASE),
        ):
            key.unlink()
            code, _, err = person.runs("restore", "--backup", first["backup_id"], "--yes")
            assert (code, "backup key renew" in err) == (10, True)
            for typed, expected in wrong:
                assert person.runs("backup", "key", "renew", option, typed=f"{typed}\n")[0] == expected
                assert not key.exists()
            assert person.seed() == 2
            person.does("backup", "key", "renew", option, typed=f"{right}\n")
            for made, seed in ((first, 1), (second, 2)):
                assert person.restores(made) == 0
                assert person.seed() == seed
        require_private(config.state_dir)
        require_private(folder / "stick")
        secrets = (key.read_bytes().strip(), PASSPHRASE.encode(), recovery_key.encode())
        for path in (folder / "stick").rglob("*"):
            assert path.name != "key"
            assert path.is_dir() or not any(secret in path.read_bytes() for secret in secrets), path


def test_a_recovery_key_of_another_store_and_one_mistyped_begin_nothing_elsewhere(person: Person, folder: Path) -> None:
    config, elsewhere = config_of(folder), config_of(folder, state_dir=folder / "elsewhere")
    person.reaches(config)
    with ThreadedDaemon(config):
        person.sets_seed(1)
        recovery_key = person.does("backup", "key", "show-recovery").strip()
        made = person.backs_up("--to", str(folder / "stick"))
    person.reaches(elsewhere)
    recover = ("recover", "--from", str(folder / "stick"), "--recovery-key")
    for typed, code in ((FOREIGN, 8), (mistyped(recovery_key), 2)):
        assert person.runs(*recover, typed=f"{typed}\n")[0] == code
        assert not elsewhere.database_path.exists()
        assert not elsewhere.keys_dir.exists()
    person.does(*recover, typed=f"{recovery_key}\n")
    with ThreadedDaemon(elsewhere):
        # Its own keys open the backup that the other machine made.
        person.backs_up("--to", str(folder / "stick"))
        person.sets_seed(9)
        assert person.restores(made) == 0
        assert person.seed() == 1


def test_a_credential_in_place_of_a_key_file(person: Person, folder: Path) -> None:
    credentials = folder / "credentials"
    credentials.mkdir(mode=0o700)
    credential = credentials / BACKUP_CREDENTIAL
    credential.write_bytes(b"32 random bytes or more: 0123456789abcdef")
    config = config_of(folder, systemd=SystemdContext(credentials_dir=str(credentials)))
    person.reaches(config)
    with ThreadedDaemon(config):
        person.sets_seed(1)
        made = person.backs_up()
        assert [path.name for path in config.keys_dir.iterdir()] == ["ring"]
        person.does("backup", "key", "rotate")
        person.sets_seed(2)
        held = credential.read_bytes()
        credential.write_bytes(b"another credential, of the same length...")
        assert person.restores(made) == 8
        assert person.seed() == 2
        credential.write_bytes(held)
        assert person.restores(made) == 0
        assert person.seed() == 1
    elsewhere = config_of(folder, state_dir=folder / "elsewhere")
    person.reaches(elsewhere)
    recover = ("recover", "--from", str(config.backups_dir), "--credential")
    other = folder / "other"
    other.write_bytes(b"another credential, of the same length...")
    assert person.runs(*recover, str(other))[0] == 8
    assert not elsewhere.database_path.exists()
    person.does(*recover, str(credential))
    with ThreadedDaemon(elsewhere):
        assert person.seed() == 1
        person.backs_up()


def test_a_link_in_place_of_a_backup_or_a_key_is_not_followed(person: Person, folder: Path) -> None:
    config = config_of(folder)
    person.reaches(config)
    with ThreadedDaemon(config) as daemon:
        person.sets_seed(1)
        made = person.backs_up()
        person.sets_seed(2)
        part = next((config.backups_dir / "objects").glob("*/*"))
        for path in (Path(made["backup_path"]), part, config.keys_dir / "key", config.keys_dir / "ring"):
            # Even where it leads to the very same bytes.
            target = Path(shutil.move(path, folder / "target"))
            whole = target.read_bytes()
            path.symlink_to(target)
            head = daemon.client.events()[-1]["seq"]
            assert person.restores(made) == 9, path
            assert person.seed() == 2
            found = daemon.client.events(head)
            recorded = {one["type"] for one in found if one["stream"] != "backups"}
            assert recorded <= {"OperationRefused"}, "only what was found, and that it was refused"
            person.runs("backup", "key", "rotate")
            assert target.read_bytes() == whole, "nothing was written through it"
            path.unlink(missing_ok=True)
            path.write_bytes(whole)
            path.chmod(0o600)
        assert person.restores(made) == 0
        assert person.seed() == 1
