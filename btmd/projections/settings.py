"""The values in force, and who changed them last."""

import sqlite3
from collections.abc import Sequence

import msgspec
from sqlmodel import Field, SQLModel, select
from sqlmodel.ext.asyncio.session import AsyncSession

from btmd.domain.settings import SettingChanged
from btmd.projections.view import View, insert
from btmd.store.recorded import Recorded


class SettingRow(SQLModel, table=True):
    """One setting that was changed at some time; ``value_json`` is null where the default applies again."""

    __tablename__ = "view_settings"

    key: str = Field(primary_key=True)
    value_json: str | None
    changed_us: int
    changed_seq: int
    changed_by: str
    why: str


def _changed(connection: sqlite3.Connection, recorded: Recorded, happened: SettingChanged) -> None:
    insert(
        connection,
        SettingRow,
        key=happened.key,
        value_json=None if happened.after is None else msgspec.json.encode(happened.after).decode(),
        changed_us=recorded.recorded_at_us,
        changed_seq=recorded.seq,
        changed_by=recorded.actor.name,
        why=happened.why,
    )


def _changed_run(connection: sqlite3.Connection, run: Sequence[tuple[Recorded, SettingChanged]]) -> None:
    """Only the newest change of each setting is kept."""
    for recorded, happened in {happened.key: (recorded, happened) for recorded, happened in run}.values():
        _changed(connection, recorded, happened)


SETTINGS_VIEW = View("settings", 1, (SettingRow,), {SettingChanged: _changed}, {SettingChanged: _changed_run})


async def changed_settings(session: AsyncSession) -> Sequence[SettingRow]:
    return (await session.exec(select(SettingRow))).all()
