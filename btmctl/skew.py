"""A daemon of another version than this program: which of the two is to be upgraded."""

from btmctl.own_installation import own_installation
from btmd import __version__


def told_of_skew(daemon_version: str, own_version: str = __version__) -> str:
    """A sentence with the way on; nothing where both are of one version, or the daemon does not say."""
    if not daemon_version or daemon_version == own_version:
        return ""
    if _numbers(daemon_version) < _numbers(own_version):
        return (
            f"The daemon is of version {daemon_version} and older than this btmctl ({own_version}): "
            "`btmctl daemon restart` has it run what is installed; trainings go on meanwhile."
        )
    return (
        f"This btmctl is of version {own_version} and older than the daemon ({daemon_version}): "
        f"upgrade it: `{own_installation().upgrade}`."
    )


def _numbers(version: str) -> tuple[int, ...]:
    """``0.10.2`` as numbers; what is none counts as 0."""
    return tuple(int(part) if part.isdigit() else 0 for part in version.split("."))
