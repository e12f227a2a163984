"""A log that was changed is told from one that is damaged, and the first bad event is named."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from btmd.store.audit import Audit, audit_log, newest_of
from btmd.store.event_log import Store
from btmd.store.recorded import Head, Recorded, row_hash
from tests.store.given import append, opened, refused

TRIGGERS = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name IN ('events', 'meta')"


def behind(path: Path, change: Callable[[sqlite3.Connection], None]) -> None:
    """Change the log as somebody would who takes the triggers away and puts them back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        triggers = connection.execute(TRIGGERS).fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        change(connection)
        for _, sql in triggers:
            connection.execute(sql)


def rewritten(connection: sqlite3.Connection) -> None:
    """Change event 5 and chain everything after it anew: nothing inside the file shows it."""
    connection.execute("UPDATE events SET data = replace(data, 'code', 'kode') WHERE seq = 5")
    digest = connection.execute("SELECT hash FROM events WHERE seq = 4").fetchone()[0]
    for values in connection.execute("SELECT * FROM events WHERE seq >= 5 ORDER BY seq").fetchall():
        before, digest = digest, row_hash(digest, tuple(values[:14]))
        connection.execute("UPDATE events SET prev_hash = ?, hash = ? WHERE seq = ?", (before, digest, values[0]))
    connection.execute("UPDATE meta SET head_hash = ?", (digest,))


def execute(sql: str) -> Callable[[sqlite3.Connection], None]:
    def change(connection: sqlite3.Connection) -> None:
        connection.execute(sql)

    return change


async def audited(store: Store, known: Head | None = None) -> Audit:
    head = known or store.head
    return await store.query(lambda connection: audit_log(connection, head))


@pytest.mark.parametrize(
    ("change", "verdict", "first_bad"),
    [
        (execute("UPDATE events SET data = replace(data, 'code', 'kode') WHERE seq = 5"), "tampered", 5),
        (execute("UPDATE events SET actor = replace(actor, '1000', '1001') WHERE seq = 7"), "tampered", 7),
        (execute("UPDATE events SET wall_at = wall_at - 1 WHERE seq = 2"), "tampered", 2),
        (execute("DELETE FROM events WHERE seq = 4"), "tampered", 5),
        (execute("DELETE FROM events WHERE seq = 10"), "tampered", 10),
        (execute("UPDATE events SET data = '{' WHERE seq = 3"), "damaged", 3),
        (execute("UPDATE events SET data = x'00ff' WHERE seq = 3"), "damaged", 3),
        (rewritten, "tampered", None),
    ],
)
async def test_the_first_bad_event_is_named(
    tmp_path: Path, change: Callable[[sqlite3.Connection], None], verdict: str, first_bad: int | None
) -> None:
    async with opened(tmp_path) as store:
        for _ in range(10):
            await append(store, "machine", refused())
        assert (await audited(store)).verdict == "ok"
        behind(store.path, change)
        found = await audited(store)
        assert (found.verdict, found.first_bad) == (verdict, first_bad)
        assert found.reason


async def test_a_guard_that_was_taken_away_is_told(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await append(store, "machine", refused())
        with closing(sqlite3.connect(store.path)) as connection:
            connection.execute("DROP TRIGGER events_never_deleted")
        assert (await audited(store)).verdict == "tampered"


async def test_who_did_what_newest_first(tmp_path: Path) -> None:
    def numbers(rows: list[Recorded]) -> list[int]:
        return [row.seq for row in rows]

    async with opened(tmp_path) as store:
        for _ in range(5):
            await append(store, "machine", refused())
        for user, expected in ((None, [3, 2]), ("somebody", [3, 2]), ("1000", [3, 2]), ("daemon", []), ("7", [])):
            found = await store.query(
                lambda one, u=user: newest_of(one, limit=2, before=4, user=u, types=())  # type: ignore[misc]
            )
            assert numbers(found) == expected
        types = ("SettingChanged",)
        assert await store.query(lambda one: newest_of(one, limit=9, before=None, user=None, types=types)) == []
