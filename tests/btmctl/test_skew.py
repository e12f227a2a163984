"""Client and daemon of different versions."""

import pytest

from btmctl import __main__ as program
from btmctl.skew import told_of_skew
from btmd import __version__
from btmd.api import guard
from tests.btmctl.conftest import Btmctl
from tests.fixtures.daemon import ThreadedDaemon, config_of
from tests.fixtures.short_folder import short_folder


@pytest.mark.parametrize(
    ("daemon", "own", "told"),
    [
        ("0.1.0", "0.1.0", ""),
        ("", "0.1.0", ""),
        ("0.9.1", "0.10.0", "btmctl daemon restart"),
        ("0.10.0", "0.9.1", "upgrade it"),
        ("1.0", "1.0.1", "btmctl daemon restart"),
        ("2.0rc1", "1.9", "upgrade it"),
    ],
)
def test_the_older_side_is_named(daemon: str, own: str, told: str) -> None:
    assert told in told_of_skew(daemon, own)
    assert bool(told_of_skew(daemon, own)) is bool(told)


def test_every_answer_tells_the_version_and_another_one_is_remarked_on(
    btmctl: Btmctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    with short_folder() as folder, ThreadedDaemon(config_of(folder)) as daemon:
        for path in ("/access", "/nothing", "/jobs/nobody"):
            assert daemon.client.get(path).headers["btmd-version"] == __version__
        socket = ("--socket", str(daemon.config.socket_path))
        assert btmctl("access", "list", *socket)[2].count("older than") == 0
        monkeypatch.setattr(guard, "_VERSION", (b"btmd-version", b"99.0"))
        code, out, err = btmctl("access", "list", "--json", *socket)
        assert (code, out.strip()) == (0, "[]")
        assert f"This btmctl is of version {__version__} and older than the daemon (99.0): upgrade it: `" in err
        # A refusal of what this version asks wrongly is just when it has to be said.
        assert "older than" in btmctl("jobs", "show", "nobody", *socket)[2]
    assert program.__version__ == __version__
