"""The models that are registered."""

import sqlite3
from collections.abc import Sequence

import msgspec
from sqlmodel import Field, SQLModel, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from btmd.domain.model import ModelAdded, ModelFacts, ModelRemoved
from btmd.projections.view import View, insert
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

    @property
    def facts(self) -> ModelFacts:
        return msgspec.json.decode(self.facts_json, type=ModelFacts)


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
    )


def _removed(connection: sqlite3.Connection, recorded: Recorded, happened: ModelRemoved) -> None:
    connection.execute(f"DELETE FROM {ModelRow.__tablename__} WHERE model_id = ?", (happened.model_id,))


MODELS_VIEW = View("models", 1, (ModelRow,), {ModelAdded: _added, ModelRemoved: _removed})


async def models(session: AsyncSession) -> Sequence[ModelRow]:
    """All registered models, newest first."""
    return (await session.exec(select(ModelRow).order_by(col(ModelRow.added_seq).desc()))).all()
