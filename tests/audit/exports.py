"""A log that has been through a lot, exported as btmd does it, with and without a seal."""

import asyncio
import itertools
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from btmd.audit.export import Lines, Seal, bound_of, span_of
from btmd.audit.verify_audit import SIGNED
from btmd.store import condensing
from btmd.store.condensing import CondenseRule
from btmd.store.connection import connect_reader
from btmd.store.event_log import Store
from btmd.store.reader import read_head
from btmd.store.rebuild import rebuild_database
from tests.backup.logs import NOW_US, all_rows, append, store_id_of

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"o" * 32)


def public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def sealed(digest: str, key: Ed25519PrivateKey | None) -> Seal | None:
    return None if key is None else Seal(public(key), key.sign((SIGNED + digest).encode()).hex())


def export(path: Path, *, key: Ed25519PrivateKey | None = KEY, since: str = "", until: str = "") -> list[bytes]:
    """The lines of an export."""
    with closing(connect_reader(path)) as connection:
        store_id = connection.execute("SELECT store_id FROM meta").fetchone()[0]
        head = read_head(connection)
        bounds = [bound_of(text, now_us=NOW_US) for text in (since, until)]
        lines = Lines(store_id, span_of(connection, store_id, head, *bounds))
        opening = lines.opening(since=since, until=until, made_at="2026-11-22T14:00:00Z", made_by="ada", version="1")
        written = opening
        while page := lines.page(connection):
            written += page
        end = lines.closing(head)
        return (written + end.line(sealed(end.digest, key))).splitlines(keepends=True)


async def _condense(path: Path) -> int:
    clock = itertools.count(2 * NOW_US)
    store = await Store.open(
        path, clock=lambda: next(clock), boot_id="b", new_id=lambda: f"c{next(clock)}", monotonic_clock=lambda: 0
    )
    count = 0
    while await store.condense(CondenseRule(before_us=2 * NOW_US, max_bytes=0)) is not None:
        count += 1
    await store.close()
    return count


def condense(path: Path) -> int:
    """Condense all ticks in small slices; how many there were."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(condensing, "MIN_ROWS", 5)
        patched.setattr(condensing, "SLICE_ROWS", 20)
        return asyncio.run(_condense(path))


def begin_epoch(path: Path, epoch: int) -> None:
    """Make the database anew from its rows, as a recovery from a backup does."""
    rows, aside, store_id = all_rows(path), path.with_name("aside.db"), store_id_of(path)
    rebuild_database(aside, [rows], store_id=store_id, created_at_us=1, new_epoch=epoch, now_us=NOW_US)
    for left in path.parent.glob(path.name + "-*"):
        left.unlink()
    aside.replace(path)


def make_log(path: Path) -> None:
    """Three epochs, most of the ticks condensed."""
    append(path, 40, seed=1)
    begin_epoch(path, 2)
    append(path, 30, seed=2)
    begin_epoch(path, 5)
    append(path, 30, seed=3)
    assert condense(path) > 1
