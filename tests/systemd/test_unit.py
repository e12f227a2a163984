"""The user unit says what the daemon relies on; how it behaves is checked under a real systemd by run.sh."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "systemd" / "btmd.service"
NOTIFYING = UNIT.with_name("btmd-notify.service")


def test_the_unit_leaves_trainers_alone_and_watches_the_daemon() -> None:
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT)
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert service["KillMode"] == "process"
    assert service["OOMPolicy"] == "continue"
    assert service["UMask"] == "0077"
    assert service["RuntimeDirectoryPreserve"] == "yes"
    assert service["RestartPreventExitStatus"] == "7"
    assert int(service["WatchdogSec"]) > 0
    assert int(service["TimeoutStopSec"]) > 5


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize(("unit", "program"), [(UNIT, "btmd"), (NOTIFYING, "btmctl")])
def test_systemd_understands_the_unit(unit: Path, program: str, tmp_path: Path) -> None:
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace(f"ExecStart={program}", "ExecStart=/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
