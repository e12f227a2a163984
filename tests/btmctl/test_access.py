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


def test_a_grant_is_recorded_with_its_limits(run: Run) -> None:
    code, _, err = run("access", "grant", ME, "trainer", "--why", "a start")
    assert (code, f"{ME} is a trainer from now on." in err) == (0, True)
    assert run("access", "list")[1].splitlines()[1].split() == [ME, str(os.getuid()), "trainer", "none"]
    assert f"{ME} trainer" in run("audit", "log", "--limit", "1")[1]
    assert run("access", "revoke", ME)[0] == 0
    assert json.loads(run("access", "list", "--json")[1]) == []
    assert run("access", "revoke", ME)[0] == 5
    assert run("access", "grant", ME, "owner")[0] == 2
    assert run("access", "grant", "nobody-called-so", "viewer")[0] == 5
    assert run("access", "grant", "@", "viewer")[0] == 2
    assert run("access", "limit", ME, "running_jobs=1", "disk_gb=0.5")[0] == 0
    assert run("access", "list")[1].splitlines()[1].endswith("none  running_jobs 1, disk_gb 0.5")
    for wrong in ("cores=1", "running_jobs=many", "running_jobs=1.5", "disk_gb=-1", "running_jobs"):
        assert run("access", "limit", ME, wrong)[0] == 2
    assert run("access", "limit", ME, "running_jobs=none", "disk_gb=none")[0] == 0
    assert json.loads(run("access", "list", "--json")[1]) == []


def test_what_is_shared_and_given_is_told(run: Run) -> None:
    assert run("presets", "create", "mine", "--from", "quick_test")[0] == 0
    assert run("presets", "share", "mine")[1].split() == ["owner", ME, "shared", "with", "nobody"]
    code, out, err = run("presets", "share", "mine", "@daemon", "--why", "for the lab")
    assert (code, "is shared with @daemon" in err, "@daemon" in out) == (0, True, True)
    assert run("presets", "share", "mine", "@daemon", "--stop")[0] == 0
    assert run("presets", "share", "mine", "@daemon", "--stop")[0] == 5
    assert run("presets", "share", "mine", "--stop")[0] == 2
    assert run("presets", "share", "quick_test", "@daemon")[0] == 6
    assert run("jobs", "share", "last", "daemon")[0] == 5
    assert run("presets", "give", "mine", "daemon")[0] == 6
    assert run("presets", "give", "mine", "@daemon", "--yes")[0] == 2
    assert json.loads(run("presets", "give", "mine", "daemon", "--yes", "--json")[1])["owner"] == "daemon"
