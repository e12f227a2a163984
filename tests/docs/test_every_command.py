"""Every command of every document is typed, or named with the proof that does it.

``BTMD_PROOF=1`` types them all and records how many there are; without it, it is seen to that none is forgotten.
"""

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.results import Figure, Topic, record
from tests.btmctl.small_hub import small_hub
from tests.docs.place import DOCS
from tests.docs.scenes import ELSEWHERE, ENDLESS, NEEDS, OURS, Scene
from tests.docs.statements import GENERATED_EXAMPLES, PAGES, Statement, statements
from tests.docs.test_data_recipes import RECIPES as DATA_RECIPES
from tests.docs.test_restore_recipes import RECIPES as RESTORE_RECIPES
from tests.docs.typed import blocks
from tests.fixtures.short_folder import short_folder
from tests.fixtures.small_bus import bus_with
from tests.fixtures.tiny_model import make_tiny_llama

PROOF = os.environ.get("BTMD_PROOF") == "1"
EVERY_DAY = {"data.md": set(DATA_RECIPES), "restore.md": set(RESTORE_RECIPES)}
"""Recipes that `make test` types, each after the accident or with the file that it is about."""
EXIT_CODES: dict[str, int] = {}
"""Codes that the pages tell of a command, where it is not 0."""
TYPED: Counter[str] = Counter()
"""By page, how many commands have been typed."""


def elsewhere(statement: Statement) -> str:
    """The target of make that does what this would do to the machine; nothing for what is typed here."""
    if statement.heading in EVERY_DAY.get(statement.page, ()):
        return "test"
    return next((target for pattern, target in ELSEWHERE if re.search(pattern, statement.text)), "")


def typed_here(page: Path) -> list[Statement]:
    return [statement for statement in statements(page) if not elsewhere(statement)]


def every_statement() -> list[Statement]:
    return [statement for page in PAGES for statement in statements(page)]


def test_every_target_that_does_it_instead_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (DOCS.parent / "Makefile").read_text(), re.MULTILINE))
    assert {target for _, target in ELSEWHERE} <= targets


def test_no_table_speaks_of_what_no_page_has() -> None:
    texts = [statement.text for statement in every_statement()]
    patterns = [pattern for table in (ELSEWHERE, NEEDS, ENDLESS) for pattern, _ in table]
    patterns += [*EXIT_CODES, *(pattern for _, pattern, _ in OURS)]
    assert [one for one in patterns if not any(re.search(one, text) for text in texts)] == []


def test_no_command_is_left_out() -> None:
    """A block of shell that could not be taken apart would be no command at all."""
    for page in PAGES:
        if page.name == GENERATED_EXAMPLES:
            continue  # Most of its lines are usages; every example of the code is in it, as another test sees to.
        lines = [line for line in blocks(page) if re.match(r"(btmctl|sudo|curl|make) ", line)]
        here = "\n".join(statement.text for statement in statements(page))
        shown = [line for line in lines if not re.search(r" [A-Z]{2,}\b|[\[{|]", line)]
        assert [line for line in shown if re.sub(r"\s+# .*", "", line).strip() not in here] == []


@pytest.fixture(scope="module")
def furnished() -> Iterator[Scene]:
    with short_folder() as home, short_folder() as kept, bus_with("notifications", kept) as bus:
        files = make_tiny_llama(kept / "published", seed=9)
        with small_hub({file.name: file.read_bytes() for file in files.iterdir()}) as hub:
            scene = Scene(home, hub.endpoint)
            scene.environment["DBUS_SESSION_BUS_ADDRESS"] = bus.address
            scene.furnish()
            shutil.copytree(home, kept / "home", symlinks=True, ignore=shutil.ignore_patterns("btmd.sock"))
            scene.kept = kept / "home"
            yield scene


@pytest.fixture
def scene(furnished: Scene) -> Iterator[Scene]:
    for path in furnished.home.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    shutil.copytree(furnished.kept, furnished.home, symlinks=True, dirs_exist_ok=True)
    furnished.start()
    yield furnished
    furnished.daemon_runs()
    furnished.quiet()
    furnished.no_daemon()


