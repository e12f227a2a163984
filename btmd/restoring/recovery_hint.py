"""A database that is gone while its backups are there is never taken for a first start."""

import os

from btmd.config import Config
from btmd.errors import DatabaseMissing


def require_database(config: Config) -> None:
    """Raises DatabaseMissing where there is no database, but backups of one. Call it with the state folder locked."""
    path = config.database_path
    # With a marker beside it, a recovery was cut off: opening the database finishes it.
    if path.exists() or path.with_name(path.name + ".swap").exists():
        return
    hint = recovery_hint(config)
    if hint:
        raise DatabaseMissing(
            f"{path} is not there, but backups of it are in {config.backups_dir}. Nothing was begun in its place.",
            hint=f"{hint} To begin with nothing, move {config.backups_dir} away.",
        )


def recovery_hint(config: Config) -> str:
    """What to do about a damaged database, where there are backups of it; else empty."""
    try:
        there = bool(os.listdir(config.backups_dir / "manifests"))
    except OSError:
        return ""
    return f"`btmctl recover --from {config.backups_dir}` rebuilds it from its backups." if there else ""
