"""The backups there are, and the drills that proved or failed to prove them."""

import sqlite3
from collections.abc import Sequence

import msgspec
from sqlmodel import Field, SQLModel, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from btmd.domain.backup import (
    BackupCreated,
    BackupDeleted,
    BackupFacts,
    BackupFaulty,
    BackupFound,
    BackupLost,
    BackupVerified,
    DrillFailed,
    DrillPassed,
)
from btmd.projections.view import View, insert
from btmd.store.recorded import Recorded


class BackupRow(SQLModel, table=True):
    """One backup in one folder. Times in microseconds UTC; ``fault`` is the error's code of the newest check."""

    __tablename__ = "view_backups"

    folder: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    created_us: int = Field(index=True)
    kind: str
    description: str
    cause: str
    epoch: int
    head_seq: int
    head_hash: str
    events: int
    segments: int
    artefacts: int
    components_json: str
    size_bytes: int
    written_bytes: int | None
    """What it added to its folder; None where nobody measured it."""
    verified_us: int | None = None
    fault: str = ""
    drilled_us: int | None = None
    lost: bool = False
    """It is not in its folder any more, and nobody deleted it through us."""

    @property
    def backup_id(self) -> str:
        return self.name[:16]

    @property
    def facts(self) -> BackupFacts:
        return BackupFacts(
            name=self.name,
            kind=self.kind,
            created_at_us=self.created_us,
            description=self.description,
            cause=self.cause,
            epoch=self.epoch,
            head_seq=self.head_seq,
            head_hash=self.head_hash,
            events=self.events,
            segments=self.segments,
            artefacts=self.artefacts,
            components=tuple(msgspec.json.decode(self.components_json)),
            size_bytes=self.size_bytes,
        )


class DrillRow(SQLModel, table=True):
    """One drill; ``code`` and ``detail`` are empty where the restore was proved."""

    __tablename__ = "view_backup_drills"

    seq: int = Field(primary_key=True)
    folder: str
    name: str
    at_us: int
    duration_us: int
    events: int
    code: str
    detail: str


def _put(connection: sqlite3.Connection, folder: str, backup: BackupFacts, written_bytes: int | None) -> None:
    insert(
        connection,
        BackupRow,
        folder=folder,
        name=backup.name,
        created_us=backup.created_at_us,
        kind=backup.kind,
        description=backup.description,
        cause=backup.cause,
        epoch=backup.epoch,
        head_seq=backup.head_seq,
        head_hash=backup.head_hash,
        events=backup.events,
        segments=backup.segments,
        artefacts=backup.artefacts,
        components_json=msgspec.json.encode(backup.components).decode(),
        size_bytes=backup.size_bytes,
        written_bytes=written_bytes,
        verified_us=None,
        fault="",
        drilled_us=None,
        lost=False,
    )


def _created(connection: sqlite3.Connection, recorded: Recorded, happened: BackupCreated) -> None:
    _put(connection, happened.folder, happened.backup, happened.written_bytes)


def _found(connection: sqlite3.Connection, recorded: Recorded, happened: BackupFound) -> None:
    _put(connection, happened.folder, happened.backup, None)


def _lost(connection: sqlite3.Connection, recorded: Recorded, happened: BackupLost) -> None:
    connection.execute(
        f"UPDATE {BackupRow.__tablename__} SET lost = 1 WHERE folder = ? AND name = ?", (happened.folder, happened.name)
    )


def _deleted(connection: sqlite3.Connection, recorded: Recorded, happened: BackupDeleted) -> None:
    connection.execute(
        f"DELETE FROM {BackupRow.__tablename__} WHERE folder = ? AND name = ?", (happened.folder, happened.name)
    )


def _change(connection: sqlite3.Connection, folder: str, name: str, column: str, value: object, fault: str) -> None:
    connection.execute(
        f"UPDATE {BackupRow.__tablename__} SET {column} = ?, fault = ? WHERE folder = ? AND name = ?",
        (value, fault, folder, name),
    )


def _verified(connection: sqlite3.Connection, recorded: Recorded, happened: BackupVerified) -> None:
    _change(connection, happened.folder, happened.name, "verified_us", recorded.recorded_at_us, "")


def _faulty(connection: sqlite3.Connection, recorded: Recorded, happened: BackupFaulty) -> None:
    _change(connection, happened.folder, happened.name, "verified_us", None, happened.code)


def _drill_passed(connection: sqlite3.Connection, recorded: Recorded, happened: DrillPassed) -> None:
    _change(connection, happened.folder, happened.name, "drilled_us", recorded.recorded_at_us, "")
    _drill(connection, recorded, happened, happened.events, "", "")


def _drill_failed(connection: sqlite3.Connection, recorded: Recorded, happened: DrillFailed) -> None:
    _change(connection, happened.folder, happened.name, "drilled_us", None, happened.code)
    _drill(connection, recorded, happened, 0, happened.code, happened.detail)


def _drill(
    connection: sqlite3.Connection,
    recorded: Recorded,
    happened: DrillPassed | DrillFailed,
    events: int,
    code: str,
    detail: str,
) -> None:
    insert(
        connection,
        DrillRow,
        seq=recorded.seq,
        folder=happened.folder,
        name=happened.name,
        at_us=recorded.recorded_at_us,
        duration_us=happened.duration_us,
        events=events,
        code=code,
        detail=detail,
    )


BACKUPS_VIEW = View(
    "backups",
    2,
    (BackupRow, DrillRow),
    {
        BackupCreated: _created,
        BackupFound: _found,
        BackupDeleted: _deleted,
        BackupLost: _lost,
        BackupVerified: _verified,
        BackupFaulty: _faulty,
        DrillPassed: _drill_passed,
        DrillFailed: _drill_failed,
    },
)


async def backups(session: AsyncSession, folder: str | None = None, *, lost: bool = False) -> Sequence[BackupRow]:
    """The backups in one folder (None: in all), newest first; or those that are ``lost`` instead."""
    newest_first = (col(BackupRow.created_us).desc(), col(BackupRow.head_seq).desc())
    found = select(BackupRow).where(col(BackupRow.lost) == lost).order_by(*newest_first)
    if folder is not None:
        found = found.where(BackupRow.folder == folder)
    return (await session.exec(found)).all()


async def last_drill(session: AsyncSession, *, proved: bool) -> DrillRow | None:
    """The newest drill that went so."""
    wanted = col(DrillRow.code) == "" if proved else col(DrillRow.code) != ""
    return (await session.exec(select(DrillRow).where(wanted).order_by(col(DrillRow.seq).desc()).limit(1))).first()
