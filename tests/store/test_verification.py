"""Every change to a row, and every row that is gone, is found and named."""

import json
import random
import sqlite3
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btmd.errors import BtmdError, Damaged
from btmd.store.errors import SchemaChanged
from btmd.store.recorded import COLUMNS, genesis_hash, row_hash
from btmd.store.verification import verify_log
from tests.store.given import append, opened, refused, tick

ROWS = 20


async def filled(folder: Path) -> Path:
    async with opened(folder) as store:
        for number in range(ROWS // 2):
            await append(store, "s", refused(str(number)))
            await append(store, "ticks-s", tick(number))
    return folder / "btmd.db"


def tamper(path: Path, *statements: str) -> sqlite3.Connection:
    """As somebody would who owns the file: without the guards."""
    connection = sqlite3.connect(path, isolation_level=None)
    guards = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in guards:
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        connection.execute(statement)
    for _, sql in guards:
        connection.execute(sql)
    return connection


@pytest.mark.parametrize(
    "change",
    [
        "data = replace(data, '\"3\"', '\"4\"')",
        "actor = replace(actor, '1000', '0')",
        "recorded_at = recorded_at + 1",
        "wall_at = wall_at - 1",
        "type = 'OperationAllowed'",
        "stream = 't'",
        "version = 40",
        "event_id = 'another'",
        "epoch = 2",
        "schema_version = 2",
        "boot_id = ''",
        "correlation_id = ''",
        "causation_id = 'x'",
        "hash = zeroblob(32)",
        "prev_hash = zeroblob(32)",
    ],
)
async def test_the_first_changed_row_is_named(tmp_path: Path, change: str) -> None:
    connection = tamper(await filled(tmp_path), f"UPDATE events SET {change} WHERE seq = 7")
    result = verify_log(connection)
    connection.close()
    assert (result.first_bad, result.checked) == (7, 6)
    assert result.reason


@pytest.mark.parametrize(
    ("statements", "first_bad"),
    [
        (["DELETE FROM events WHERE seq = 5"], 6),
        (["DELETE FROM events WHERE seq = 1"], 2),
        (["DELETE FROM ticks WHERE seq = 20"], 20),
        (["DELETE FROM ticks WHERE seq > 15", "DELETE FROM events WHERE seq > 15"], 16),
        (["UPDATE meta SET head_hash = zeroblob(32)"], 20),
        (["UPDATE meta SET head_seq = 19, head_hash = (SELECT hash FROM log WHERE seq = 19)"], 20),
        (["UPDATE meta SET store_id = 'of another'"], 1),
    ],
)
async def test_missing_rows_and_a_wrong_head_are_named(tmp_path: Path, statements: list[str], first_bad: int) -> None:
    path = await filled(tmp_path)
    connection = tamper(path, *statements)
    result = verify_log(connection)
    connection.close()
    assert result.first_bad == first_bad
    with pytest.raises(Damaged, match="damaged at event"):
        async with opened(tmp_path):
            pass


async def test_verifying_may_start_in_the_middle(tmp_path: Path) -> None:
    connection = tamper(await filled(tmp_path), "UPDATE events SET data = '{}' WHERE seq = 7")
    assert verify_log(connection, 7).first_bad == 7
    result = verify_log(connection, 8)
    assert (result.ok, result.checked) == (True, 13)
    assert verify_log(connection, ROWS).checked == 1
    assert verify_log(connection, ROWS + 1).checked == 0
    connection.close()


@pytest.mark.parametrize(
    "change",
    [
        "DROP TRIGGER events_insert_guard",
        "CREATE TRIGGER extra AFTER INSERT ON events BEGIN SELECT 1; END",
        "CREATE INDEX extra ON events (type)",
        "ALTER TABLE meta ADD COLUMN extra",
        "DROP VIEW log",
    ],
)
async def test_a_store_with_other_tables_or_triggers_is_not_opened(tmp_path: Path, change: str) -> None:
    path = await filled(tmp_path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(change)
    connection.close()
    with pytest.raises(SchemaChanged):
        async with opened(tmp_path):
            pass


async def test_the_chain_can_be_checked_by_a_program_of_ten_lines(tmp_path: Path) -> None:
    path = await filled(tmp_path)
    connection = sqlite3.connect(path)
    digest = genesis_hash(connection.execute("SELECT store_id FROM meta").fetchone()[0])
    for *values, prev_hash, digest_found in connection.execute(f"SELECT {COLUMNS} FROM log ORDER BY seq"):
        canonical = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
        assert prev_hash == digest
        digest = sha256(prev_hash + canonical).digest()
        assert digest == digest_found
    connection.close()


VALUES = st.one_of(st.text(), st.none(), st.integers(0, 2**63 - 1), st.sampled_from(["\x7f", "\u2028", "😀", "\x00/<"]))


@given(st.tuples(*[VALUES] * 14))
def test_the_canonical_form_is_what_the_standard_library_writes(values: tuple[object, ...]) -> None:
    written = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
    assert row_hash(b"", values) == sha256(written).digest()


async def test_a_damaged_file_is_refused_with_words_of_ours_or_was_not_hurt(tmp_path: Path) -> None:
    content = whole_file(await filled(tmp_path))
    chance = random.Random(11)
    refused_openings = 0
    for round_number in range(120):
        damaged = bytearray(content)
        if round_number % 2:
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        else:
            start = chance.randrange(0, len(damaged), 512)
            damaged[start : start + 512] = chance.choice((bytes(512), chance.randbytes(512)))
        folder = tmp_path / f"damaged-{round_number}"
        put_file(folder, bytes(damaged))
        with suppress(BtmdError):
            refused_openings += 1
            async with opened(folder) as store:
                if (await store.verify()).ok:
                    assert (store.head.seq, len(await store.read())) == (ROWS, ROWS)
            refused_openings -= 1
    assert refused_openings > 20


def whole_file(path: Path) -> bytes:
    return path.read_bytes()


def put_file(folder: Path, content: bytes) -> None:
    folder.mkdir()
    (folder / "btmd.db").write_bytes(content)
