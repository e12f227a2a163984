"""``btmd``: flags, log, run; a refusal is three lines and an exit code, never a traceback."""

import ctypes
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from btmd.config import Config, read_config
from btmd.control_characters import clean
from btmd.errors import BtmdError
from btmd.logs import set_up_log

MALLOC_ARENAS = -8
"""M_ARENA_MAX of glibc's malloc.h."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon until it is stopped; returns the exit code of CLI.md."""
    os.umask(0o077)
    with suppress(AttributeError):
        # Each thread would get an arena of its own, of which most stays empty; our threads wait for the disk.
        ctypes.CDLL(None).mallopt(MALLOC_ARENAS, 1)
    try:
        config = read_config(sys.argv[1:] if arguments is None else arguments)
        set_up_log(config.log_level or "info", config.log_format, journal=config.systemd.journal)
        _run(config)
    except BtmdError as error:
        print(*map(clean, (f"btmd: {error.title}.", error.detail, error.hint)), sep="\n", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _run(config: Config) -> None:
    # Imported late, so that a wrong flag or --help answers at once.
    import anyio

    from btmd.daemon import run_daemon

    try:
        anyio.run(run_daemon, config)
    except BaseExceptionGroup as group:
        refusal, rest = group.split(BtmdError)
        if rest is not None or refusal is None:
            raise
        raise _first(refusal) from None


def _first(group: BaseExceptionGroup[BtmdError]) -> BtmdError:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


if __name__ == "__main__":
    sys.exit(main())
