"""``python -m bundle``: make the folder from which btmd is installed without a network, and say what it takes."""

import argparse
import sys
from pathlib import Path

from bundle.folder import SUMS, Made, NotMade, make_folder

SHOWN = 5


def main(arguments: list[str] | None = None) -> int:
    """1 when it could not be made."""
    parser = argparse.ArgumentParser(prog="python -m bundle", description=__doc__)
    parser.add_argument("--to", type=Path, default=Path("dist"), metavar="DIR", help="where to (default: dist)")
    parser.add_argument("--extras", default="", metavar="NAMES", help="optional parts of btmd as well, such as gpu")
    parser.add_argument("--wheel", type=Path, metavar="PATH", help="take this wheel of btmd in place of a new one")
    given = parser.parse_args(arguments)
    try:
        made = make_folder(given.to, extras=given.extras, wheel=given.wheel)
    except (NotMade, OSError) as problem:
        print(f"No folder was made: {problem}", file=sys.stderr)
        return 1
    print("\n".join(told(made)))
    return 0


def told(made: Made) -> list[str]:
    """What was made, in lines."""
    largest = sorted(made.wheels.items(), key=lambda one: -one[1][1])[:SHOWN]
    return [
        f"{made.path}: {len(made.wheels)} wheels, {_size(made.size_bytes)}; installed {_size(made.installed_bytes)}.",
        "The largest: " + ", ".join(f"{name} {version} ({_size(size)})" for name, (version, size) in largest) + ".",
        f"{SUMS} has the SHA-256 {made.sums_sha256}.",
        f"Copy the folder to the other machine, and there: sh {made.path.name}/install.sh",
    ]


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"


if __name__ == "__main__":
    sys.exit(main())
