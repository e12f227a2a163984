"""Every event's number and kind in the daemon's log: what the journal has, no change of the database takes back."""

import logging

from btmd.store.event_log import Store
from btmd.subscriptions import subscribe

log = logging.getLogger("btmd.events")

_OFTEN = ("ticks-", "watch-")
"""Streams with an event every few seconds."""


class EventJournal:
    """Tells of every event but those of progress: its number, kind, stream and author, and nothing that is in it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def run(self) -> None:
        """Follow the log until cancelled."""
        async for rows in subscribe(self._store, self._store.head.seq):
            for row in rows:
                if not row.stream.startswith(_OFTEN):
                    job_id = row.stream.removeprefix("job-") if row.stream.startswith("job-") else ""
                    about = {"event_seq": row.seq, "job_id": job_id}
                    log.info("event %d: %s in %s by %s", row.seq, row.type, row.stream, row.actor.name, extra=about)
