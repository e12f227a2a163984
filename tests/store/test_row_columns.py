"""Rows to columns and back: bit for bit, whatever stands in them."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btmd.errors import Damaged
from btmd.store.recorded import Recorded, row_hash
from btmd.store.row_columns import pack_rows, unpack_rows

TEXTS = st.text(max_size=12)
HEX_IDS = st.integers(0, 2**64 - 1).map(lambda number: f"{number:016x}")
IDS = st.one_of(HEX_IDS, TEXTS, st.just("A" * 16))


@st.composite
def logs(draw: st.DrawFn) -> list[Recorded]:
    """Rows that follow one another, with gaps, new epochs and strange texts."""
    count = draw(st.integers(1, 30))
    seq, epoch, recorded, digest = draw(st.integers(1, 10**6)), 1, draw(st.integers(0, 2**52)), bytes(32)
    hex_only = draw(st.booleans())
    rows = []
    for _ in range(count):
        if draw(st.integers(0, 9)) == 0:
            seq, digest = seq + draw(st.integers(1, 1000)), draw(st.binary(min_size=32, max_size=32))
        epoch += draw(st.integers(0, 9)) == 0
        recorded += draw(st.integers(1, 2**40))
        values = (
            seq,
            epoch,
            draw(st.sampled_from(["settings", "job-a", "ticks-a"]) | TEXTS),
            draw(st.integers(1, 2**40)),
            draw(HEX_IDS if hex_only else IDS),
            draw(st.sampled_from(["A", "B"]) | TEXTS),
            draw(st.integers(1, 3)),
            recorded,
            draw(st.integers(-(2**62), 2**62)),
            draw(IDS),
            draw(TEXTS),
            draw(st.none() | IDS),
            draw(st.none() | IDS),
            draw(TEXTS),
        )
        before, digest = digest, row_hash(digest, values)
        rows.append(Recorded(*(*values, before, digest)))
        seq += 1
    return rows


def values(rows: Sequence[Recorded]) -> list[tuple[object, ...]]:
    return [row.row() for row in rows]


@settings(max_examples=60)
@given(logs())
def test_rows_come_back_bit_for_bit(rows: list[Recorded]) -> None:
    assert values(unpack_rows(pack_rows(rows))) == values(rows)


@settings(max_examples=40)
@given(logs(), st.integers(0, 29))
def test_a_row_that_was_changed_is_not_backed_up(rows: list[Recorded], which: int) -> None:
    row = rows[which % len(rows)]
    row.data_json += " "
    with pytest.raises(Damaged, match=f"at event {row.seq}:"):
        pack_rows(rows)


def test_bytes_that_are_no_columns_are_damage() -> None:
    with pytest.raises(Damaged):
        unpack_rows(b"\x93\x01\x02\x03")
