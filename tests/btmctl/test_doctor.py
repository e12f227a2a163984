"""btmctl doctor: what it finds in broken and in whole installations, and that its bundle holds nothing of anybody's."""

import gzip
import json
import os
import re
import shlex
import sqlite3
import stat
import tarfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from btmctl import __main__ as program
from btmctl.__main__ import COMMANDS, main
from btmctl.doctor import daemon as daemon_checks
from btmctl.doctor import installation, machine
from btmctl.doctor.bundle import LAST_LINES
from btmctl.doctor.door import check_socket_folder
from btmctl.doctor.examination import CHECKS, examine
from btmctl.doctor.finding import Finding, exit_code_of
from btmctl.doctor.folders import check_folder, check_room
from btmctl.doctor.known import Known
from btmctl.doctor.redaction import HIDDEN, Redactor, own_words
from btmctl.output import Output
from btmctl.own_installation import own_installation
from btmctl.session import Session
from btmd import __version__
from btmd.domain.hardware import GpuRefusal, TorchBuild
from btmd.hardware import probe
from tests.btmctl.small_server import SmallServer
from tests.fixtures.daemon import ThreadedDaemon, config_of
from tests.fixtures.short_folder import short_folder

MARK = "zqplantedxw"
OTHER_PROGRAMS = {
    "btmd",
    "chmod",
    "df",
    "ls",
    "nvidia-smi",
    "git",
    "make",
    "python",
    "python3",
    "sudo",
    "systemctl",
    "timedatectl",
    "ulimit",
}


@pytest.fixture(autouse=True)
def short_places(monkeypatch: pytest.MonkeyPatch, own_places: None) -> Iterator[None]:
    """Folders of tests that run side by side are too deep for a socket, which would be a finding."""
    with short_folder() as folder:
        for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
            monkeypatch.setenv(name, str(folder / name[4].lower()))
        yield


