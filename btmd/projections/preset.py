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
    """One own preset; ``preset_json`` is a Preset. Times in microseconds since the epoch."""

    __tablename__ = "view_presets"

    key: str = Field(primary_key=True)
    preset_json: str
    made_from: str
    owner_uid: int
    created_us: int
    changed_us: int
    changed_seq: int
    changed_by: str

    @property
    def preset(self) -> Preset:
        return msgspec.json.decode(self.preset_json, type=Preset)


def _json(preset: Preset) -> str:
    return msgspec.json.encode(preset).decode()


def _created(connection: sqlite3.Connection, recorded: Recorded, happened: PresetCreated) -> None:
    insert(
        connection,
        PresetRow,
        key=happened.key,
        preset_json=_json(happened.preset),
        made_from=happened.made_from,
        owner_uid=recorded.actor.uid,
        created_us=recorded.recorded_at_us,
        changed_us=recorded.recorded_at_us,
        changed_seq=recorded.seq,
        changed_by=recorded.actor.name,
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
    connection.execute(f"DELETE FROM {PresetRow.__tablename__} WHERE key = ?", (happened.key,))


PRESETS_VIEW = View(
    "presets",
    2,
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
    return (await session.exec(select(PresetRow).order_by(col(PresetRow.key)))).all()


async def own_preset(session: AsyncSession, key: str) -> PresetRow | None:
    return (await session.exec(select(PresetRow).where(col(PresetRow.key) == key))).first()
