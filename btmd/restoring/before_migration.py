"""No database is lifted to a newer version before a backup of it stands and was read through."""

import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import anyio.to_thread

from btmd.backup.requests import (
    CreatedAnswer,
    CreateRequest,
    DatasetFiles,
    Inventory,
    JobFiles,
    NamedFile,
    VerifyAnswer,
    VerifyRequest,
)
from btmd.backups.child import BackupChild
from btmd.backups.folders import facts_of
from btmd.config import Config
from btmd.domain.backup import CheckedBackup, RecordBackup, RecordChecks
from btmd.errors import BtmdError, Conflict
from btmd.store.connection import connect_reader, opening_error
from btmd.store.migrations import pending_migrations

log = logging.getLogger("btmd.backups")

CAUSE = "migration"


class BackupNeeded(Conflict):
    code, title = "backup_needed", "The database cannot be lifted without a backup of it"


async def back_up_before_migration(config: Config, clock: Callable[[], int]) -> list[RecordBackup | RecordChecks]:
    """Back the database up if it has to be migrated and holds anything; what is to be recorded once it is open.

    Call it with the state folder locked, before the database is opened. Raises BackupNeeded, Damaged, StoreFailed.
    """
    path = config.database_path
    if config.migrate_without_backup or not await anyio.to_thread.run_sync(pending_migrations, path):
        return []
    store_id, head_seq = await anyio.to_thread.run_sync(_store_of, path)
    if head_seq == 0:
        return []
    log.info("the database has to be lifted to a newer version: it is backed up first")
    child = BackupChild(config, store_id, clock)
    try:
        return await _proved_backup(config, child)
    except BtmdError as error:
        raise BackupNeeded(
            f"This btmd has to lift the database to a newer version, and the backup before that failed: {error.detail}"
            " The database was not touched.",
            hint=f"{error.hint} The btmd of before still opens it; `btmd --migrate-without-backup` needs none.".strip(),
        ) from error


async def _proved_backup(config: Config, child: BackupChild) -> list[RecordBackup | RecordChecks]:
    folder = str(config.backups_dir)
    inventory = await anyio.to_thread.run_sync(_files_beside, config)
    for anew in (False, True):
        request = CreateRequest(
            **child.place(folder),
            database=str(config.database_path),
            description="Before the database was lifted to a newer version",
            cause=CAUSE,
            anew=anew,
            inventory=inventory,
        )
        made = await child.ask(request, CreatedAnswer)
        answer = await child.ask(VerifyRequest(**child.place(folder), names=(made.name,)), VerifyAnswer)
        (check,) = answer.checks
        if not check.code:
            break
    else:
        raise BackupNeeded(check.detail, hint=check.hint)
    facts = next(facts_of(one) for one in made.listing.backups if one.name == made.name)
    checked = CheckedBackup(check.name, check.events, check.artefacts, check.state)
    return [
        RecordBackup(folder, facts, made.new_events, made.written_bytes, made.rewritten_log),
        RecordChecks(folder, (checked,)),
    ]


def _store_of(path: Path) -> tuple[str, int]:
    """The store's id and how many events it holds, in whatever version."""
    try:
        with closing(connect_reader(path)) as connection:
            store_id, head_seq = connection.execute("SELECT store_id, head_seq FROM meta").fetchone()
            return str(store_id), int(head_seq)
    except sqlite3.Error as error:
        raise opening_error(error, path) from error


def _files_beside(config: Config) -> Inventory:
    """What lies beside the log, as the disk shows it: an old database's views are not read."""
    contents = [path for path in config.content_dir.glob("*/*") if path.is_file()]
    jobs = sorted(os.listdir(config.jobs_dir)) if config.jobs_dir.is_dir() else []
    return Inventory(
        datasets=(DatasetFiles("", False, tuple(NamedFile(path.name, str(path)) for path in contents)),),
        jobs=tuple(
            JobFiles(
                job,
                "",
                result=str(config.jobs_dir / job / "result"),
                answers=str(config.jobs_dir / job / "answers.json"),
                checkpoints=str(config.jobs_dir / job / "checkpoints"),
            )
            for job in jobs
        ),
    )
