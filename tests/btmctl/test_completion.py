"""What real shells make of a line when Tab is pressed, with a real daemon behind it."""

import importlib
import json
import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from btmctl.__main__ import COMMANDS, main
from btmctl.completion import BY_METAVAR, SHELLS, WORDS, arguments_of, kind_of, script
from btmctl.completion_names import KINDS
from btmctl.completion_shell import BASH_BEFORE, ZSH_BEFORE
from btmd.domain.job_state import STATES
from tests.btmctl.conftest import Btmctl
from tests.btmctl.small_server import SmallServer, small_server
from tests.fixtures.daemon import ThreadedDaemon, config_of, rows
from tests.fixtures.short_folder import short_folder

PATIENCE_S = 30.0
BIN = Path(sys.executable).parent
SHOWN = re.compile(r"<<(.*?)>>", re.DOTALL)
START = {
    "bash": (
        ["bash", "--norc", "--noprofile", "-i"],
        "bind 'set bell-style none'; bind 'set enable-bracketed-paste off'; bind 'set page-completions off'\n"
        "show() { printf '\\n<<%s>>\\n' \"$READLINE_LINE\"; READLINE_LINE=; READLINE_POINT=0; }\n"
        "bind -x '\"\\C-g\": show'\n",
    ),
    "zsh": (
        ["zsh", "-f", "-i"],
        "autoload -Uz compinit; compinit -u -D; setopt no_beep\n"
        "show() { print -r -- $'\\n'\"<<$BUFFER>>\"; BUFFER=; }\n"
        "zle -N show; bindkey '^G' show\n",
    ),
}
HOSTILE = "n$(touch was_here)`touch was_here`;touch was_here"
ESCAPED = r"n\$\(touch\ was_here\)\`touch\ was_here\`\;touch\ was_here"
ALL = "\x1b*"
"""bash puts every word that fits into the line."""


class Shell:
    """An interactive shell at a terminal that has read the script."""

    def __init__(self, shell: str, folder: Path, environment: dict[str, str]) -> None:
        self.name, self.folder = shell, folder
        arguments, start = START[shell]
        (folder / "start").write_text(f"{start}eval \"$(cat '{folder}/btmctl.{shell}')\"\n")
        (folder / f"btmctl.{shell}").write_text(script(shell))
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            arguments, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, cwd=folder, close_fds=True,
            env={
                "HOME": str(folder), "TERM": "xterm", "PS1": "", "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
                "LANG": "C.UTF-8", **environment,
            },
        )  # fmt: skip
        os.close(slave)
        self._said = ""
        self.line(f". '{folder}/start'\nprintf '<%s>\\n' '<ready>'\n", "")

    def line(self, typed: str, key: str = "\t") -> str:
        """The line as it stands after it was typed and the key was pressed."""
        self._said = ""
        os.write(self._master, (typed + key + ("\x07" if key else "")).encode())
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if select.select([self._master], [], [], 0.1)[0]:
                self._said += os.read(self._master, 65536).decode(errors="replace")
                if found := SHOWN.search(self._said):
                    return found[1]
        raise AssertionError(self._said)

    def until(self, typed: str, wanted: str) -> str:
        """As ``line``, again while it is otherwise: a daemon that is slow to answer is not waited for."""
        end = time.monotonic() + PATIENCE_S
        while (found := self.line(typed)) != wanted and time.monotonic() < end:
            pass
        return found

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture(scope="module")
def daemon() -> Iterator[ThreadedDaemon]:
    with short_folder() as folder, ThreadedDaemon(config_of(folder)) as running:
        running.client.add_dataset(rows(3), "questions_of_may")
        running.client.add_dataset(rows(4), "questions_of_june")
        yield running


@contextmanager
def shell_of(name: str, environment: dict[str, str]) -> Iterator[Shell]:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    with short_folder() as folder:
        shell = Shell(name, folder, environment)
        try:
            yield shell
        finally:
            shell.end()


@pytest.fixture(scope="module", params=SHELLS)
def shell(request: pytest.FixtureRequest, daemon: ThreadedDaemon) -> Iterator[Shell]:
    with shell_of(request.param, {"BTMD_SOCKET": str(daemon.config.socket_path)}) as shell:
        yield shell


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("btmctl quicks", "btmctl quickstart "),
        ("btmctl datasets anon", "btmctl datasets anonymise "),
        ("btmctl --json datasets anon", "btmctl --json datasets anonymise "),
        ("btmctl train a b --prio", "btmctl train a b --priority "),
        ("btmctl jobs export last --format ol", "btmctl jobs export last --format ollama "),
        ("btmctl help job_not_f", "btmctl help job_not_found "),
        ("btmctl access grant ada tr", "btmctl access grant ada trainer "),
        ("btmctl datasets show questions_of_m", "btmctl datasets show questions_of_may "),
        ("btmctl datasets show que", "btmctl datasets show questions_of_"),
        ("btmctl datasets --json show questions_of_j", "btmctl datasets --json show questions_of_june "),
        ("btmctl train some questions_of_j", "btmctl train some questions_of_june "),
        ("btmctl presets show quick", "btmctl presets show quick_test "),
        ("btmctl train a b --preset quick", "btmctl train a b --preset quick_test "),
        ("btmctl config get training.see", "btmctl config get training.seed "),
        ("btmctl config unset log.level training.see", "btmctl config unset log.level training.seed "),
        ("btmctl config set training.see", "btmctl config set training.seed="),
        ("btmctl models show nothing_like_it", "btmctl models show nothing_like_it"),
    ],
)
def test_a_line_is_completed(shell: Shell, typed: str, completed: str) -> None:
    assert shell.until(typed, completed) == completed


