"""The reading side: plain connections for the log, SQLModel sessions for tables; neither can write."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from btmd.errors import BtmdError
from btmd.store.connection import connect_reader, is_storage_failure, storage_error

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlmodel.ext.asyncio.session import AsyncSession

READER_THREADS = 2
SESSION_CONNECTIONS = 2

Result = TypeVar("Result")


class Readers:
    """Read-only connections to one database, made when they are first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pool = ThreadPoolExecutor(READER_THREADS, thread_name_prefix="btmd-reader")
        self._idle: list[sqlite3.Connection] = []
        self._engine: AsyncEngine | None = None

    async def run(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        """``query`` in a reader's thread. Raises StoreFailed where the database cannot be read."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._query, query)

    def _query(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = connect_reader(self._path)
        try:
            result = query(connection)
        except sqlite3.Error as error:
            connection.close()
            if is_storage_failure(error):
                mapped: BtmdError = storage_error(error)
                raise mapped from error
            raise
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return result

    @asynccontextmanager
    async def session(self) -> AsyncIterator["AsyncSession"]:
        from sqlmodel.ext.asyncio.session import AsyncSession

        if self._engine is None:
            self._engine = _engine(self._path)
        async with AsyncSession(self._engine, expire_on_commit=False) as session:
            yield session

    async def close(self) -> None:
        if self._engine is not None:
            await self._engine.dispose()
            self._engine = None
        await asyncio.get_running_loop().run_in_executor(None, self._pool.shutdown)
        while self._idle:
            self._idle.pop().close()


def _engine(path: Path) -> "AsyncEngine":
    from sqlalchemy import URL, event
    from sqlalchemy.ext.asyncio import create_async_engine

    address = URL.create(
        "sqlite+aiosqlite", database=f"file:{quote(str(path.absolute()))}", query={"mode": "ro", "uri": "true"}
    )
    engine = create_async_engine(address, pool_size=SESSION_CONNECTIONS, max_overflow=0)

    def make_read_only(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA query_only=ON")
        cursor.execute("PRAGMA trusted_schema=OFF")
        cursor.close()

    event.listen(engine.sync_engine, "connect", make_read_only)
    return engine
