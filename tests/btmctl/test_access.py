"""btmctl access against a real daemon."""

import json
import os
import pwd
from collections.abc import Callable, Iterator

import pytest

from btmctl.__main__ import main
from tests.fixtures.daemon import ThreadedDaemon, config_of
from tests.fixtures.short_folder import short_folder

Run = Callable[..., tuple[int, str, str]]
ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    with short_folder() as folder, ThreadedDaemon(config_of(folder)) as daemon:

        def run(*arguments: str) -> tuple[int, str, str]:
            code = main([*arguments, "--socket", str(daemon.config.socket_path)])
            captured = capsys.readouterr()
            return code, captured.out, captured.err

        yield run


def test_a_grant_is_recorded_and_says_that_only_the_owner_gets_in(run: Run) -> None:
    code, _, err = run("access", "grant", ME, "trainer", "--why", "a start")
    assert (code, "only the user that runs the daemon" in err) == (0, True)
    assert run("access", "list")[1].splitlines()[1].split() == [ME, str(os.getuid()), "trainer"]
    assert f"{ME} trainer" in run("audit", "log", "--limit", "1")[1]
    assert run("access", "revoke", ME)[0] == 0
    assert json.loads(run("access", "list", "--json")[1]) == []
    assert run("access", "revoke", ME)[0] == 5
    assert run("access", "grant", ME, "owner")[0] == 2
    assert run("access", "grant", "nobody-called-so", "viewer")[0] == 5
    assert run("access", "grant", "@", "viewer")[0] == 2
