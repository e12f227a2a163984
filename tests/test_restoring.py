"""Restores while others change the same things: each is whole, none is in between."""

import asyncio
from pathlib import Path
from typing import cast

import pytest

from btmd.backup.requests import PastEvent, StatesAnswer
from btmd.backups.keeper import Backups
from btmd.command_handler import CommandHandler
from btmd.domain.commands import DECIDERS
from btmd.domain.dataset import ConsentGranted, ConsentRevoked, DatasetAdded, DatasetRemoved
from btmd.domain.restore import Manner
from btmd.domain.settings import ChangeSettings
from btmd.errors import InvalidValue
from btmd.history import History
from btmd.projections.backup import BackupRow
from btmd.projections.views import ALL_PROJECTIONS
from btmd.registry.content import ContentStore
from btmd.registry.contents_in_use import ContentsInUse
from btmd.restoring.restore import Restoring
from btmd.restoring.target import Archive, BackupTarget
from btmd.store.codec import encode_event
from btmd.store.event_log import StreamAppend
from tests.store.given import ACTOR, Clocks, opened


async def test_a_restore_among_other_changes_is_whole(tmp_path: Path) -> None:
    clocks = Clocks()
    async with opened(tmp_path, clocks, projections=ALL_PROJECTIONS) as store:
        handler = CommandHandler(store, DECIDERS)
        history = History(store, lambda: clocks.wall_us)
        contents = ContentStore(tmp_path / "content")
        restoring = Restoring(store, handler, history, contents, ContentsInUse(store, contents), clocks.new_id)

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


def archive_of(past: StatesAnswer) -> Archive:
    """A backup that nobody reads files from."""
    row = BackupRow(folder="/nowhere", name="0123456789abcdef" * 4, created_us=1, kind="full", description="", cause="")
    return Archive(row, cast(Backups, None), past)


async def test_what_was_revoked_since_a_backup_of_a_log_that_is_gone_stays_revoked(tmp_path: Path) -> None:
    clocks = Clocks()
    given = (DatasetAdded("faq", "FAQ", 1000, "faq.jsonl"), ConsentGranted("faq", "study", ("train",), 1000))
    past = StatesAnswer(
        head_seq=700,
        head_hash="00" * 32,
        epoch=1,
        components=("datasets",),
        streams={
            "dataset-faq": tuple(
                PastEvent(f"{number:032x}", one.TYPE, 1, encode_event(one)[0]) for number, one in enumerate(given)
            )
        },
    )
    async with opened(tmp_path, clocks, projections=ALL_PROJECTIONS) as store:
        handler = CommandHandler(store, DECIDERS)
        history = History(store, lambda: clocks.wall_us)
        contents = ContentStore(tmp_path / "content")
        restoring = Restoring(store, handler, history, contents, ContentsInUse(store, contents), clocks.new_id)
        since = (*given, ConsentRevoked("faq", 1000), DatasetRemoved("faq", contents_kept=True))
        await store.append([StreamAppend("dataset-faq", since)], actor=ACTOR)
        target = BackupTarget(archive_of(past))
        done = await restoring.restore(target, Manner(), actor=ACTOR)
        assert [one.after for one in done.prepared.plan.changes] == ["registered"]
        assert "consent: faq stays revoked; name consent to bring it back" in done.prepared.plan.left_alone
        assert not any(isinstance(row.event, ConsentGranted) for row in done.rows)
        named = await restoring.restore(target, Manner(("datasets", "consent")), actor=ACTOR)
        assert [row.event for row in named.rows[1:-1]] == [given[1]]
        with pytest.raises(InvalidValue, match="holds consent, datasets"):
            await restoring.restore(target, Manner(("settings",)), actor=ACTOR)
