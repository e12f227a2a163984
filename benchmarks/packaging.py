"""Installed in every way that is offered, and over an earlier release: the main job is done each time.

The parts: ``offline`` (the folder, in a network namespace without an interface, with the demo model as well), ``pipx``
(the wheel), ``clone`` (the README's first command in a clean clone), ``upgrade`` (a new wheel over an earlier commit's
while a training runs) and ``replaced`` (the same, and every package beneath it written anew). ``--only PART`` does one,
``--previous COMMIT`` names the earlier one, ``--dry`` records nothing. With ``--linked`` upgrades take what btmd asks
for from this environment, which is quick. Packages come from where pip's settings say; some gigabytes for a while.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.packaging_home import Home, Unfit, fetching, main_job, prepared, required, said
from benchmarks.packaging_upgrade import Program, upgraded
from benchmarks.results import Figure, Topic, record
from btmctl.demo_model import NAME as DEMO_MODEL
from btmctl.places import SYSTEM_SOCKET
from bundle.wheel import ROOT, build_wheel
from tests.docs.typed import headed
from tests.fixtures.short_folder import short_folder

ALONE = ("unshare", "--net") if os.geteuid() == 0 else ("unshare", "--user", "--map-current-user", "--net")
INTERRUPTED_AFTER_S = 5.0
MAIN_JOB = (
    "Main job: from empty folders and a CSV file to an adapter of a small Llama, its result, and an answer by it. "
    "Times with whatever pip had fetched before."
)
_UPGRADED = (
    "Upgraded from {previous}. The events that were acknowledged before the new wheel was installed, each looked up "
    "afterwards; the steps in the log against those that the trainer says it made."
)
NOTES = {
    "offline": "Script, daemon and commands in a network namespace with no interface but a loopback that is down; the "
    "quickstart with the demo model as well. The folder was made again after a SIGKILL, and moved.",
    "pipx": "The wheel alone, by a pipx with folders of its own.",
    "clone": "A clean clone of the commit, and in it the first command of the README.",
    "upgrade": _UPGRADED,
    "replaced": _UPGRADED + " Every package that btmd asks for was removed and written anew beneath the training.",
}
FEW_STEPS = ("--set", "max_steps=4", "--set", "sample_answers=2")


def main() -> int:
    """1 when a part did not do what it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("offline", "pipx", "clone", "upgrade", "replaced"))
    parser.add_argument(
        "--previous", default=_last_release(), metavar="COMMIT", help="to upgrade from (default: %(default)s)"
    )
    parser.add_argument("--minutes", type=float, default=5, help="the training under an upgrade lasts at least so long")
    parser.add_argument("--linked", action="store_true", help="take what btmd asks for from this environment")
    parser.add_argument("--dry", action="store_true", help="record nothing")
    given = parser.parse_args()
    if os.path.exists(SYSTEM_SOCKET):
        raise SystemExit(f"What is installed here would use the daemon at {SYSTEM_SOCKET}: stop that first.")
    previous = said(["git", "rev-parse", "--short=10", given.previous], cwd=ROOT).strip()
    upgrade = partial(_upgrade, previous=previous, minutes=given.minutes, linked=given.linked)
    parts: dict[str, Callable[[Path], list[Figure]]] = {
        "offline": _offline,
        "pipx": _pipx,
        "clone": _clone,
        "upgrade": partial(upgrade, everything=False),
        "replaced": partial(upgrade, everything=True),
    }
    missed = False
    for name in [given.only] if given.only else parts:
        print(f"== {name}", flush=True)
        with short_folder() as place:
            prepared(place)
            try:
                figures = parts[name](place)
            except (Unfit, subprocess.SubprocessError) as problem:
                print(f"{name}: {problem}", file=sys.stderr)
                missed = True
                continue
        missed |= any(figure.met is False for figure in figures)
        for figure in figures:
            print(f"{figure.name}: {figure.median:.{figure.digits}f} {figure.unit}")
        if not given.dry and not given.linked:
            note = NOTES[name].format(previous=previous)
            record(
                Topic(
                    f"Packaging: {name}", "make proof-packaging", figures, ("torch", "transformers"), (note, MAIN_JOB)
                )
            )
    return 1 if missed else 0


def _last_release() -> str:
    tag = subprocess.run(["git", "describe", "--tags", "--abbrev=0"], cwd=ROOT, capture_output=True, text=True)
    return tag.stdout.strip() if tag.returncode == 0 else "HEAD~50"


