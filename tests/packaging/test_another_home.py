"""What the proof of packaging passes on to a home of its own, in which pip finds nobody's settings."""

import os
from pathlib import Path

import pytest

from benchmarks.packaging_home import fetching


@pytest.mark.parametrize("place", [".config/pip/pip.conf", ".pip/pip.conf", "elsewhere/pip/pip.conf"])
def test_a_persons_own_pip_settings_hold_in_another_home(tmp_path: Path, place: str) -> None:
    settings = tmp_path / place
    settings.parent.mkdir(parents=True)
    settings.write_text("[global]\nindex-url = http://127.0.0.1:9/simple\n")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:9", "LANG": "C"}
    if place.startswith("elsewhere"):
        environment["XDG_CONFIG_HOME"] = str(tmp_path / "elsewhere")
    told = fetching(environment)
    assert told["PIP_CONFIG_FILE"] == str(settings)
    assert told["https_proxy"] == "http://127.0.0.1:9"
    assert "LANG" not in told
    assert fetching({**environment, "PIP_CONFIG_FILE": "/other"})["PIP_CONFIG_FILE"] == "/other"


def test_without_a_cache_pip_is_told_of_none(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    assert fetching(environment)["PIP_CACHE_DIR"].startswith(str(tmp_path))
    assert "PIP_CACHE_DIR" not in fetching({**environment, "PIP_NO_CACHE_DIR": "1"})