def test_bash_offers_all_that_fits(shell: Shell) -> None:
    if shell.name != "bash":
        pytest.skip("one key for all that fits is bash's")
    assert "--allow" in shell.line("btmctl plan a b --", ALL).split()
    assert set(shell.line("btmctl completion ", ALL).split()[2:]) == set(SHELLS)


@pytest.mark.parametrize("name", SHELLS)
def test_the_socket_on_the_line_is_the_one_that_is_asked(name: str, daemon: ThreadedDaemon) -> None:
    socket = daemon.config.socket_path
    with shell_of(name, {"BTMD_SOCKET": "/nonexistent/btmd.sock"}) as shell:
        assert shell.line("btmctl datasets show questions_of_m") == "btmctl datasets show questions_of_m"
        for before, after in ((f"--socket {socket} ", ""), ("", f"--socket {socket} ")):
            typed = f"btmctl {before}datasets {after}show questions_of_"
            assert shell.until(f"{typed}m", f"{typed}may ") == f"{typed}may "
        if name == "bash":
            typed = f"btmctl --socket={socket} consent grant questions_of_"
            assert shell.until(f"{typed}m", f"{typed}may ") == f"{typed}may "


@pytest.mark.parametrize("name", SHELLS)
def test_a_name_is_never_carried_out(name: str) -> None:
    with small_server() as server:
        jobs = [{"job_id": "k3q7", "name": HOSTILE}, {"job_id": "m2", "name": "an\x1b[2Jescape"}]
        server.answers("GET", "/jobs", jobs)
        with shell_of(name, {"BTMD_SOCKET": server.socket_path}) as shell:
            line = shell.until("btmctl jobs show n", f"btmctl jobs show {ESCAPED} ")
            assert shlex.split(line) == ["btmctl", "jobs", "show", HOSTILE]
            shell.line(f"true {line}\nprintf '<%s>\\n' '<done>'\n", "")
            assert sorted(path.name for path in shell.folder.iterdir()) == [f"btmctl.{name}", "start"]
            assert shell.line("btmctl jobs show an") == "btmctl jobs show an"
            for begun, whole in (("k", "k3q7 "), ("l", "last ")):
                assert shell.until(f"btmctl jobs show {begun}", f"btmctl jobs show {whole}").endswith(whole)


def test_names_and_ids_are_given_a_line_each(btmctl: Btmctl, server: SmallServer) -> None:
    jobs = [
        {"job_id": "k3q7", "name": "letters"},
        {"job_id": "k9", "name": "twice"},
        {"job_id": "m2", "name": "twice"},
        {"job_id": "m3", "name": None},
    ]
    server.answers("GET", "/jobs", jobs)
    assert btmctl("__complete", "jobs", "") == (0, "k3q7\nk9\nlast\nletters\nm2\nm3\n", "")
    assert btmctl("__complete", "jobs", "k") == (0, "k3q7\nk9\n", "")
    server.answers("GET", "/backups", [{"backup_id": "9f86"}])
    assert btmctl("__complete", "backups") == (0, "9f86\nlast\n", "")
    server.answers("GET", "/models", [{"model_id": "smol", "name": "smol"}])
    assert btmctl("__complete", "models", "s") == (0, "smol\n", "")


def test_whatever_is_wrong_nothing_is_said(btmctl: Btmctl, server: SmallServer) -> None:
    server.answers("GET", "/jobs", {"code": "not_permitted", "detail": "No."}, 403)
    server.answers("GET", "/models", {"not": "a list"})
    for asked in (("jobs",), ("models", ""), ("nonsense", "x"), (), ("jobs", "", "/nonexistent/btmd.sock")):
        assert btmctl("__complete", *asked) == (0, "", "")


def test_every_argument_is_decided_upon() -> None:
    """Whoever adds an argument says what completes it: in BY_METAVAR or WORDS of btmctl/completion.py, or as FREE."""
    undecided = [
        (title, action.metavar or action.dest)
        for name in COMMANDS
        for title, action in arguments_of(name, importlib.import_module(f"btmctl.commands.{name}").command())
        if kind_of(title, action) is None
    ]
    assert undecided == []


def test_what_completes_is_there_in_both_shells() -> None:
    for kind in {kind for kind in BY_METAVAR.values() if kind}:
        assert f"\n_btmctl_{kind}() " in BASH_BEFORE
        assert f"\n_btmctl_{kind}() " in ZSH_BEFORE
    for before in (BASH_BEFORE, ZSH_BEFORE):
        assert set(re.findall(r"_btmctl_(?:ask|names) ([a-z-]+)", before)) == set(KINDS)
    assert set(WORDS["S"]) == set(STATES)


def test_as_json_the_script_is_a_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["shell"], found["script"]) == ("bash", script("bash"))
