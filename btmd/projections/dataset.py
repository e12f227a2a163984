"""The datasets that are registered, their versions, and the consent they stand under."""

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlmodel import Field, SQLModel, col, or_, select
from sqlmodel.ext.asyncio.session import AsyncSession

from btmd.domain.dataset import (
    ConsentGranted,
    ConsentRevoked,
    DatasetAdded,
    DatasetCopiesErased,
    DatasetErased,
    DatasetRemoved,
    DatasetVersionAdded,
)
from btmd.domain.ownership import ThingTransferred
from btmd.projections.ownership import transferred
from btmd.projections.view import View, insert, update
from btmd.store.recorded import Recorded


class DatasetRow(SQLModel, table=True):
    """One registered dataset; ``scopes_json`` lists what somebody allowed (an empty list: nothing)."""

    __tablename__ = "view_datasets"

    dataset_id: str = Field(primary_key=True)
    name: str = Field(index=True)
    owner_uid: int
    source_name: str
    added_us: int
    added_seq: int
    newest_version: str
    scopes_json: str
    purpose: str
    consent_by_uid: int | None
    consent_us: int | None
    removed: bool = Field(index=True)
    removed_us: int | None
    contents_kept: bool

    @property
    def scopes(self) -> tuple[str, ...]:
        return tuple(msgspec.json.decode(self.scopes_json))


class DatasetVersionRow(SQLModel, table=True):
    """One immutable version of a dataset."""

    __tablename__ = "view_dataset_versions"

    dataset_id: str = Field(primary_key=True)
    version_id: str = Field(primary_key=True)
    source_sha256: str = Field(index=True)
    rows_sha256: str = Field(index=True)
    size_bytes: int
    rows: int
    mapping_json: str
    facts_json: str
    parent: str | None
    made: str
    changes_json: str
    source_path: str
    source_changed_us: int
    added_us: int
    added_seq: int

    @property
    def facts(self) -> dict[str, Any]:
        return msgspec.json.decode(self.facts_json)  # type: ignore[no-any-return]

    @property
    def mapping(self) -> dict[str, str]:
        return msgspec.json.decode(self.mapping_json)  # type: ignore[no-any-return]

    @property
    def changes(self) -> dict[str, Any]:
        return msgspec.json.decode(self.changes_json)  # type: ignore[no-any-return]


class ErasureRow(SQLModel, table=True):
    """A dataset that was erased, and what of it is still out of reach. ``done``: gone from this machine."""

    __tablename__ = "view_erasures"

    erased_seq: int = Field(primary_key=True)
    dataset_id: str = Field(index=True)
    name: str
    by_uid: int
    erased_us: int
    versions_json: str
    contents_json: str
    jobs_json: str
    done: bool
    unreached_json: str

    @property
    def versions(self) -> tuple[str, ...]:
        return tuple(msgspec.json.decode(self.versions_json))

    @property
    def contents(self) -> tuple[str, ...]:
        return tuple(msgspec.json.decode(self.contents_json))

    @property
    def jobs(self) -> tuple[str, ...]:
        """Those that were trained on it."""
        return tuple(msgspec.json.decode(self.jobs_json))

    @property
    def unreached(self) -> tuple[str, ...]:
        """Backup folders that still hold its keys."""
        return tuple(msgspec.json.decode(self.unreached_json))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _added(connection: sqlite3.Connection, recorded: Recorded, happened: DatasetAdded) -> None:
    insert(
        connection,
        DatasetRow,
        dataset_id=happened.dataset_id,
        name=happened.name,
        owner_uid=happened.owner_uid,
        source_name=happened.source_name,
        added_us=recorded.recorded_at_us,
        added_seq=recorded.seq,
        newest_version="",
        scopes_json="[]",
        purpose="",
        consent_by_uid=None,
        consent_us=None,
        removed=False,
        removed_us=None,
        contents_kept=False,
    )


