"""Paths that a daemon tells: perhaps it is another user's, and does not choose where in our folders is written."""

from collections.abc import Iterable

from btmctl.errors import Refused


def require_inside(paths: Iterable[str]) -> None:
    """Raises Refused unless each is a path below the folder that it is meant for."""
    for path in paths:
        if not path or "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
            raise Refused(
                "The daemon names a file outside of the folder.",
                f"{path[:100]!r} is no place below it. Nothing was written.",
                "btmctl status shows which daemon this is.",
                code="damaged",
            )
