"""Wheels made by hand, in no time: what is in them is told, and nothing is built."""

import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path


def make_wheel(
    folder: Path, name: str, version: str, files: Mapping[str, str], *, requires: str = "", scripts: str = ""
) -> Path:
    """A wheel for every Python; ``scripts`` are lines such as ``program = module:function``."""
    info = f"{name}-{version}.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    content = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if scripts:
        content[f"{info}/entry_points.txt"] = f"[console_scripts]\n{scripts}\n"
    content[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*content, f"{info}/RECORD"))
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as packed:
        for inner, text in content.items():
            packed.writestr(inner, text)
    return path


def pack_installed(folder: Path, name: str) -> Path:
    """The wheel that an installed package came out of, without its programs."""
    found = metadata.distribution(name)
    path = folder / f"{name}-{found.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as packed:
        for file in found.files or ():
            if file.parts[0] != ".." and file.suffix != ".pyc" and file.name != "RECORD":
                packed.write(file.locate(), str(file))
        listed = [*packed.namelist(), record := f"{name}-{found.version}.dist-info/RECORD"]
        packed.writestr(record, "".join(f"{one},,\n" for one in listed))
    return path
