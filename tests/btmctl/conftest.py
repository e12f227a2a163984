import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from btmctl.__main__ import main
from tests.btmctl.small_server import SmallServer, small_server

Btmctl = Callable[..., tuple[int, str, str]]

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell starts what is put into the background deaf to Ctrl-C, and the programs tested here would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def server() -> Iterator[SmallServer]:
    with small_server() as running:
        yield running


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may reach a daemon of the person who runs it."""
    for name in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    for name in ("BTMD_SOCKET", "BTMD_STATE_DIR", "BTMD_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def btmctl(server: SmallServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Btmctl:
    """Run a command against the small server: exit code, standard output, standard error."""
    monkeypatch.setenv("BTMD_SOCKET", server.socket_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
