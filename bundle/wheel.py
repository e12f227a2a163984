"""The wheel of btmd, built from a copy of the source: what an earlier build left there must not get into it.

``python -m bundle.wheel [DIR]`` puts it into ``dist/``, or DIR.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("btmd", "btmctl", "migrations", "presets", "pyproject.toml", "README.md", "LICENSE")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


def build_wheel(to: Path, *, source: Path = ROOT) -> Path:
    """Build it into the folder ``to``, where it is whole or absent; returns its path. Raises CalledProcessError."""
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".btmd-wheel-", dir=to) as name:
        copy, built = Path(name, "source"), Path(name, "built")
        for part in PARTS:
            if (source / part).is_dir():
                shutil.copytree(source / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source / part, copy / part)
        subprocess.run([*PIP, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(built), str(copy)], check=True)
        (found,) = built.glob("btmd-*.whl")
        os.replace(found, to / found.name)
    return to / found.name


def main() -> int:
    made = build_wheel(Path(sys.argv[1] if len(sys.argv) > 1 else "dist"))
    print(made)
    if len(sys.argv) == 1:
        # `pipx install dist/btmd-*.whl` is typed with one wheel in mind; two are refused.
        for older in made.parent.glob("btmd-*.whl"):
            if older != made:
                older.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