@pytest.fixture(autouse=True)
def whole_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for is installed, whatever the folder that the tests run in says."""
    monkeypatch.setattr(installation.metadata, "requires", lambda name: ["torch>=2.11", "rich>=14"])
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)


def known_of(folder: Path, **changes: Any) -> Known:
    values: dict[str, Any] = {
        "environment": {"HOME": str(folder)},
        "named_socket": None,
        "sockets": [],
        "client": None,
        "refusal": None,
        "health": {},
        "status": {},
        "hardware": {},
        "settings": {},
        "state_dir": folder / "state",
        "config_dir": folder / "config",
        "daemon_uid": os.getuid(),
    }
    return Known(**(values | changes))


def doctor(capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, Any]]:
    code = main(["doctor", "--json", *more])
    return code, json.loads(capsys.readouterr().out)


def about(found: dict[str, Any], name: str) -> list[dict[str, str]]:
    return [one for one in found["findings"] if one["about"] == name]


def remedies_can_be_typed(findings: list[dict[str, str]]) -> None:
    """Every remedy is a command: of btmctl one that it takes, or of a program that everybody has."""
    for one in findings:
        assert bool(one["remedy"]) == (one["state"] != "ok"), one
        if not one["remedy"]:
            continue
        first, *rest = shlex.split(one["remedy"])
        if first != "btmctl":
            assert Path(first).name in OTHER_PROGRAMS, one
            continue
        assert rest[0] in COMMANDS, one
        program.importlib.import_module(f"btmctl.commands.{rest[0]}").command().parse(
            rest[1:], program.argparse.Namespace(json=False, yes=False, socket=None, debug=False)
        )


# --- with a daemon -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def daemon() -> Iterator[ThreadedDaemon]:
    """With a planted word in everything that a person can name."""
    with short_folder() as folder:
        place = folder / f"{MARK}-place"
        place.mkdir()
        config = replace(config_of(folder), state_dir=place / "state", config_dir=place / "config")
        with ThreadedDaemon(config) as running:
            rows = b"".join(
                json.dumps({"question": f"Who is {MARK} {n}?", "answer": f"It is {MARK}, of course."}).encode() + b"\n"
                for n in range(5)
            )
            body = {"content": running.client.upload(rows), "file_name": f"{MARK}.jsonl", "consent": True}
            body |= {
                "name": f"the {MARK} letters",
                "purpose": f"for {MARK}",
                "source_path": f"/home/{MARK}/{MARK}.jsonl",
            }
            running.client.post("/datasets", body).ok()
            running.client.patch(
                "/settings",
                {"changes": {"notify.command": f"/opt/{MARK}/tell --for {MARK}"}, "why": f"as {MARK} wants"},
            ).ok()
            socket = ["--socket", str(config.socket_path)]
            assert main(["presets", "create", MARK, "--from", "quick_test", "--set", f"name=of {MARK}", *socket]) == 0
            running.client.post("/backup", {"description": f"before {MARK} came"}).ok()
            yield running


@pytest.fixture
def reached(daemon: ThreadedDaemon, monkeypatch: pytest.MonkeyPatch) -> ThreadedDaemon:
    monkeypatch.setenv("BTMD_SOCKET", str(daemon.config.socket_path))
    return daemon


def test_a_running_daemon_is_looked_at_from_all_sides(
    reached: ThreadedDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = doctor(capsys)
    remedies_can_be_typed(found["findings"])
    # Nothing is broken but the command that there is not.
    assert [one["about"] for one in found["findings"] if one["state"] == "broken"] == ["notify.command"]
    assert code == 6
    for name in ("Python", "packages", "torch", "state folder", "settings folder", "disk", "socket", "socket folder",
                 "daemon", "versions", "backups", "event log", "clock", "demo model", "backup keys"):  # fmt: skip
        assert about(found, name), name
    assert about(found, "versions")[0]["what"] == f"btmctl and the daemon are both {__version__}."
    assert re.fullmatch(r"All \d+ events are as they were written\.", about(found, "event log")[0]["what"])
    assert about(found, "proved restore")[0]["remedy"] == "btmctl backup drill"
    assert main(["doctor"]) == 6
    said = capsys.readouterr().out
    assert f"There is no program /opt/{MARK}/tell." in said
    assert "           try: btmctl config unset notify.command\n" in said
    assert re.search(r"^1 broken, \d+ to attend to, \d+ looked at\.$", said, re.MULTILINE)


def test_the_bundle_holds_nothing_of_anybody(
    reached: ThreadedDaemon, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / f"home-{MARK}"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USER", MARK)
    lines = [f"2026-11-23 06:00:00,000 WARNING btmd.api: GET /datasets/{MARK}: There is no dataset called '{MARK}'."]
    lines += [
        f'  File "{home}/{MARK}/btmd/daemon.py", line 7, in run',
        f"ValueError: {MARK} is wrong in {home}/x y/{MARK}",
    ]
    lines += [f"The disk that holds {reached.config.state_dir} is full, on {os.uname().nodename}."]
    monkeypatch.setattr("btmctl.doctor.bundle._journal_lines", lambda: ["old line"] * LAST_LINES + lines)
    path = tmp_path / "report.tar.gz"
    assert main(["doctor", "--bundle", str(path)]) == 6
    listed = capsys.readouterr()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert MARK.encode() not in gzip.decompress(path.read_bytes())
    with tarfile.open(path) as archive:
        names = [one.name.removeprefix("btmd-report/") for one in archive.getmembers()]
        assert {(one.uid, one.uname, one.gname) for one in archive.getmembers()} == {(0, "", "")}
        held = {name: archive.extractfile(f"btmd-report/{name}").read().decode() for name in names}  # type: ignore[union-attr]
    assert names == ["README.txt", "doctor.json", "versions.json", "hardware.json", "health.json", "settings.json",
                     "events.json", "daemon.log"]  # fmt: skip
    for name in names:
        # What goes in is told before, and in the bundle itself.
        assert name in listed.out
        assert name in held["README.txt"] or name == "README.txt"
        assert str(home) not in held[name]
        assert MARK not in held[name].lower()
        assert os.uname().nodename not in held[name] or os.uname().nodename == "localhost"
    assert "sent nowhere" in held["README.txt"]
    assert json.loads(held["settings.json"])["notify.command"].startswith("<set, ")
    assert json.loads(held["settings.json"])["backup.keep_last"] == 7
    assert json.loads(held["events.json"])["types"]["SettingChanged"] == 1
    assert json.loads(held["health.json"])["state_dir"] == "<state folder>"
    assert json.loads(held["versions.json"])["daemon"] == __version__
    assert json.loads(held["hardware.json"])["cpu"]["usable_cores"] >= 1
    assert json.loads(held["doctor.json"])["state"] == "broken"
    logged = held["daemon.log"].splitlines()
    assert len(logged) == LAST_LINES
    assert logged[-4:] == [
        "2026-11-23 06:00:00,000 WARNING btmd.api: GET <path>: There is no dataset called '<name>'.",
        '  File "~/<name>/btmd/daemon.py", line 7, in run',
        f"ValueError: {HIDDEN}",
        "The disk that holds <state folder> is full, on <host>.",
    ]


def test_a_bundle_never_takes_the_place_of_a_file(
    reached: ThreadedDaemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there.tar.gz").write_text("mine")
    assert main(["doctor", "--bundle", str(tmp_path / "there.tar.gz")]) == 6
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "there.tar.gz").read_text() == "mine"
    assert main(["doctor", "--bundle", str(tmp_path / "none" / "x.tar.gz")]) == 5
    capsys.readouterr()
    _, found = doctor(capsys, "--bundle", str(tmp_path))
    assert Path(found["bundle"]["path"]).parent == tmp_path
    assert Path(found["bundle"]["path"]).name.startswith("btmd-report-")
    assert {one["name"] for one in found["bundle"]["files"]} >= {"README.txt", "events.json"}


# --- without one, and with broken ones ---------------------------------------------------------


def test_without_a_daemon_it_says_how_one_is_started(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = doctor(capsys)
    assert code == 0
    assert (about(found, "daemon")[0]["state"], about(found, "daemon")[0]["remedy"]) == (
        "attention",
        "btmctl daemon start",
    )
    remedies_can_be_typed(found["findings"])


def test_a_bundle_without_a_daemon_tells_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--bundle", str(tmp_path / "r.tar.gz")]) == 0
    with tarfile.open(tmp_path / "r.tar.gz") as archive:
        events = json.load(archive.extractfile("btmd-report/events.json"))  # type: ignore[arg-type]
    assert set(events) == {"not_read"}


def test_a_named_socket_that_nobody_answers_at_is_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BTMD_SOCKET", "/nonexistent/btmd.sock")
    code, found = doctor(capsys)
    assert (code, about(found, "daemon")[0]["state"]) == (6, "broken")
    assert "/nonexistent/btmd.sock" in about(found, "daemon")[0]["why"]


def test_problems_warnings_and_reminders_of_the_daemon_are_told_with_a_command(
    server: SmallServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BTMD_SOCKET", server.socket_path)
    problems = {"view jobs": "The view is damaged.", "disk": "The disk is full: `btmctl disk clean` makes room."}
    server.answers("GET", "/health", {"version": "99.0", "problems": problems, "store": {"head_seq": 10}})
    status = {
        "warnings": [{"job_id": "k3q7", "text": "It is slow.", "advice": "Close other programs."}],
        "reminders": ["`btmctl backup key show-recovery` gives a recovery key."],
        "system_backups": 1,
        "last_backup_at": "2026-01-02T03:04:05Z",
        "last_proved_restore_at": "2026-01-02T03:04:05Z",
    }
    server.answers("GET", "/status", status)
    tampered = {"verdict": "tampered", "first_bad": 7, "reason": "Its hash is another."}
    server.answers("GET", "/audit/verification", tampered)
    code, found = doctor(capsys)
    assert code == 9
    assert about(found, "view jobs")[0]["state"] == "broken"
    assert about(found, "disk")[-1]["remedy"] == "btmctl disk clean"
    assert about(found, "training k3q7")[0]["remedy"] == "btmctl jobs show k3q7"
    assert about(found, "reminder")[0]["remedy"] == "btmctl backup key show-recovery"
    assert about(found, "event log")[0]["why"] == "Event 7: Its hash is another."
    assert own_installation().upgrade == about(found, "versions")[0]["remedy"]
    assert about(found, "proved restore")[0]["state"] == "attention"
    remedies_can_be_typed(found["findings"])
    server.answers("GET", "/audit/verification", {"verdict": "ok", "checked": 10})
    assert doctor(capsys)[0] == 7
    server.answers("GET", "/health", {"version": "0.0.1", "problems": {}, "store": {"head_seq": 10_000_000}})
    code, found = doctor(capsys)
    assert code == 0
    assert "audit verify" in about(found, "event log")[0]["what"]
    assert "restart" in about(found, "versions")[0]["remedy"]


def test_who_has_no_role_is_told_whom_to_ask(
    server: SmallServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BTMD_SOCKET", server.socket_path)
    refused = {"title": "Not permitted", "detail": "You have no role.", "code": "not_permitted"}
    server.answers("GET", "/health", refused, 403)
    code, found = doctor(capsys)
    assert code == 0
    assert about(found, "daemon")[0]["remedy"].startswith("btmctl access grant ")


@pytest.mark.parametrize(
    ("mode", "state"), [(0o700, "ok"), (0o711, "attention"), (0o777, "attention"), (0o500, "broken")]
)
def test_folders_are_ours_closed_and_writable(tmp_path: Path, mode: int, state: str) -> None:
    if mode == 0o500 and os.getuid() == 0:
        pytest.skip("root may write anywhere")
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(mode)
    assert check_folder("state folder", folder, known_of(tmp_path), others=0o077).state == state


def test_a_folder_that_is_another_ones_gone_or_a_file_is_told(tmp_path: Path, server: SmallServer) -> None:
    def found(path: Path, **changes: Any) -> Finding:
        return check_folder("state folder", path, known_of(tmp_path, **changes), others=0o077)

    assert found(tmp_path / "none").state == "ok"
    there = tmp_path / "there"
    there.mkdir(mode=0o700)
    assert found(there, daemon_uid=os.getuid() + 1).remedy.startswith("sudo chown -R ")
    (tmp_path / "file").write_text("")
    assert found(tmp_path / "file").state == "broken"
    session = Session(Output(as_json=True), socket=server.socket_path, yes=False)
    gone = found(tmp_path / "none", client=session.find_client(), health={"state_dir": str(tmp_path / "none")})
    assert (gone.state, gone.remedy) == ("broken", f"btmctl recover --from {tmp_path}/none/backups")


@pytest.mark.parametrize(("mode", "state"), [(0o700, "ok"), (0o755, "ok"), (0o1777, "attention"), (0o770, "broken")])
def test_nobody_may_put_another_socket_in_its_place(tmp_path: Path, mode: int, state: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(mode)
    found = check_socket_folder(str(folder), known_of(tmp_path))
    assert found.state == state
    assert (found.remedy == f"chmod go-w {folder}") == (state == "broken")
    another = check_socket_folder(str(folder), known_of(tmp_path, daemon_uid=os.getuid() + 1))
    assert another.state == (state if os.getuid() == 0 else "broken")


def test_a_left_socket_and_a_file_in_its_place_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BTMD_SOCKET", str(tmp_path / "btmd.sock"))
    (tmp_path / "btmd.sock").write_text("")
    _, found = doctor(capsys)
    assert "is no socket" in about(found, "socket")[0]["what"]
    monkeypatch.setenv("BTMD_SOCKET", str(tmp_path / ("x" * 120)))
    assert "too long" in about(doctor(capsys)[1], "socket")[0]["what"]


def test_a_database_that_is_gone_or_no_database_is_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "own"
    (state / "backups" / "manifests").mkdir(parents=True)
    state.chmod(0o700)
    monkeypatch.setenv("BTMD_STATE_DIR", str(state))
    code, found = doctor(capsys)
    assert (code, about(found, "database")[0]["remedy"]) == (7, f"btmctl recover --from {state}/backups")
    (state / "btmd.db").write_bytes(b"something else")
    assert doctor(capsys)[0] == 7
    (state / "btmd.db").unlink()
    sqlite3.connect(state / "btmd.db").execute("CREATE TABLE a (b)").connection.close()
    (state / "failed-start.json").write_text("{}")
    (state / "keys").mkdir(mode=0o700)
    (state / "keys" / "key").write_text("x")
    (state / "keys" / "key").chmod(0o644)
    code, found = doctor(capsys)
    assert (code, about(found, "database")[0]["state"]) == (6, "ok")
    assert about(found, "last start")[0]["state"] == "attention"
    assert about(found, "backup keys")[0]["remedy"] == f"chmod go-rwx {state}/keys/key"
    remedies_can_be_typed(found["findings"])


def test_room_is_told_in_three_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = probe(tmp_path).disk
    for free_bytes, filesystem, states in (
        (0, "ext4", ["broken"]),
        (10**9, "ext4", ["attention"]),
        (10**11, "ext4", ["ok"]),
        (10**11, "nfs4", ["ok", "attention"]),
        (10**11, "tmpfs", ["ok", "attention"]),
    ):
        disk = replace(whole, free_bytes=free_bytes, filesystem=filesystem)
        monkeypatch.setattr("btmctl.doctor.folders.read_disk", lambda folder, disk=disk: disk)
        assert [one.state for one in check_room(tmp_path)] == states


def test_python_packages_and_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert installation.check_python((3, 10, 2)).state == "broken"

    def version_of(name: str) -> str:
        if name == "rich":
            raise metadata.PackageNotFoundError(name)
        return "2.9.1+cu128"

    assert installation.check_packages(version_of).what == (
        "Not installed: rich. Too old: torch 2.9.1+cu128 (needs 2.11)."
    )
    machine_here = probe(tmp_path)
    refusal = GpuRefusal(
        "It needs CUDA 13.", "Install it: pip install --force-reinstall torch --index-url URL - or not."
    )
    for changed, state in (
        (replace(machine_here, torch=None), "broken"),
        (replace(machine_here, torch=TorchBuild("2.11", "13.0"), gpu_refusal=refusal), "broken"),
        (replace(machine_here, torch=TorchBuild("2.11"), gpu_refusal=None, problems=("GPU 0 is lost.",)), "attention"),
    ):
        monkeypatch.setattr(installation, "probe", lambda folder, changed=changed: changed)
        findings = list(installation.check_torch(known_of(tmp_path)))
        assert state in {one.state for one in findings}
        remedies_can_be_typed([one.as_document() for one in findings])
        if changed.gpu_refusal:
            assert findings[0].remedy.endswith("/bin/python -m pip install --force-reinstall torch --index-url URL")


def test_all_that_btmd_asks_for_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    lines = ["torch>=2.11", "sqlalchemy[asyncio]>=2.0.40", 'bitsandbytes>=0.45; extra == "gpu"', "numpy>=2", "anyio"]
    assert list(installation.required(lines)) == [
        ("torch", "2.11"), ("sqlalchemy", "2.0.40"), ("numpy", "2"), ("anyio", ""),
    ]  # fmt: skip
    ours = [line for line in metadata.requires("btmd") or [] if "extra" not in line]
    assert len(list(installation.required(ours))) == len(ours) > 20


def test_the_clock(tmp_path: Path) -> None:
    assert machine.check_clock(tmp_path, 10.0).state == "broken"
    assert machine.check_clock(tmp_path, time.time()).state == "ok"
    (tmp_path / "btmd.db").write_text("")
    os.utime(tmp_path / "btmd.db", (time.time() + 7200, time.time() + 7200))
    assert machine.check_clock(tmp_path, time.time()).state == "attention"


def test_limits_are_those_of_the_daemon_where_one_answers(tmp_path: Path) -> None:
    hardware = {"memory": {"limit_bytes": 2 * 1024**3}, "cpu": {"quota_cores": 0.5}}
    findings = list(machine.check_limits(known_of(tmp_path, hardware=hardware)))
    assert [(one.about, one.state) for one in findings] == [
        ("memory limit", "attention"),
        ("processor limit", "attention"),
    ]


@pytest.mark.parametrize(
    ("command", "shell", "state"),
    [("", False, None), ("sh -c true", False, "ok"), ("'open", False, "broken"), ("/no/program x", False, "broken"),
     ("a | b", True, "ok")],
)  # fmt: skip
def test_the_command_for_notifications(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, shell: bool, state: str | None
) -> None:
    monkeypatch.undo()
    settings = {"notify.command": {"value": command}, "notify.shell": {"value": shell}}
    findings = list(daemon_checks.check_notification_command(known_of(tmp_path, settings=settings)))
    assert [one.state for one in findings] == ([] if state is None else [state])


def test_a_check_that_fails_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(known: Known) -> Iterator[Finding]:
        raise OSError("no such thing")
        yield

    monkeypatch.setitem(CHECKS, "folders", fails)
    findings = examine(known_of(tmp_path), lambda text: None)
    assert [one.about for one in findings if "failed itself" in one.what] == ["folders"]
    assert any(one.about == "clock" for one in findings)
    assert exit_code_of(findings) in (0, 6)


# --- redaction ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("The dataset holds 12 rows.", "The dataset holds 12 rows."),
        ("The dataset of Mrs Wolkenschieber", f"The dataset of {HIDDEN} {HIDDEN}"),
        ("it is in /srv/Wolkenschieber GmbH/x.csv.", f"it is in <path> {HIDDEN}/x.csv."),
        ("/st/ate/jobs/btmd.db is gone", "<state folder>/jobs/btmd.db is gone"),
        ("/st/ate/jobs/secretstuff/btmd.db", f"<state folder>/jobs/{HIDDEN}/btmd.db"),
        ("/st/ateful/other", "<path>"),
        ("the rows of letters are wrong", "the rows of <name> are wrong"),
        ("k3q7zv2m5a failed, k3q7zv2m5b too", f"k3q7zv2m5a failed, {HIDDEN} too"),
        ("row customer_4711, head_seq 7 at 2026-11-23T05:00:00Z", f"row {HIDDEN}, head_seq 7 at 2026-11-23T05:00:00Z"),
        ("ask ольга or 李", f"ask {HIDDEN} or {HIDDEN}"),
        ("0f3a9c@wolkenschieber.example", f"{HIDDEN}@{HIDDEN}.example"),
    ],
)
def test_a_word_stays_only_if_btmd_itself_says_it(text: str, left: str) -> None:
    words = own_words(Path(program.__file__).parent)
    redactor = Redactor(words | {"rows", "x"}, {"/st/ate": "<state folder>"}, ["letters"], ["k3q7zv2m5a"])
    assert redactor.text(text) == left


def test_of_errors_of_others_only_the_kind_stays_in_the_log() -> None:
    redactor = Redactor(own_words(Path(program.__file__).parent), {}, [])
    assert redactor.log_line("KeyError: 'the answer of a row'") == f"KeyError: {HIDDEN}"
    assert redactor.log_line("btmctl.errors.ValueError: the row") == f"btmctl.errors.ValueError: {HIDDEN}"
    told = redactor.log_line(json.dumps({"level": "error", "text": 'Failed.\nValueError: "the answer"\nIt ended.'}))
    assert json.loads(told) == {"level": "error", "text": f"Failed.\nValueError: {HIDDEN}\nIt ended."}
