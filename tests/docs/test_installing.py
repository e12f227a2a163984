"""What pages tell to type besides btmctl: the targets of make, and the options of the offline folder's script."""

import re
import subprocess

from tests.docs.place import DOCS
from tests.docs.typed import blocks

ROOT = DOCS.parent
PAGES = [ROOT / "README.md", ROOT / "bundle" / "offline.md", *sorted(DOCS.glob("*.md"))]


def test_every_target_of_make_on_a_page_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    typed = {name for page in PAGES for line in blocks(page) for name in re.findall(r"\bmake ([a-z][a-z-]*)", line)}
    told = set(re.findall(r"`make ([a-z][a-z-]*)", "".join(page.read_text() for page in PAGES)))
    assert {"quickstart", "bundle", "wheel", "test"} <= typed | told
    assert sorted((typed | told) - targets) == []


def test_the_options_of_the_script_are_those_of_its_help() -> None:
    script = ROOT / "bundle" / "install.sh"
    help_text = subprocess.run(["sh", str(script), "--help"], capture_output=True, text=True, check=True).stdout
    for page in (DOCS / "installing.md", ROOT / "bundle" / "offline.md"):
        for option in re.findall(r"`(--(?:to|bin|python|check)\b)", page.read_text()):
            assert option in help_text
    taken = " ".join(re.findall(r"^        ([-a-z |]+)\)", script.read_text(), re.MULTILINE)).replace("|", " ").split()
    assert set(taken) == {*re.findall(r"^  (--[a-z]+)", help_text, re.MULTILINE), "-h", "--help"}
    refused = subprocess.run(["sh", str(script), "--elsewhere"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "install.sh --help" in refused.stderr
