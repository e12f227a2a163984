"""Python, the packages, whether torch fits to the GPU's driver, and the demo model."""

import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata

from btmctl import demo_model
from btmctl.doctor.finding import Finding, attention, broken, command_in, ok
from btmctl.doctor.known import Known
from btmctl.own_installation import CLONE, own_installation
from btmd.hardware import probe

OLDEST_PYTHON = (3, 11)
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*((?:[<>=!~]=?[^;,]+,?)*)\s*(?:;(.*))?$")

Version = tuple[int, ...]


def check_installation(known: Known) -> Iterator[Finding]:
    """Each part on its own."""
    yield check_python(sys.version_info[:3])
    yield check_packages()
    yield from check_torch(known)
    yield check_demo_model(known.environment)


def check_python(found: tuple[int, ...]) -> Finding:
    shown = ".".join(map(str, found))
    if found[:2] >= OLDEST_PYTHON:
        return ok("Python", f"Version {shown}.")
    oldest = ".".join(map(str, OLDEST_PYTHON))
    return broken("Python", f"Version {shown} is too old.", f"btmd needs {oldest} or newer.", "python3 --version")


def check_packages(version_of: Callable[[str], str] = metadata.version) -> Finding:
    """Whether all that btmd asks for is installed, and new enough."""
    try:
        requirements = metadata.requires("btmd") or []
    except metadata.PackageNotFoundError:
        found_here = own_installation()
        remedy = f"make -C {shlex.quote(found_here.source)} install" if found_here.way == CLONE else found_here.upgrade
        return attention(
            "packages", "btmd runs from a folder and is not installed.", "It cannot be told what it needs.", remedy
        )
    missing, old, wanted = [], [], []
    for name, oldest in required(requirements):
        try:
            found = version_of(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
            wanted.append(f"{name}>={oldest}" if oldest else name)
            continue
        if oldest and version_numbers(found) < version_numbers(oldest):
            old.append(f"{name} {found} (needs {oldest})")
            wanted.append(f"{name}>={oldest}")
    if missing or old:
        lacking = (("Not installed", missing), ("Too old", old))
        what = " ".join(f"{which}: {', '.join(names)}." for which, names in lacking if names)
        why = "What needs them fails, or the daemon does not start."
        return broken("packages", what, why, own_installation().mend(wanted))
    return ok("packages", f"btmd {metadata.version('btmd')} has all it needs.")


def required(requirements: list[str]) -> Iterator[tuple[str, str]]:
    """Names with the oldest versions that will do; what only an extra asks for is left out."""
    for line in requirements:
        found = _REQUIREMENT.match(line.strip())
        if found is None or "extra" in (found[3] or ""):
            continue
        oldest = re.search(r">=\s*([0-9.]+)", found[2] or "")
        yield found[1], oldest[1] if oldest else ""


def version_numbers(text: str) -> Version:
    """``2.11.0+cpu`` as numbers; what follows them does not count."""
    found = re.match(r"\d+(?:\.\d+)*", text)
    numbers = [int(number) for number in found[0].split(".")] if found else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def check_torch(known: Known) -> Iterator[Finding]:
    """Whether there is a torch that can use the GPUs of this machine."""
    found = probe(known.state_dir)
    if found.torch is None:
        why = "Nothing can be trained without it."
        yield broken("torch", "It is not installed.", why, own_installation().mend(["torch"]))
        return
    cuda = f", made for CUDA {found.torch.cuda_version}" if found.torch.cuda_version else ""
    if found.gpu_refusal is not None:
        remedy = found.gpu_refusal.remedy
        pip = re.search(r"pip (install \S.*?)(?= - |\.?$)", remedy)
        command = f"{own_installation().pip} {pip[1]}" if pip else "nvidia-smi"
        yield broken("GPU", found.gpu_refusal.detail, remedy, command)
    else:
        gpus = ", ".join(gpu.name for gpu in found.gpus)
        driver = f" Driver {found.driver_version}." if found.driver_version else ""
        yield ok("torch", f"Version {found.torch.version}{cuda}.")
        yield ok("GPU", f"{gpus}.{driver}" if gpus else "There is none that can be used; the processor trains.")
    for problem in found.problems:
        yield attention("GPU", problem, "Trainings do without it.", command_in(problem, "nvidia-smi"))
    if found.gpus and found.bitsandbytes_version is None:
        why = "A model cannot be kept in 4 bits (QLoRA), so large ones may not fit."
        yield attention("bitsandbytes", "It is not installed.", why, f"{own_installation().pip} install bitsandbytes")


def check_demo_model(environment: Mapping[str, str]) -> Finding:
    if demo_model.find(environment) is not None:
        return ok("demo model", "It is here.")
    return ok("demo model", "Not fetched yet; `btmctl quickstart` fetches it (98 MB).")