def _version(connection: sqlite3.Connection, recorded: Recorded, happened: DatasetVersionAdded) -> None:
    insert(
        connection,
        DatasetVersionRow,
        dataset_id=happened.dataset_id,
        version_id=happened.version_id,
        source_sha256=happened.source_sha256,
        rows_sha256=happened.rows_sha256,
        size_bytes=happened.size_bytes,
        rows=happened.rows,
        mapping_json=_json(happened.mapping),
        facts_json=_json(happened.facts),
        parent=happened.parent,
        made=happened.made,
        changes_json=_json(happened.changes),
        source_path=happened.source_path,
        source_changed_us=happened.source_changed_us,
        added_us=recorded.recorded_at_us,
        added_seq=recorded.seq,
    )
    update(connection, DatasetRow, "dataset_id", happened.dataset_id, newest_version=happened.version_id)


def _granted(connection: sqlite3.Connection, recorded: Recorded, happened: ConsentGranted) -> None:
    update(
        connection,
        DatasetRow,
        "dataset_id",
        happened.dataset_id,
        scopes_json=_json(happened.scopes),
        purpose=happened.purpose,
        consent_by_uid=happened.by_uid,
        consent_us=recorded.recorded_at_us,
    )


def _revoked(connection: sqlite3.Connection, recorded: Recorded, happened: ConsentRevoked) -> None:
    update(connection, DatasetRow, "dataset_id", happened.dataset_id, scopes_json="[]", consent_us=None)


def _removed(connection: sqlite3.Connection, recorded: Recorded, happened: DatasetRemoved) -> None:
    update(
        connection,
        DatasetRow,
        "dataset_id",
        happened.dataset_id,
        removed=True,
        removed_us=recorded.recorded_at_us,
        contents_kept=happened.contents_kept,
        scopes_json="[]",
    )


def _erased(connection: sqlite3.Connection, recorded: Recorded, happened: DatasetErased) -> None:
    identity = happened.dataset_id
    found = connection.execute("SELECT name FROM view_datasets WHERE dataset_id = ?", (identity,)).fetchone()
    insert(
        connection,
        ErasureRow,
        erased_seq=recorded.seq,
        dataset_id=identity,
        name=found[0] if found else identity,
        by_uid=happened.by_uid,
        erased_us=recorded.recorded_at_us,
        versions_json=_json(happened.versions),
        contents_json=_json(happened.contents),
        jobs_json=_json(happened.jobs),
        done=False,
        unreached_json="[]",
    )
    update(connection, DatasetRow, "dataset_id", identity, removed=True, contents_kept=False, scopes_json="[]")
    connection.execute("DELETE FROM view_dataset_versions WHERE dataset_id = ?", (identity,))


def _copies_erased(connection: sqlite3.Connection, recorded: Recorded, happened: DatasetCopiesErased) -> None:
    unreached = _json(happened.unreached)
    update(connection, ErasureRow, "dataset_id", happened.dataset_id, done=True, unreached_json=unreached)


DATASETS_VIEW = View(
    "datasets",
    6,
    (DatasetRow, DatasetVersionRow, ErasureRow),
    {
        DatasetAdded: _added,
        DatasetVersionAdded: _version,
        ConsentGranted: _granted,
        ConsentRevoked: _revoked,
        DatasetRemoved: _removed,
        DatasetErased: _erased,
        DatasetCopiesErased: _copies_erased,
        ThingTransferred: transferred("dataset", DatasetRow, "dataset_id", "added_us"),
    },
)


_ERASED = (
    select(ErasureRow.erased_seq)
    .where(col(ErasureRow.dataset_id) == col(DatasetRow.dataset_id))
    .where(col(ErasureRow.erased_seq) > col(DatasetRow.added_seq))
    .exists()
)


async def datasets(
    session: AsyncSession, *, limit: int | None = None, before: int | None = None
) -> Sequence[DatasetRow]:
    """All datasets that were not removed, newest first; ``limit`` of those that were added before an event."""
    found = select(DatasetRow).where(col(DatasetRow.removed).is_(False)).order_by(col(DatasetRow.added_seq).desc())
    if before is not None:
        found = found.where(col(DatasetRow.added_seq) < before)
    return (await session.exec(found.limit(limit))).all()