def as_typed(text: str, scene: Scene) -> str:
    """The command with names of this place, keeping what it sets for the commands after it."""
    for where, pattern, ours in OURS:
        if re.search(where, text) and re.search(pattern, text):
            text = re.sub(pattern, ours if isinstance(ours, str) else ours(scene), text)
    names = re.findall(r"^(\w+)=\S+$|^(\w+)=\$\(", text, re.MULTILINE)
    keep = "".join(f"declare -p {one or other} >> ~/.page\n" for one, other in names)
    # No part of it may fail unseen, as before a pipe's last command or in a loop.
    return f". ~/.page\nset -eo pipefail\n{text}\n{keep}"


def type_it(statement: Statement, scene: Scene) -> str:
    """What went wrong with one command; nothing where it did what it says."""
    scene.daemon_runs()
    scene.typed = ""
    needs = [need for pattern, need in NEEDS if re.search(pattern, statement.text)]
    if not needs or not any(need.__name__ in ("running", "paused", "waiting", "held") for need in needs):
        scene.settled()
    for need in needs:
        need(scene)
    command = as_typed(statement.text, scene)
    until = next((sign for pattern, sign in ENDLESS if re.search(pattern, statement.text)), "")
    code = scene.at_terminal(command, until=until, patience_s=240)
    allowed = {next((code for pattern, code in EXIT_CODES.items() if re.search(pattern, statement.text)), 0)}
    if until:
        allowed |= {130, -2}
    return "" if code in allowed else f"{statement.heading}: {command}\n-> {code}\n{scene.said[-3000:]}"


@pytest.mark.skipif(not PROOF, reason="make proof-docs types them all")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("page", [page for page in PAGES if typed_here(page)], ids=lambda page: page.name)
def test_every_command_of_a_page_does_what_it_says(page: Path, scene: Scene) -> None:
    (scene.home / ".page").touch()
    failed = []
    for statement in typed_here(page):
        try:
            problem = type_it(statement, scene)
        except (AssertionError, OSError, LookupError, subprocess.SubprocessError) as error:
            problem = f"{statement.heading}: {statement.text}\n-> before it: {error}"
        print("--" if problem else "ok", statement.text, flush=True)
        failed += [problem] * bool(problem)
        TYPED[page.name] += not problem
    assert not failed, "\n\n".join(failed)


@pytest.mark.skipif(not PROOF, reason="make proof-docs types them all")
def test_what_was_typed_is_recorded() -> None:
    every = every_statement()
    others = Counter(target for statement in every if (target := elsewhere(statement)))
    due = {page.name: len(typed_here(page)) for page in PAGES if typed_here(page)}
    if set(TYPED) != set(due):
        pytest.skip("not all pages were typed")
    proofs = {target: count for target, count in sorted(others.items()) if target != "test"}
    figures = [
        Figure("commands in the documents", [len(every)], digits=0),
        Figure("typed here, each with the exit code that its page tells", [TYPED.total()], digits=0),
        Figure("typed by `make test`, recipes each after their accident", [others["test"]], digits=0),
        Figure("left to proofs that change a whole machine, or do the same", [sum(proofs.values())], digits=0),
        Figure("neither, or otherwise than its page tells", [sum(due.values()) - TYPED.total()], "", "<= 0", digits=0),
    ]
    notes = [
        f"{len(due)} pages: {', '.join(f'{name} ({count})' for name, count in sorted(due.items()))}.",
        f"By other proofs: {', '.join(f'`make {target}` ({count})' for target, count in proofs.items())}.",
        "A daemon a page, with tiny models, two trainings, data and a backup under the names of the pages; questions "
        "are answered at a terminal, what goes on for ever is ended with Ctrl-C, and the hub is one on the loopback.",
        f"{len(OURS)} entries say what stands for somebody's own names (ada, J, /media/stick); the rest is as printed.",
    ]
    record(Topic("Documents: every command typed", "make proof-docs", figures, notes=notes))
