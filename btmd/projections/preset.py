"""The presets that people made, as they are now."""

import sqlite3
from collections.abc import Sequence

import msgspec
from sqlmodel import Field, SQLModel, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from btmd.domain.ownership import ThingTransferred
from btmd.domain.preset import Preset
from btmd.domain.preset_definition import PresetChanged, PresetCreated, PresetDeleted
from btmd.projections.ownership import transferred
from btmd.projections.view import View, insert, update
from btmd.store.recorded import Recorded


class PresetRow(SQLModel, table=True):
    """One own preset; ``preset_json`` is a Preset. Times in microseconds since the epoch.

    ``deleted``: it is there no more, and known for whom it is given back to.
    """

    __tablename__ = "view_presets"

    key: str = Field(primary_key=True)
    preset_json: str
    made_from: str
    owner_uid: int
    created_us: int
    changed_us: int
    changed_seq: int
    changed_by: str
    deleted: bool

    @property
    def preset(self) -> Preset:
        return msgspec.json.decode(self.preset_json, type=Preset)


def _json(preset: Preset) -> str:
    return msgspec.json.encode(preset).decode()


def _created(connection: sqlite3.Connection, recorded: Recorded, happened: PresetCreated) -> None:
    owner_uid, created_us = recorded.actor.uid, recorded.recorded_at_us
    if happened.given_back:
        statement = f"SELECT owner_uid, created_us FROM {PresetRow.__tablename__} WHERE key = ? AND deleted"
        owner_uid, created_us = connection.execute(statement, (happened.key,)).fetchone() or (owner_uid, created_us)
    insert(
        connection,
        PresetRow,
        key=happened.key,
        preset_json=_json(happened.preset),
        made_from=happened.made_from,
        owner_uid=owner_uid,
        created_us=created_us,
        changed_us=recorded.recorded_at_us,
        changed_seq=recorded.seq,
        changed_by=recorded.actor.name,
        deleted=False,
    )


def _changed(connection: sqlite3.Connection, recorded: Recorded, happened: PresetChanged) -> None:
    update(
        connection,
        PresetRow,
        "key",
        happened.key,
        preset_json=_json(happened.after),
        changed_us=recorded.recorded_at_us,
        changed_seq=recorded.seq,
        changed_by=recorded.actor.name,
    )


def _deleted(connection: sqlite3.Connection, recorded: Recorded, happened: PresetDeleted) -> None:
    update(connection, PresetRow, "key", happened.key, deleted=True)


PRESETS_VIEW = View(
    "presets",
    3,
    (PresetRow,),
    {
        PresetCreated: _created,
        PresetChanged: _changed,
        PresetDeleted: _deleted,
        ThingTransferred: transferred("preset", PresetRow, "key", "created_us"),
    },
)


async def own_presets(session: AsyncSession) -> Sequence[PresetRow]:
    """All own presets, by key."""
    found = select(PresetRow).where(col(PresetRow.deleted).is_(False)).order_by(col(PresetRow.key))
    return (await session.exec(found)).all()


async def own_preset(session: AsyncSession, key: str, *, deleted: bool = False) -> PresetRow | None:
    """The one with this key, or the one that was deleted last."""
    found = select(PresetRow).where(col(PresetRow.key) == key).where(col(PresetRow.deleted).is_(deleted))
    return (await session.exec(found)).first()