async def removed_datasets(session: AsyncSession) -> Sequence[DatasetRow]:
    """Those that were removed and not erased since, removed last first: they can be added again, or erased."""
    found = select(DatasetRow).where(col(DatasetRow.removed).is_(True)).where(~_ERASED)
    return (await session.exec(found.order_by(col(DatasetRow.removed_us).desc()))).all()


async def newest_versions(
    session: AsyncSession, *, removed: bool, limit: int, before: int | None = None
) -> Sequence[tuple[DatasetRow, DatasetVersionRow]]:
    """Datasets, newest first, each with its newest version; with ``removed`` also those removed and not erased."""
    listed = col(DatasetRow.removed).is_(False)
    found = (
        select(DatasetRow, DatasetVersionRow)
        .join(DatasetVersionRow, col(DatasetRow.dataset_id) == col(DatasetVersionRow.dataset_id))
        .where(col(DatasetRow.newest_version) == col(DatasetVersionRow.version_id))
        .where(or_(listed, ~_ERASED) if removed else listed)
        .order_by(col(DatasetRow.added_seq).desc())
    )
    if before is not None:
        found = found.where(col(DatasetRow.added_seq) < before)
    return (await session.exec(found.limit(limit))).all()


async def erasures(
    session: AsyncSession, *, limit: int | None = None, before: int | None = None
) -> Sequence[ErasureRow]:
    """All erasures, newest first; ``limit`` of those before an event."""
    found = select(ErasureRow).order_by(col(ErasureRow.erased_seq).desc())
    if before is not None:
        found = found.where(col(ErasureRow.erased_seq) < before)
    return (await session.exec(found.limit(limit))).all()


async def dataset_named(session: AsyncSession, dataset_id: str) -> DatasetRow | None:
    """By its id alone, also one that was removed."""
    return await session.get(DatasetRow, dataset_id)


async def versions(session: AsyncSession, dataset_id: str) -> Sequence[DatasetVersionRow]:
    """All versions there were under one id, newest first; also those of registrations that ended."""
    found = (
        select(DatasetVersionRow)
        .where(DatasetVersionRow.dataset_id == dataset_id)
        .order_by(col(DatasetVersionRow.added_seq).desc())
    )
    return (await session.exec(found)).all()


async def registered_versions(session: AsyncSession, row: DatasetRow) -> Sequence[DatasetVersionRow]:
    """The versions of the registration as it stands, newest first: not those before a removal or a restore."""
    return [one for one in await versions(session, row.dataset_id) if one.added_seq > row.added_seq]


async def version(session: AsyncSession, dataset_id: str, version_id: str) -> DatasetVersionRow | None:
    return await session.get(DatasetVersionRow, (dataset_id, version_id))


async def versions_of_source(
    session: AsyncSession, source_sha256: str
) -> Sequence[tuple[DatasetRow, DatasetVersionRow]]:
    """Versions of registered datasets that were read from this content, newest first."""
    found = (
        select(DatasetRow, DatasetVersionRow)
        .join(DatasetVersionRow, col(DatasetRow.dataset_id) == col(DatasetVersionRow.dataset_id))
        .where(DatasetVersionRow.source_sha256 == source_sha256)
        .where(col(DatasetVersionRow.made).in_(("add", "update")))
        .where(col(DatasetRow.removed).is_(False))
        .order_by(col(DatasetVersionRow.added_seq).desc())
    )
    return (await session.exec(found)).all()


async def referenced_contents(session: AsyncSession) -> set[str]:
    """The SHA-256 of all rows that a dataset needs: a registered one, or one that an undone restore gives back."""
    found = (
        select(DatasetVersionRow.rows_sha256)
        .join(DatasetRow, col(DatasetRow.dataset_id) == col(DatasetVersionRow.dataset_id))
        .where(or_(col(DatasetRow.removed).is_(False), col(DatasetRow.contents_kept)))
    )
    return set((await session.exec(found)).all())
