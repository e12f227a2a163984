"""What is advised where something is missing fits to how btmd came onto the machine."""

import json
from pathlib import Path

import pytest

from btmctl import own_installation
from btmctl.own_installation import MARK, Installation, filled, read_installation


def direct_url(path: Path) -> str:
    return json.dumps({"url": path.as_uri(), "archive_info": {}})


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    folder = tmp_path / "the program"
    folder.mkdir()
    return folder


def test_a_clone_is_pulled_and_made(prefix: Path, tmp_path: Path) -> None:
    for name in ("pyproject.toml", "Makefile"):
        (tmp_path / name).touch()
    found = read_installation(str(prefix), str(tmp_path), None)
    assert found.upgrade == f"git -C {tmp_path} pull && make -C {tmp_path} install"
    assert found.mend(["torch>=2.11", "rich"]) == f"'{prefix}/bin/python' -m pip install 'torch>=2.11' rich"
    assert found.to_stay == f"make -C {tmp_path} wheel && pipx install {tmp_path}/dist/btmd-*.whl"


def test_a_wheel_is_named_as_long_as_it_is_there(prefix: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "btmd-1.0-py3-none-any.whl"
    wheel.touch()
    found = read_installation(str(prefix), str(prefix / "lib"), direct_url(wheel))
    assert found.upgrade == f"'{prefix}/bin/python' -m pip install --upgrade WHEEL"
    assert found.for_everybody.endswith(f"/opt/btmd/bin/python -m pip install {wheel}")
    wheel.unlink()
    assert found.for_everybody.endswith("/opt/btmd/bin/python -m pip install WHEEL")
    assert read_installation(str(prefix), str(prefix / "lib"), None).upgrade.endswith("install --upgrade btmd")


def test_pipx_is_asked_for_its_own(prefix: Path, tmp_path: Path) -> None:
    (prefix / "pipx_metadata.json").write_text("{}")
    found = read_installation(str(prefix), str(prefix / "lib"), direct_url(tmp_path / "btmd.whl"))
    assert (found.pip, found.upgrade) == ("pipx runpip btmd", "pipx install --force WHEEL")


def test_a_folder_without_a_network_mends_by_its_script(prefix: Path, tmp_path: Path) -> None:
    (prefix / MARK).write_text(f"{tmp_path}\n")
    found = read_installation(str(prefix), str(prefix / "lib"), None)
    assert found.mend(["torch"]) == f"sh {tmp_path}/install.sh"
    assert found.pip == f"python3 -m pip --python '{prefix}/bin/python'"
    (prefix / MARK).write_text(f"{tmp_path}/gone\n")
    gone = read_installation(str(prefix), str(prefix / "lib"), None)
    assert gone.mend(["torch"]) == gone.upgrade == "sh btmd-*-offline/install.sh"


def test_what_belongs_to_somebody_else_takes_an_administrator(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_installation.os, "access", lambda path, mode: False)
    assert read_installation(str(prefix), str(prefix / "lib"), None).pip.startswith("sudo ")


def test_texts_are_filled_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_installation, "own_installation", lambda: Installation("pipx", "/nowhere", "/a.whl"))
    assert filled("Type `{pip} install x`, or {upgrade}.") == (
        "Type `pipx runpip btmd install x`, or pipx install --force WHEEL."
    )
    assert filled("Nothing of {ours}.") == "Nothing of {ours}."
