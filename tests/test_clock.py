"""A clock that is set back and forward, by seconds or by years, while the daemon runs or not."""

import asyncio
import itertools
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btmd.domain.machine import ClockJumped
from btmd.errors import InvalidValue, MomentAmbiguous
from btmd.history import History
from btmd.store.event_log import Store
from tests.store.given import Clocks, append, opened, refused

PROOF = bool(os.environ.get("BTMD_PROOF"))
HOUR_US = 3600 * 1_000_000
DAY_US = 24 * HOUR_US
TEN_YEARS_US = 3652 * DAY_US
JUMPS = [sign * size for sign in (1, -1) for size in (10_000_000, HOUR_US, DAY_US, TEN_YEARS_US)]


@dataclass
class Stretch:
    """A time in which nobody set the clock: what it showed with each event, and last."""

    shown: list[tuple[int, int]] = field(default_factory=list)
    """Wall time and number of each event."""
    until_us: int = 0


@dataclass
class Wall:
    """The clock as somebody saw it who looked at it all the time."""

    stretches: list[Stretch] = field(default_factory=lambda: [Stretch()])

    def meant(self, moment_us: int, now_us: int) -> list[int]:
        """The newest event at each time that the clock showed the moment; else the last before it was skipped."""
        found, skipped = [], []
        for stretch in self.stretches:
            before = [seq for shown_us, seq in stretch.shown if shown_us <= moment_us]
            last = stretch is self.stretches[-1]
            if before and moment_us <= (now_us if last else stretch.until_us):
                found.append(before[-1])
            elif before:
                skipped = [] if last else [before[-1]]
        return found or skipped


async def happen(store: Store, clocks: Clocks, wall: Wall) -> None:
    """An event, and the jump before it that the store noticed."""
    head = store.head.seq
    await append(store, "machine", refused())
    for row in await store.read(head):
        wall.stretches[-1].shown.append((row.wall_at_us, row.seq))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.integers(0, 2 * DAY_US)),
        st.tuples(st.just("jump"), st.sampled_from(JUMPS)),
        st.tuples(st.just("jump while away"), st.sampled_from([size for size in JUMPS if size < 0])),
    ),
    min_size=2,
    max_size=12,
)


async def check_moments(store: Store, clocks: Clocks, wall: Wall) -> None:
    """Each event's own moment, those around it, and the ends of every stretch."""
    history = History(store, lambda: clocks.wall_us)
    moments = {shown + off for one in wall.stretches for shown, _ in one.shown for off in (-1, 0, 1, HOUR_US)}
    moments |= {one.until_us + off for one in wall.stretches[:-1] for off in (0, 1, DAY_US)} | {clocks.wall_us}
    for moment_us in sorted(moments):
        meant = wall.meant(moment_us, clocks.wall_us)
        if len(meant) == 1:
            assert (await history.at(moment_us)).seq == meant[0], moment_us
            continue
        with pytest.raises(MomentAmbiguous if meant else InvalidValue) as refusal:
            await history.at(moment_us)
        assert all(f"event {seq}," in refusal.value.detail for seq in meant[:10]), moment_us


@settings(max_examples=400 if PROOF else 12)
@given(steps=STEPS)
def test_whatever_is_done_to_the_clock_the_log_grows_and_moments_are_found(steps: list[tuple[str, int]]) -> None:
    async def run(folder: Path) -> None:
        clocks, wall = Clocks(wall_us=2_500_000_000_000_000), Wall()
        parts = [list(part) for _, part in itertools.groupby(steps, key=lambda step: step[0] == "jump while away")]
        for part in parts:
            if part[0][0] == "jump while away":
                # The store knows of the time in between only what its last event said.
                wall.stretches[-1].until_us = max([shown for shown, _ in wall.stretches[-1].shown], default=0)
                for _, by_us in part:
                    clocks.wall_us += by_us
                if wall.stretches[-1].shown:
                    wall.stretches.append(Stretch())
            async with opened(folder, clocks) as store:
                await happen(store, clocks, wall)
                for what, by_us in part if part[0][0] != "jump while away" else []:
                    if what == "pass":
                        clocks.advance(by_us)
                    else:
                        wall.stretches[-1].until_us = clocks.wall_us
                        clocks.wall_us += by_us
                        wall.stretches.append(Stretch())
                    await happen(store, clocks, wall)
                await check_moments(store, clocks, wall)
                rows = await store.read()
                assert all(one.recorded_at_us < other.recorded_at_us for one, other in itertools.pairwise(rows))
                assert sum(row.type == ClockJumped.TYPE for row in rows) == len(wall.stretches) - 1
                assert (await store.verify()).ok

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(run(Path(name)))


@pytest.mark.parametrize("by_us", [DAY_US, TEN_YEARS_US], ids=["a day", "ten years"])
async def test_what_happened_under_a_clock_that_was_ahead_is_found_by_the_time_it_showed(
    tmp_path: Path, by_us: int
) -> None:
    clocks = Clocks()
    async with opened(tmp_path, clocks) as store:
        history = History(store, lambda: clocks.wall_us)
        await append(store, "machine", refused())
        clocks.wall_us += by_us
        ahead = (await append(store, "machine", refused()))[-1].seq
        shown_us = clocks.wall_us
        clocks.advance(HOUR_US)
        clocks.wall_us -= by_us
        # Set back a moment ago: nothing was recorded since.
        assert (await history.at(shown_us)).seq == ahead
        await append(store, "machine", refused())
        assert (await history.at(shown_us + 1)).seq == ahead
        with pytest.raises(InvalidValue, match="yet to come"):
            await history.at(shown_us + 2 * by_us)
