"""What changed hands, in the tables of what there is."""

import sqlite3
from typing import Any

from sqlmodel import SQLModel

from btmd.projections.view import Apply
from btmd.store.recorded import Recorded


def transferred(kind: str, table: type[SQLModel], key: str, made: str) -> Apply:
    """Writes the new owner into the row whose ``key`` and time of making (the column ``made``) the event names."""
    statement = f"UPDATE {table.__tablename__} SET owner_uid = ? WHERE {key} = ? AND {made} = ?"

    def apply(connection: sqlite3.Connection, recorded: Recorded, happened: Any) -> None:
        if happened.kind == kind:
            connection.execute(statement, (happened.to_uid, happened.thing_id, happened.made_us))

    return apply
