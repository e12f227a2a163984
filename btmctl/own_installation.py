"""How btmd came onto this machine, and so which command upgrades it, mends it, or puts a package beside it."""

import os
import shlex
import sys
from typing import NamedTuple

CLONE, PIPX, UV, FOLDER, ENVIRONMENT = "clone", "pipx", "uv", "folder", "environment"
MARK = "btmd-installed-from"
"""In an environment that the script of an offline folder made: where that folder lay."""
A_WHEEL, A_FOLDER = "WHEEL", "btmd-*-offline"
"""What is typed where it cannot be told: the path of a newer wheel, or of an offline folder."""


class Installation(NamedTuple):
    """``source``: the clone, the offline folder or the wheel; empty where it is not known, or an index had it."""

    way: str
    prefix: str
    """The environment that the program runs in."""
    source: str = ""

    @property
    def pip(self) -> str:
        """What ``install`` follows to put packages where btmd finds them."""
        if self.way == PIPX:
            return "pipx runpip btmd"
        if self.way == UV:
            # An environment of a tool has no pip of its own either; this is how uv is told which one is meant.
            return f"VIRTUAL_ENV={shlex.quote(self.prefix)} uv pip"
        python = shlex.quote(os.path.join(self.prefix, "bin", "python"))
        if self.way == FOLDER:
            # It has no pip of its own.
            return f"{self._sudo}python3 -m pip --python {python}"
        return f"{self._sudo}{python} -m pip"

    @property
    def upgrade(self) -> str:
        """The command that puts a newer version in this one's place."""
        if self.way == CLONE:
            return f"git -C {shlex.quote(self.source)} pull && make -C {shlex.quote(self.source)} install"
        if self.way == PIPX:
            return f"pipx install --force {A_WHEEL}" if self.source else "pipx upgrade btmd"
        if self.way == UV:
            return f"uv tool install --force {A_WHEEL}" if self.source else "uv tool upgrade btmd"
        if self.way == FOLDER:
            return f"{self._sudo}sh {A_FOLDER}/install.sh"
        return f"{self.pip} install --upgrade {A_WHEEL if self.source else 'btmd'}"

    def mend(self, packages: list[str]) -> str:
        """The command that brings back what is missing or too old; ``packages`` as pip takes them."""
        if self.way == FOLDER:
            return f"{self._sudo}{self._script}"
        return f"{self.pip} install {shlex.join(packages)}"

    @property
    def for_everybody(self) -> str:
        """The commands that install it once more, where a service of the whole machine can read it."""
        if self.way == FOLDER:
            return f"sudo {self._script}"
        make, wheel = self._wheel()
        return f"{make}sudo python3 -m venv /opt/btmd && sudo /opt/btmd/bin/python -m pip install {wheel}"

    @property
    def to_stay(self) -> str:
        """The commands that install it once more, in the home of who types them."""
        if self.way == FOLDER:
            return self._script
        make, wheel = self._wheel()
        return f"{make}{'uv tool' if self.way == UV else 'pipx'} install {wheel}"

    @property
    def _script(self) -> str:
        """The offline folder's own, which installs and mends."""
        return f"sh {shlex.quote(self.source) if self.source else A_FOLDER}/install.sh"

    def _wheel(self) -> tuple[str, str]:
        """What makes the wheel first, if anything does, and its path."""
        if self.way == CLONE:
            return f"make -C {shlex.quote(self.source)} wheel && ", f"{shlex.quote(self.source)}/dist/btmd-*.whl"
        return "", shlex.quote(self.source) if os.path.exists(self.source) else A_WHEEL

    @property
    def _sudo(self) -> str:
        return "" if os.access(self.prefix, os.W_OK) else "sudo "


def own_installation() -> Installation:
    """That of the program which is running."""
    return read_installation(sys.prefix, os.path.dirname(os.path.dirname(os.path.abspath(__file__))), _direct_url())


def read_installation(prefix: str, root: str, direct_url: str | None) -> Installation:
    """By what lies in the environment ``prefix`` and in ``root``, the folder of the packages.

    ``direct_url``: what pip wrote there of a path that it installed from (PEP 610).
    """
    if os.path.exists(os.path.join(prefix, "pipx_metadata.json")):
        return Installation(PIPX, prefix, _file_of(direct_url))
    if os.path.exists(os.path.join(prefix, "uv-receipt.toml")):
        return Installation(UV, prefix, _file_of(direct_url))
    try:
        with open(os.path.join(prefix, MARK), encoding="utf-8") as mark:
            folder = mark.readline().strip()
        return Installation(FOLDER, prefix, folder if os.path.isdir(folder) else "")
    except OSError:
        pass
    if all(os.path.exists(os.path.join(root, name)) for name in ("pyproject.toml", "Makefile")):
        return Installation(CLONE, prefix, root)
    return Installation(ENVIRONMENT, prefix, _file_of(direct_url))


def filled(text: str) -> str:
    """The text with what this installation takes in the place of ``{pip}``, ``{upgrade}``, ``{units}`` and so on."""
    if "{" not in text:
        return text
    found = own_installation()
    units = shlex.quote(os.path.join(os.path.dirname(os.path.abspath(__file__)), "units"))
    here = {"pip": found.pip, "upgrade": found.upgrade, "for_everybody": found.for_everybody, "units": units}
    for name, value in here.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _direct_url() -> str | None:
    from importlib import metadata

    try:
        return metadata.distribution("btmd").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return None


def _file_of(direct_url: str | None) -> str:
    """The path in it; empty where there is none."""
    import json
    from urllib.parse import unquote, urlsplit

    try:
        url = urlsplit(str(json.loads(direct_url or "{}").get("url", "")))
    except (ValueError, AttributeError):
        return ""
    return unquote(url.path) if url.scheme == "file" else ""
