"""Where things live and how the daemon was asked to run; the only reader of the environment."""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from btmd import __version__
from btmd.errors import InvalidValue
from btmd.hub_cache import hub_cache
from btmd.logs import FORMS, TEXT

LOG_LEVELS = ("debug", "info", "warning", "error")
BACKUP_CREDENTIAL = "btmd-backup-key"


class SystemdContext(Struct, frozen=True):
    """What the service manager said when it started us; empty without one."""

    notify_socket: str = ""
    watchdog_s: float | None = None
    """The watchdog's limit in seconds; None when it does not watch this process."""
    credentials_dir: str = ""
    journal: bool = False
    """Standard error goes to the journal, which has a clock of its own."""
    listen_fds: int = 0
    """How many listening sockets it has handed over (btmd.socket); with any, none is bound."""


class Config(Struct, frozen=True):
    """Folders, socket and flags. Paths are absolute."""

    state_dir: Path
    config_dir: Path
    socket_path: Path
    rebuild_projections: bool = False
    migrate_without_backup: bool = False
    idle_exit_s: float | None = None
    """Exit after so many seconds without a request and without a job to do; None: never."""
    log_level: str | None = None
    """None: as the setting ``log.level`` says."""
    log_format: str = TEXT
    systemd: SystemdContext = SystemdContext()
    device_locks_dir: Path | None = None
    """Where trainings on one device keep out of each other's way; None: where all daemons of this machine meet."""
    hub_cache_dir: Path | None = None
    """Of the Hugging Face libraries, where models are known by ids such as ``org/name``."""

    @property
    def database_path(self) -> Path:
        return self.state_dir / "btmd.db"

    @property
    def lock_path(self) -> Path:
        return self.state_dir / "btmd.lock"

    @property
    def content_dir(self) -> Path:
        return self.state_dir / "content"

    @property
    def models_dir(self) -> Path:
        return self.state_dir / "models"

    @property
    def jobs_dir(self) -> Path:
        return self.state_dir / "jobs"

    @property
    def cache_dir(self) -> Path:
        return self.state_dir / "cache"

    @property
    def exports_dir(self) -> Path:
        """Exports on their way to who asked for them."""
        return self.state_dir / "exports"

    @property
    def settings_path(self) -> Path:
        return self.config_dir / "settings.toml"

    @property
    def settings_memory_path(self) -> Path:
        """What log and settings file agreed on last."""
        return self.state_dir / "settings-file.json"

    @property
    def presets_memory_path(self) -> Path:
        """What log and preset files agreed on last."""
        return self.state_dir / "preset-files.json"

    @property
    def failed_start_path(self) -> Path:
        """Where a daemon that an error ended leaves word for the next one."""
        return self.state_dir / "failed-start.json"

    @property
    def backups_dir(self) -> Path:
        return self.state_dir / "backups"

    @property
    def keys_dir(self) -> Path:
        return self.state_dir / "keys"

    @property
    def answers_keys_dir(self) -> Path:
        """By dataset, the keys of sample answers that were made from its rows."""
        return self.state_dir / "answers-keys"

    @property
    def backup_credential_path(self) -> Path | None:
        """The credential that opens the keys in place of the key file, where the service manager gives one."""
        path = Path(self.systemd.credentials_dir) / BACKUP_CREDENTIAL
        return path if self.systemd.credentials_dir and path.is_file() else None

    @property
    def presets_dir(self) -> Path:
        return self.config_dir / "presets"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> "None":  # type: ignore[override]
        raise InvalidValue(f"{message[:1].upper()}{message[1:]}.", hint="`btmd --help` lists the flags.")


