"""The models that are registered."""

import sqlite3
from collections.abc import Sequence

import msgspec
from sqlmodel import Field, SQLModel, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from btmd.domain.model import (
    ModelAdded,
    ModelFacts,
    ModelHashed,
    ModelRemoved,
    ModelSettingsChanged,
    ModelVerified,
    SettingValue,
)
from btmd.domain.ownership import ThingTransferred
from btmd.projections.ownership import transferred
from btmd.projections.view import View, insert, update
from btmd.store.recorded import Recorded


class ModelRow(SQLModel, table=True):
    """One registered model; ``facts_json`` is a ModelFacts."""

    __tablename__ = "view_models"

    model_id: str = Field(primary_key=True)
    name: str = Field(index=True)
    owner_uid: int
    source: str
    folder: str
    converted: bool
    facts_json: str
    added_us: int
    added_seq: int
    settings_json: str
    hashed_us: int | None
    verified_us: int | None
    differences_json: str

    @property
    def facts(self) -> ModelFacts:
        return msgspec.json.decode(self.facts_json, type=ModelFacts)

    @property
    def settings(self) -> dict[str, SettingValue]:
        """Training values that plans for this model begin with."""
        return msgspec.json.decode(self.settings_json, type=dict[str, SettingValue])

    @property
    def differences(self) -> dict[str, list[str]]:
        """Files ``changed``, ``missing`` and ``added`` at the last verification; empty before there was one."""
        return msgspec.json.decode(self.differences_json, type=dict[str, list[str]])


def _added(connection: sqlite3.Connection, recorded: Recorded, happened: ModelAdded) -> None:
    insert(
        connection,
        ModelRow,
        model_id=happened.model_id,
        name=happened.name,
        owner_uid=happened.owner_uid,
        source=happened.source,
        folder=happened.folder,
        converted=happened.converted,
        facts_json=msgspec.json.encode(happened.facts).decode(),
        added_us=recorded.recorded_at_us,
        added_seq=recorded.seq,
        settings_json="{}",
        hashed_us=None,
        verified_us=None,
        differences_json="{}",
    )


def _hashed(connection: sqlite3.Connection, recorded: Recorded, happened: ModelHashed) -> None:
    update(connection, ModelRow, "model_id", happened.model_id, hashed_us=recorded.recorded_at_us)


def _verified(connection: sqlite3.Connection, recorded: Recorded, happened: ModelVerified) -> None:
    found = {"changed": happened.changed, "missing": happened.missing, "added": happened.added}
    update(
        connection,
        ModelRow,
        "model_id",
        happened.model_id,
        verified_us=recorded.recorded_at_us,
        differences_json=msgspec.json.encode(found).decode(),
    )


def _set(connection: sqlite3.Connection, recorded: Recorded, happened: ModelSettingsChanged) -> None:
    settings = msgspec.json.encode(happened.settings).decode()
    update(connection, ModelRow, "model_id", happened.model_id, settings_json=settings)


def _removed(connection: sqlite3.Connection, recorded: Recorded, happened: ModelRemoved) -> None:
    connection.execute(f"DELETE FROM {ModelRow.__tablename__} WHERE model_id = ?", (happened.model_id,))


MODELS_VIEW = View(
    "models",
    3,
    (ModelRow,),
    {
        ModelAdded: _added,
        ModelRemoved: _removed,
        ModelHashed: _hashed,
        ModelVerified: _verified,
        ModelSettingsChanged: _set,
        ThingTransferred: transferred("model", ModelRow, "model_id", "added_us"),
    },
)


async def models(session: AsyncSession, *, limit: int | None = None, before: int | None = None) -> Sequence[ModelRow]:
    """All registered models, newest first; ``limit`` of those that were added before an event."""
    found = select(ModelRow).order_by(col(ModelRow.added_seq).desc())
    if before is not None:
        found = found.where(col(ModelRow.added_seq) < before)
    return (await session.exec(found.limit(limit))).all()
