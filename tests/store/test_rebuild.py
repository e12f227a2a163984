"""A database from its rows alone: the guards let a whole log in, and nothing else."""

from pathlib import Path

import pytest

from btmd.errors import Damaged
from btmd.store.rebuild import rebuild_database
from btmd.store.recorded import Recorded, genesis_hash, row_hash

STORE = "store0001"


def log(epochs: list[int]) -> list[Recorded]:
    rows, digest = [], genesis_hash(STORE)
    for seq, epoch in enumerate(epochs, 1):
        stream = "ticks-a" if seq % 2 else "machine"
        version = (seq + 1) // 2 if seq % 2 else seq // 2
        actor = '{"uid":0,"gid":0,"pid":1}'
        values = (seq, epoch, stream, version, f"id{seq}", "Unknown", 1, 10 + seq, 10, "boot", actor, None, None, "{}")
        before, digest = digest, row_hash(digest, values)
        rows.append(Recorded(*(*values, before, digest)))
    return rows


def rebuilt(path: Path, pages: list[list[Recorded]]) -> tuple[int, int]:
    head = rebuild_database(path, pages, store_id=STORE, created_at_us=1, new_epoch=5, now_us=2)
    return head.seq, head.epoch


def test_rows_of_several_epochs_go_in_and_a_new_one_begins(tmp_path: Path) -> None:
    rows = log([1, 1, 1, 2, 2, 4])
    assert rebuilt(tmp_path / "new", [rows[:2], rows[2:5], rows[5:]]) == (6, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    rows = log([1, 8])
    assert rebuilt(tmp_path / "later", [rows]) == (2, 9)


@pytest.mark.parametrize("what", ["left out", "twice", "changed", "another store", "back in epochs", "no predecessor"])
def test_rows_that_are_no_log_leave_nothing(tmp_path: Path, what: str) -> None:
    rows = log([1, 1, 1, 1])
    match what:
        case "left out":
            rows.pop(1)
        case "twice":
            rows.insert(1, rows[1])
        case "changed":
            rows[3].data_json = '{"a":1}'
        case "another store":
            rows[0].prev_hash = genesis_hash("store0002")
        case "back in epochs":
            rows = log([1, 2, 1])
        case _:
            rows = rows[2:]
    with pytest.raises(Damaged):
        rebuilt(tmp_path / "new", [rows])
    assert list(tmp_path.iterdir()) == []


def test_what_an_earlier_rebuild_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"half a database")
    (tmp_path / "new-wal").write_bytes(b"its log")
    assert rebuilt(tmp_path / "new", [log([1])]) == (1, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
