"""What is advised where something is missing fits to how btmd came onto the machine."""

import json
import sys
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


def test_a_clone_is_known_by_both_of_its_files_and_may_lie_anywhere(prefix: Path) -> None:
    (prefix / "pyproject.toml").touch()
    assert read_installation(str(prefix), str(prefix), None).way == "environment"
    (prefix / "Makefile").touch()
    found = read_installation(str(prefix), str(prefix), None)
    assert found.upgrade == f"git -C '{prefix}' pull && make -C '{prefix}' install"
    assert found.for_everybody == (
        f"make -C '{prefix}' wheel && sudo python3 -m venv /opt/btmd && sudo /opt/btmd/bin/python -m pip install "
        f"'{prefix}'/dist/btmd-*.whl"
    )


def test_the_program_that_runs_is_the_one_that_is_told() -> None:
    clone = Path(__file__).parents[2]
    assert own_installation.own_installation() == Installation("clone", sys.prefix, str(clone))


@pytest.mark.parametrize(
    "url", [None, "", "{", "[]", "{}", '{"url": "https://example.org/btmd.whl"}', '{"url": "[https:"}']
)
def test_what_an_index_had_is_upgraded_from_there(prefix: Path, url: str | None) -> None:
    found = read_installation(str(prefix), str(prefix / "lib"), url)
    assert (found.way, found.source) == ("environment", "")
    assert found.upgrade == f"'{prefix}/bin/python' -m pip install --upgrade btmd"
    assert found.to_stay == "pipx install WHEEL"
    (prefix / "pipx_metadata.json").write_text("{}")
    assert read_installation(str(prefix), str(prefix / "lib"), url).upgrade == "pipx upgrade btmd"


def test_a_wheel_is_named_as_long_as_it_is_there(prefix: Path, tmp_path: Path) -> None:
    wheel = prefix / "btmd-1.0-py3-none-any.whl"
    wheel.touch()
    found = read_installation(str(prefix), str(prefix / "lib"), direct_url(wheel))
    assert found.upgrade == f"'{prefix}/bin/python' -m pip install --upgrade WHEEL"
    assert found.for_everybody.endswith(f"/opt/btmd/bin/python -m pip install '{wheel}'")
    assert found.to_stay == f"pipx install '{wheel}'"
    wheel.unlink()
    assert found.for_everybody.endswith("/opt/btmd/bin/python -m pip install WHEEL")
    assert read_installation(str(prefix), str(prefix / "lib"), None).upgrade.endswith("install --upgrade btmd")


def test_pipx_is_asked_for_its_own(prefix: Path, tmp_path: Path) -> None:
    (prefix / "pipx_metadata.json").write_text("{}")
    found = read_installation(str(prefix), str(prefix / "lib"), direct_url(tmp_path / "btmd.whl"))
    assert (found.pip, found.upgrade) == ("pipx runpip btmd", "pipx install --force WHEEL")


def test_a_tool_of_uv_is_uvs_to_change(prefix: Path, tmp_path: Path) -> None:
    (prefix / "uv-receipt.toml").write_text('[tool]\nrequirements = [{ name = "btmd" }]\n')
    wheel = tmp_path / "btmd-1.0-py3-none-any.whl"
    wheel.touch()
    found = read_installation(str(prefix), str(prefix / "lib"), direct_url(wheel))
    assert found.mend(["torch>=2.11", "rich"]) == f"VIRTUAL_ENV='{prefix}' uv pip install 'torch>=2.11' rich"
    assert (found.upgrade, found.to_stay) == ("uv tool install --force WHEEL", f"uv tool install {wheel}")
    assert found.for_everybody.startswith("sudo python3 -m venv /opt/btmd && ")
    assert read_installation(str(prefix), str(prefix / "lib"), None).upgrade == "uv tool upgrade btmd"


def test_a_folder_without_a_network_mends_by_its_script(prefix: Path, tmp_path: Path) -> None:
    (prefix / MARK).write_text(f"{tmp_path}\n")
    found = read_installation(str(prefix), str(prefix / "lib"), None)
    assert found.mend(["torch"]) == f"sh {tmp_path}/install.sh"
    assert found.pip == f"python3 -m pip --python '{prefix}/bin/python'"
    assert (found.to_stay, found.for_everybody) == (f"sh {tmp_path}/install.sh", f"sudo sh {tmp_path}/install.sh")
    (prefix / MARK).write_text(f"{tmp_path}/gone\n")
    gone = read_installation(str(prefix), str(prefix / "lib"), None)
    assert gone.mend(["torch"]) == gone.upgrade == "sh btmd-*-offline/install.sh"


def test_what_belongs_to_somebody_else_takes_an_administrator(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_installation.os, "access", lambda path, mode: False)
    assert read_installation(str(prefix), str(prefix / "lib"), None).pip.startswith("sudo ")
    (prefix / MARK).write_text(f"{prefix}\n")
    found = read_installation(str(prefix), str(prefix / "lib"), None)
    assert found.pip == f"sudo python3 -m pip --python '{prefix}/bin/python'"
    assert found.mend(["torch"]) == f"sudo sh '{prefix}'/install.sh"
    assert found.upgrade == "sudo sh btmd-*-offline/install.sh"
    # In one's own home nobody else is needed.
    assert found.to_stay == f"sh '{prefix}'/install.sh"


def test_texts_are_filled_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_installation, "own_installation", lambda: Installation("pipx", "/nowhere", "/a.whl"))
    assert filled("Type `{pip} install x`, or {upgrade}.") == (
        "Type `pipx runpip btmd install x`, or pipx install --force WHEEL."
    )
    assert filled("{for_everybody}!").endswith("/opt/btmd/bin/python -m pip install WHEEL!")
    assert filled("Nothing of {ours}.") == "Nothing of {ours}."
