"""Following the log from a position: nothing left out, nothing twice."""

from collections.abc import AsyncIterator

from btmd.store.event_log import Recorded, Store

PAGE_ROWS = 500


async def subscribe(store: Store, after: int = 0, *, limit: int = PAGE_ROWS) -> AsyncIterator[list[Recorded]]:
    """Rows after ``after``, in order, in lists of up to ``limit``; ends when the store is closed.

    Holds nothing but its position: a slow reader finds older rows in the database, so it delays nobody and no queue
    grows.
    """
    position = after
    while await store.wait_beyond(position):
        rows = store.recent(position, limit)
        if not rows:
            rows = await store.read(position, limit=limit)
        if rows:
            position = rows[-1].seq
            yield rows