def _offline(place: Path) -> list[Figure]:
    making = [sys.executable, "-m", "bundle", "--to", str(place / "dist")]
    _interrupt(making)
    begun = time.monotonic()
    said(making, cwd=ROOT)
    made_s = time.monotonic() - begun
    (folder,) = (place / "dist").iterdir()
    carried = folder.rename(place / "on a stick")
    with Home(place / "home", place / "home" / "bin", prefix=ALONE) as home:
        interfaces = home.run("cat", "/proc/net/dev").splitlines()[2:]
        required([line.split(":")[0].strip() for line in interfaces] in ([], ["lo"]), f"A network: {interfaces}")
        begun = time.monotonic()
        where = ("--to", str(home.folder / "program"), "--bin", str(home.programs), "--python", sys.executable)
        home.run("sh", str(carried / "install.sh"), *where)
        installed_s = time.monotonic() - begun
        trained_s = main_job(home)
        home.btmctl("quickstart", *FEW_STEPS)
        required(DEMO_MODEL in str(home.btmctl("models", "list")), "The quickstart did not take the demo model.")
        home.run("sh", str(carried / "install.sh"), *where)
    size = sum(path.stat().st_size for path in carried.rglob("*") if path.is_file())
    return [
        Figure("folder made", [made_s], "s", digits=0),
        Figure("folder", [size / 1e6], "MB", digits=0),
        Figure("installed from it without a network", [installed_s], "s", digits=0),
        Figure("main job without a network", [trained_s], "s", digits=0),
    ]


def _interrupt(making: list[str]) -> None:
    """Kill it while it fetches packages."""
    started = subprocess.Popen(making, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)
    to = Path(making[-1])
    while started.poll() is None and not list(to.glob(".*/own/btmd-*.whl")):
        time.sleep(0.1)
    time.sleep(INTERRUPTED_AFTER_S)
    required(started.poll() is None, "The folder was made, or failed, before it could be interrupted.")
    os.killpg(started.pid, 9)
    started.wait()
    required(bool(list(to.iterdir())), "Nothing was left half done.")


def _pipx(place: Path) -> list[Figure]:
    tools = place / "tools"
    venv.create(tools, with_pip=True)
    said([str(tools / "bin" / "pip"), "install", "--quiet", "pipx"])
    wheel = build_wheel(place / "dist")
    own = {"PIPX_HOME": place / "pipx", "PIPX_BIN_DIR": place / "bin", "PIPX_MAN_DIR": place / "man"}
    environment = {
        **os.environ,
        **{name: str(path) for name, path in own.items()},
        "PIPX_DEFAULT_PYTHON": sys.executable,
    }
    begun = time.monotonic()
    said([str(tools / "bin" / "pipx"), "install", str(wheel)], environment=environment)
    installed_s = time.monotonic() - begun
    with Home(place / "home", place / "bin") as home:
        trained_s = main_job(home)
    return [
        Figure("wheel", [wheel.stat().st_size / 1e6], "MB", digits=1),
        Figure("installed by pipx", [installed_s], "s", digits=0),
        Figure("main job by the commands of pipx", [trained_s], "s", digits=0),
    ]


def _clone(place: Path) -> list[Figure]:
    clone = place / "clone"
    said(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone)])
    first = next(block for heading, block in headed(clone / "README.md") if heading == "Try it").splitlines()[0]
    with Home(place / "home", clone / ".venv" / "bin") as home:
        environment = {**home.environment, **fetching(os.environ)}
        begun = time.monotonic()
        said(["sh", "-c", f"{first} PYTHON={shlex.quote(sys.executable)}"], cwd=clone, environment=environment)
        first_s = time.monotonic() - begun
        trained_s = main_job(home)
    return [
        Figure(f"`{first}` in a clean clone", [first_s], "s", digits=0),
        Figure("main job in it", [trained_s], "s", digits=0),
    ]


def _upgrade(place: Path, *, previous: str, minutes: float, linked: bool, everything: bool) -> list[Figure]:
    source = place / "previous"
    source.mkdir()
    with subprocess.Popen(["git", "archive", previous], cwd=ROOT, stdout=subprocess.PIPE) as packed:
        subprocess.run(["tar", "-x", "-C", str(source)], stdin=packed.stdout, check=True)
    program = Program(place / "program", linked=linked, constraints=ROOT / "constraints.txt")
    old = program.wheel_of(source, place / "old")
    new = build_wheel(place / "new")
    notes_at_start = (source / "btmd" / "trainer" / "loaded.py").exists()
    shutil.rmtree(source)
    begun = time.monotonic()
    program.install(old)
    # The training has to outlast what is done beneath it, however slow that is here.
    minutes = max(minutes, 4 * (time.monotonic() - begun) / 60)
    replace = partial(program.install, new, everything=everything)
    with Home(place / "home", program.programs) as home:
        found = upgraded(home, replace, minutes=minutes, notes_at_start=notes_at_start)
    name = "every package written anew" if everything else "upgraded"
    return [
        Figure(f"{name} beneath a training", [found.replaced_s], "s", digits=0),
        Figure(f"{name}: attempts of the training that went on", [found.attempts], target="<= 1", digits=0),
        Figure(f"{name}: steps of it after the daemon's restart", [found.steps_after], target="> 0", digits=0),
        Figure(f"{name}: acknowledged events compared", [found.compared], digits=0),
        Figure(f"{name}: acknowledged events lost or changed", [found.lost], target="<= 0", digits=0),
        Figure(f"{name}: steps that are not in the log", [found.steps_missing], target="<= 0", digits=0),
    ]


if __name__ == "__main__":
    sys.exit(main())