def parser() -> argparse.ArgumentParser:
    """The flags of ``btmd``."""
    flags = _Parser(
        prog="btmd",
        description="The training daemon: keeps the log, runs the jobs, answers on a Unix socket.",
        epilog="example: btmd --state-dir ~/btmd-state --socket /tmp/btmd.sock",
    )
    flags.add_argument("--state-dir", metavar="DIR", help="log, jobs, models (default: $XDG_STATE_HOME/btmd)")
    flags.add_argument("--config-dir", metavar="DIR", help="settings and own presets (default: $XDG_CONFIG_HOME/btmd)")
    flags.add_argument("--socket", metavar="PATH", help="where to listen (default: $XDG_RUNTIME_DIR/btmd/btmd.sock)")
    flags.add_argument(
        "--device-locks", metavar="DIR", help="keep devices to one training at a time in DIR, not for the whole machine"
    )
    flags.add_argument("--rebuild-projections", action="store_true", help="build every view anew from the log first")
    flags.add_argument(
        "--migrate-without-backup", action="store_true", help="lift an older database even where no backup can be made"
    )
    flags.add_argument("--idle-exit", type=float, metavar="SECONDS", help="exit when there is nothing to do so long")
    flags.add_argument("--log-level", choices=LOG_LEVELS, help="how much to write (default: the setting log.level)")
    flags.add_argument("--log-format", choices=FORMS, default=TEXT, help="how to write it (default: text)")
    flags.add_argument("--version", action="version", version=f"btmd {__version__}")
    return flags


def read_config(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Config:
    """The configuration from flags first, then the environment, then the usual places. Raises InvalidValue."""
    found = os.environ if environment is None else environment
    flags = parser().parse_args(arguments)
    if flags.idle_exit is not None and not flags.idle_exit > 0:
        raise InvalidValue("--idle-exit takes a number of seconds above 0.")
    state = _path(flags.state_dir or found.get("BTMD_STATE_DIR")) or _xdg(found, "XDG_STATE_HOME", ".local/state")
    config = _path(flags.config_dir or found.get("BTMD_CONFIG_DIR")) or _xdg(found, "XDG_CONFIG_HOME", ".config")
    socket = _path(flags.socket or found.get("BTMD_SOCKET"))
    if socket is None:
        runtime = found.get("XDG_RUNTIME_DIR")
        own_state = bool(flags.state_dir or found.get("BTMD_STATE_DIR"))
        # A daemon with a state folder of its own must not take the usual daemon's socket away.
        socket = Path(runtime) / "btmd" / "btmd.sock" if runtime and not own_state else state / "btmd.sock"
    return Config(
        state_dir=state,
        config_dir=config,
        socket_path=socket,
        rebuild_projections=flags.rebuild_projections,
        migrate_without_backup=flags.migrate_without_backup,
        idle_exit_s=flags.idle_exit,
        log_level=flags.log_level,
        log_format=flags.log_format,
        systemd=_systemd(found),
        device_locks_dir=_path(flags.device_locks or found.get("BTMD_DEVICE_LOCKS")),
        hub_cache_dir=hub_cache(found),
    )


def _path(text: str | None) -> Path | None:
    return Path(os.path.abspath(os.path.expanduser(text))) if text else None


def _xdg(environment: Mapping[str, str], variable: str, usual: str) -> Path:
    base = environment.get(variable, "")
    # The XDG specification: a relative path is invalid and ignored.
    if not base.startswith("/"):
        base = os.path.join(environment.get("HOME") or os.path.expanduser("~"), usual)
    return Path(base) / "btmd"


def _systemd(environment: Mapping[str, str]) -> SystemdContext:
    watchdog_us = environment.get("WATCHDOG_USEC", "")
    watched_pid = environment.get("WATCHDOG_PID", "")
    watched = watchdog_us.isdigit() and int(watchdog_us) > 0 and watched_pid in ("", str(os.getpid()))
    handed_over = environment.get("LISTEN_FDS", "")
    to_us = handed_over.isdigit() and environment.get("LISTEN_PID", "") == str(os.getpid())
    return SystemdContext(
        notify_socket=environment.get("NOTIFY_SOCKET", ""),
        credentials_dir=environment.get("CREDENTIALS_DIRECTORY", ""),
        watchdog_s=int(watchdog_us) / 1e6 if watched else None,
        journal=_leads_to_journal(environment.get("JOURNAL_STREAM", "")),
        listen_fds=int(handed_over) if to_us else 0,
    )


def _leads_to_journal(stream: str) -> bool:
    """Whether standard error is the stream that systemd named; what a service starts elsewhere inherits the name."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"
