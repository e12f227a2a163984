"""Restores while others change the same things: each is whole, none is in between."""

import asyncio
from pathlib import Path

from btmd.command_handler import CommandHandler
from btmd.content import ContentStore
from btmd.domain.commands import DECIDERS
from btmd.domain.restore import Manner
from btmd.domain.settings import ChangeSettings
from btmd.history import History
from btmd.projections.views import ALL_PROJECTIONS
from btmd.restoring import Restoring
from tests.store.given import ACTOR, Clocks, opened


async def test_a_restore_among_other_changes_is_whole(tmp_path: Path) -> None:
    clocks = Clocks()
    async with opened(tmp_path, clocks, projections=ALL_PROJECTIONS) as store:
        handler = CommandHandler(store, DECIDERS)
        history = History(store, lambda: clocks.wall_us)
        restoring = Restoring(store, handler, history, ContentStore(tmp_path / "content"), clocks.new_id)

        async def change(number: int) -> None:
            changes = {"training.seed": number, "checkpoints.keep": number}
            await handler.handle(ChangeSettings(changes), actor=ACTOR, correlation_id=clocks.new_id())

        async def restore(seq: int) -> None:
            done = await restoring.restore(seq, Manner(), actor=ACTOR)
            if done.rows:
                assert [row.seq for row in done.rows] == list(range(done.rows[0].seq, done.rows[-1].seq + 1))
                then = await history.settings_at(seq)
                assert (await history.settings_at(done.rows[-1].seq)).values == then.values

        for number in range(1, 6):
            await change(number)
        await asyncio.gather(*(change(number) for number in range(6, 30)), *(restore(seq) for seq in (2, 4, 6, 8)))
        # Every state between two commands has both settings from the same change.
        for one in await history.changes(limit=1000):
            values = (await history.settings_at(one.number)).values
            assert values["training.seed"] == values["checkpoints.keep"]
