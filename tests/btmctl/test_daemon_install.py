"""Making the daemon a service and taking that back, below a folder of its own and with a systemctl that only notes."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from btmctl import daemon_alone, daemon_install, daemon_reach, daemon_systemd, state_removal
from btmctl.__main__ import main
from btmd.config import read_config

Run = Callable[..., tuple[int, str, str]]
ELSEWHERE = "/opt/btmd/bin/python3"
"""On the machine that a package is for; nothing on this one."""
SYSTEM = [
    "etc/polkit-1/rules.d/50-btmd-sleep.rules",
    "etc/systemd/system/btmd-devices.service",
    "etc/systemd/system/btmd.service",
    "etc/systemd/system/btmd.socket",
    "etc/sysusers.d/btmd.conf",
    "etc/tmpfiles.d/btmd.conf",
]
COMMANDS = ("systemctl", "loginctl", "systemd-sysusers", "systemd-tmpfiles")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["daemon", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """A machine with systemd and no unit yet; returns what was asked of it since."""
    programs, log = tmp_path / "programs", tmp_path / "asked"
    programs.mkdir()
    for name in COMMANDS:
        program = programs / name
        program.write_text(
            f'#!/bin/sh\necho "{name} $*" >> {log}\n'
            f'case "$*" in *"show btmd.service"*) cat {tmp_path}/shown-${{1#--}} 2>/dev/null;; esac\nexit 0\n'
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    booted, runtime = tmp_path / "booted", tmp_path / "run"
    booted.mkdir()
    (runtime / "systemd").mkdir(parents=True)
    monkeypatch.setattr(daemon_systemd, "BOOTED", str(booted))
    monkeypatch.setattr(daemon_systemd, "LINGER", str(tmp_path / "linger"))
    monkeypatch.setattr(daemon_reach, "PASSING", ())
    monkeypatch.setattr(daemon_reach, "HIDDEN", ())
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    def since() -> list[str]:
        found = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [line for line in found if " show " not in line]

    return since


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_system_service_below_a_root(run: Run, tmp_path: Path) -> None:
    code, out, err = run("install", "--system", "--root", str(tmp_path), "--python", ELSEWHERE)
    assert (code, files_below(tmp_path)) == (0, SYSTEM), err
    assert "systemctl" not in out, "nothing is started in a folder"
    for name in SYSTEM:
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o644
        assert "@" not in (tmp_path / name).read_text().replace("@system-service @resources", "").replace(
            "~@privileged", ""
        )
    service = (tmp_path / "etc/systemd/system/btmd.service").read_text()
    assert f"ExecStart={ELSEWHERE} -P -m btmd\n" in service
    assert f"ExecStop={ELSEWHERE} -P -m btmd.unit_stop btmd.service\n" in service
    code, _, _ = run("uninstall", "--system", "--root", str(tmp_path))
    assert (code, files_below(tmp_path)) == (0, [])


def test_a_package_has_its_own_folders(run: Run, tmp_path: Path) -> None:
    line = ("--root", str(tmp_path), "--packaged", "--python", ELSEWHERE)
    assert run("install", "--system", *line)[0] == 0
    assert run("install", "--user", *line)[0] == 0
    found = files_below(tmp_path)
    assert "usr/lib/systemd/system/btmd.service" in found
    assert "usr/lib/sysusers.d/btmd.conf" in found
    assert "usr/lib/systemd/user/btmd.socket" in found
    assert not [name for name in found if name.startswith("etc/")]
    # Where a package is made, the interpreter is there as well, and has no btmd.
    assert run("install", "--system", *line[:-1], "/bin/sh")[0] == 0
    code, _, err = run("install", "--system", "--packaged")
    assert code != 0
    assert "--root" in err


def test_drop_ins_stay_and_a_changed_unit_is_not_written_over(run: Run, tmp_path: Path) -> None:
    line = ("--system", "--root", str(tmp_path), "--python")
    units = tmp_path / "etc/systemd/system"
    mine = units / "btmd.service.d/mine.conf"
    mine.parent.mkdir(parents=True)
    mine.write_text("[Service]\nNice=5\n")
    assert run("install", *line, ELSEWHERE)[0] == 0
    code, out, _ = run("install", *line, "/opt/newer/bin/python3")
    assert code == 0, "what this program wrote, it writes anew"
    assert "/opt/newer/bin/python3" in (units / "btmd.service").read_text()
    assert str(mine) in out

    with (units / "btmd.service").open("a") as file:
        file.write("# mine\n")
    changed = (units / "btmd.service").read_text()
    code, _, err = run("install", *line, ELSEWHERE)
    assert code == 6
    assert "drop-in" in err
    assert (units / "btmd.service").read_text() == changed
    code, out, _ = run("uninstall", "--system", "--root", str(tmp_path))
    assert code == 0
    assert files_below(units) == ["btmd.service", "btmd.service.d/mine.conf"]
    assert "changed by hand, stays" in out
    assert run("install", *line, ELSEWHERE, "--replace")[0] == 0
    assert (units / "btmd.service.before").read_text() == changed
    assert mine.read_text() == "[Service]\nNice=5\n"


def test_a_dry_run_shows_everything_and_changes_nothing(
    run: Run, tmp_path: Path, asked: Callable[[], list[str]]
) -> None:
    code, out, _ = run("install", "--user", "--dry-run", "--json")
    told = json.loads(out)
    assert code == 0
    assert [Path(one["path"]).name for one in told["files"]] == ["btmd.service", "btmd.socket", "btmd-notify.service"]
    assert "systemctl --user enable btmd.socket btmd.service" in told["commands"]
    assert not any(Path(one["path"]).exists() for one in told["files"])
    assert asked() == []
    _, out, _ = run("install", "--user", "--dry-run")
    assert told["files"][0]["text"] in out


def test_a_user_is_told_of_lingering_and_has_it_on_a_word(
    run: Run, tmp_path: Path, asked: Callable[[], list[str]]
) -> None:
    code, _, err = run("install", "--user")
    assert code == 0, err
    assert asked() == [
        "systemctl --user daemon-reload",
        "systemctl --user enable btmd.socket btmd.service",
        "systemctl --user start btmd.socket",
        "systemctl --user restart btmd.service",
    ]
    assert "loginctl enable-linger" in err
    unit = tmp_path / "xdg_config_home/systemd/user/btmd.service"
    assert f"ExecStart={sys.executable} -P -m btmd\n" in unit.read_text()
    # Where things lie by the user's own environment, the service manager does not know by itself.
    assert f'Environment="XDG_STATE_HOME={tmp_path}/xdg_state_home"' in unit.read_text()
    assert run("install", "--user", "--linger")[0] == 0
    assert asked()[-1] == "loginctl enable-linger"
    (tmp_path / "linger").mkdir()
    (tmp_path / "linger" / daemon_systemd.user_name()).touch()
    code, _, err = run("install", "--user")
    assert code == 0
    assert "linger" not in err


def test_uninstalling_leaves_the_state_and_says_where_unless_told(
    run: Run, tmp_path: Path, asked: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "xdg_state_home/btmd"
    (state / "models").mkdir(parents=True)
    run("install", "--user")
    (tmp_path / "shown-user").write_text("LoadState=loaded\nActiveState=active\n")
    asked()
    code, out, err = run("uninstall", "--user")
    assert code == 0
    assert asked() == ["systemctl --user disable --now btmd.socket btmd.service", "systemctl --user daemon-reload"]
    assert f"state, stays  {state}" in out
    assert "btmctl daemon uninstall --user --delete-state" in err
    assert "by hand" not in err
    with monkeypatch.context() as somebody_answers:
        somebody_answers.setattr(daemon_install, "probe", lambda path: None)
        assert "btmctl daemon stop ends it" in run("uninstall", "--user")[2]
    assert state.is_dir()
    assert run("uninstall", "--user", "--delete-state")[0] == 6, "without a terminal it needs --yes"
    assert state.is_dir()


def test_state_is_deleted_with_a_word_on_what_is_lost_and_links_are_not_followed(
    run: Run, tmp_path: Path, asked: Callable[[], list[str]]
) -> None:
    state, config = tmp_path / "xdg_state_home/btmd", tmp_path / "xdg_config_home/btmd"
    quickstart, letters = tmp_path / "xdg_state_home/btmd-quickstart", tmp_path / "letters"
    for folder in (state / "models", state / "keys", state / "backups" / "b1", config / "presets", quickstart, letters):
        folder.mkdir(parents=True)
    (letters / "one.txt").touch()
    (state / "models" / "mine").symlink_to(letters)
    for file in (
        state / "btmd.db-wal",
        state / "keys" / "ring",
        config / ".settings.toml.12.new",
        quickstart / "btmd.db",
    ):
        file.touch()
    code, out, _ = run("uninstall", "--user", "--delete-state", "--dry-run")
    assert (code, out.count("would delete  ")) == (0, 3)
    code, out, err = run("uninstall", "--user", "--delete-state", "--yes")
    assert code == 0
    assert "The backups in it go too" in err
    assert "recovery key" in err
    assert not any(folder.exists() for folder in (state, config, quickstart))
    assert (letters / "one.txt").exists()


def test_state_in_use_or_among_other_things_is_not_deleted(
    run: Run, tmp_path: Path, asked: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "xdg_state_home/btmd"
    for lock in (state / "btmd.lock", state / "jobs" / "abc" / "lock"):
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.write_text("4711\n")
        with lock.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            code, _, err = run("uninstall", "--user", "--delete-state", "--yes")
        assert code == 6
        assert ("4711" if lock.parent == state else "abc") in err
        assert lock.exists()
    monkeypatch.setenv("BTMD_STATE_DIR", str(tmp_path))
    code, _, err = run("uninstall", "--user", "--delete-state", "--yes")
    assert code == 6
    assert str(tmp_path / "programs") in err
    assert (tmp_path / "programs").is_dir()


def test_everything_that_a_daemon_puts_into_its_folders_is_known_as_its_own(tmp_path: Path) -> None:
    config = read_config([], {"HOME": str(tmp_path), "BTMD_STATE_DIR": str(tmp_path), "BTMD_CONFIG_DIR": str(tmp_path)})
    values = [getattr(config, name) for name in dir(config) if not name.startswith("_")]
    paths = [value for value in values if isinstance(value, Path) and value != tmp_path]
    inside = {path.relative_to(tmp_path).parts[0] for path in paths if path.is_relative_to(tmp_path)}
    assert {"btmd.db", "keys", "presets", "settings.toml"} <= inside
    assert [name for name in inside if name != ".cache" and not state_removal.OURS.fullmatch(name)] == []


def test_the_system_service_makes_its_user_before_it_starts(
    run: Run, tmp_path: Path, asked: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # This test's own interpreter may lie in a home.
    monkeypatch.setattr(daemon_install, "require_reachable", lambda *_, **__: None)
    _, out, _ = run("install", "--system", "--dry-run", "--json")
    assert json.loads(out)["commands"] == [
        "systemd-sysusers /etc/sysusers.d/btmd.conf",
        "systemd-tmpfiles --create /etc/tmpfiles.d/btmd.conf",
        "systemctl daemon-reload",
        "systemctl enable btmd.socket btmd.service",
        "systemctl start btmd.socket",
        "systemctl restart btmd.service",
    ]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    code, _, err = run("install", "--system")
    assert code == 4
    assert "sudo" in err


def test_an_interpreter_that_the_service_could_not_reach_is_refused_with_the_remedy(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Callable[[], list[str]]
) -> None:
    home = tmp_path / "home/ada"
    (home / "bin").mkdir(parents=True)
    for folder in (*list(tmp_path.parents)[:-1], tmp_path, tmp_path / "home"):
        if folder.stat().st_uid == os.getuid() and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o111)
    python = home / "bin/python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    home.chmod(0o700)
    root = tmp_path / "root"
    code, _, err = run("install", "--system", "--root", str(root), "--python", str(python))
    assert code == 6
    assert f"{home}, which is closed to other users (mode 0700)" in err
    assert "/opt/btmd" in err
    assert "--user" in err
    assert not root.exists()
    # The sandbox shows no homes at all, however open they are.
    home.chmod(0o755)
    monkeypatch.setattr(daemon_reach, "HIDDEN", (str(tmp_path / "home"),))
    assert "does not see" in run("install", "--system", "--root", str(root), "--python", str(python))[2]
    # One that finds btmd only by its user's environment.
    python.write_text("#!/bin/sh\nexec /usr/bin/env python3 -S -P -c 'import btmd'\n")
    assert "by itself" in run("install", "--user", "--root", str(root), "--python", str(python))[2]
    # One that a clean-up takes away.
    monkeypatch.setattr(daemon_reach, "PASSING", (str(tmp_path),))
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    assert "emptied" in run("install", "--user", "--root", str(root), "--python", str(python))[2]


def test_without_systemd_a_sentence_says_how_else(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_systemd, "BOOTED", str(tmp_path / "nothing"))
    code, _, err = run("install", "--user")
    assert code == 6
    assert "no systemd" in err
    assert "btmctl daemon start" in err


def test_without_systemd_it_starts_in_the_background_restarts_and_stops(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_systemd, "BOOTED", str(tmp_path / "nothing"))
    folder = Path(os.path.realpath(tmp_path))
    monkeypatch.setenv("BTMD_STATE_DIR", str(folder / "s"))
    monkeypatch.setenv("BTMD_DEVICE_LOCKS", str(folder))
    path = str(folder / "s" / "btmd.sock")
    if len(path) > 100:
        pytest.skip("the folder for tests has too long a name for a socket")
    code, out, err = run("start")
    assert code == 0, err
    first = daemon_alone._listener(path)
    try:
        assert "in the background" in out
        assert run("start")[0] == 6, "there is one already"
        code, out, _ = run("status", "--json")
        assert json.loads(out)["unit"] is None
        assert run("restart")[0] == 0
        first, before = daemon_alone._listener(path), first
        assert first != before
        code, out, err = run("stop")
        assert (code, "by themselves" in out) == (0, True), err
        assert run("status")[0] == 3
    finally:
        end = time.monotonic() + 10
        while Path(f"/proc/{first}").exists() and time.monotonic() < end:
            try:
                os.kill(first, signal.SIGKILL)
                os.waitpid(first, os.WNOHANG)
            except (ProcessLookupError, ChildProcessError):
                break
            time.sleep(0.1)


def test_status_tells_of_the_service_and_its_lingering(
    run: Run, tmp_path: Path, asked: Callable[[], list[str]]
) -> None:
    (tmp_path / "shown-user").write_text("LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=watchdog\n")
    code, _, err = run("status")
    assert code == 3
    assert "The user's service is failed (failed): watchdog" in err
    assert "btmctl daemon start" in err
    assert run("start")[0] == 0
    assert asked() == ["systemctl --user start btmd.socket btmd.service"]


def test_a_word_of_a_unit_file_keeps_what_is_in_it(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BTMD_STATE_DIR", '/srv/a "b" 100%')
    assert run("install", "--user", "--root", str(tmp_path), "--python", "/opt/with blank/python")[0] == 0
    (unit,) = tmp_path.rglob("btmd.service")
    assert 'Environment="BTMD_STATE_DIR=/srv/a \\"b\\" 100%%"\n' in unit.read_text()
    assert 'ExecStart="/opt/with blank/python" -P -m btmd\n' in unit.read_text()
    (socket,) = tmp_path.rglob("btmd.socket")
    assert 'ListenStream=/srv/a "b" 100%%/btmd.sock\n' in socket.read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_the_units_and_finds_them_closed(run: Run, tmp_path: Path) -> None:
    python = "/bin/true"
    for scope in ("--system", "--user"):
        root = tmp_path / scope
        assert run("install", scope, "--root", str(root), "--packaged", "--python", ELSEWHERE)[0] == 0
        units = [str(unit) for unit in root.rglob("btmd*.s*") if unit.is_file()]
        for unit in map(Path, units):
            unit.write_text(unit.read_text().replace(ELSEWHERE, python))
        verify = ["systemd-analyze", "verify", "--man=no", *(["--user"] if scope == "--user" else []), *units]
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
        done = subprocess.run(verify, capture_output=True, text=True, timeout=60, env=environment)
        assert (done.returncode, done.stderr) == (0, "")
    (service,) = (tmp_path / "--system").rglob("btmd.service")
    asked = ["systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=10", str(service)]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    found = re.search(r"Overall exposure level for btmd.service: ([\d.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= 1.0


def test_the_units_have_what_trainers_that_outlive_a_restart_rest_on(run: Run, tmp_path: Path) -> None:
    for scope in ("system", "user"):
        lines = (Path(daemon_install.daemon_units.TEMPLATES) / scope / "btmd.service").read_text().splitlines()
        for line in (
            "Type=notify",
            "KillMode=process",
            "OOMPolicy=continue",
            "UMask=0077",
            "RuntimeDirectoryPreserve=yes",
            "RestartPreventExitStatus=7",
            "WatchdogSec=60",
            "ExecReload=/bin/kill -HUP $MAINPID",
        ):
            assert line in lines, (scope, line)
        # A stop waits for checkpoints; systemd must not cut that short.
        (limit,) = (line.partition("=")[2] for line in lines if line.startswith("TimeoutStopSec="))
        assert int(limit) > 300
    sandbox = (Path(daemon_install.daemon_units.TEMPLATES) / "system/btmd.service").read_text().splitlines()
    for never in ("MemoryDenyWriteExecute=yes", "PrivateUsers=yes", "PrivateDevices=yes", "RemoveIPC=yes"):
        assert never not in sandbox
    for closed in ("PrivateNetwork=yes", "RestrictAddressFamilies=AF_UNIX", "User=btmd", "ProtectHome=yes"):
        assert closed in sandbox
