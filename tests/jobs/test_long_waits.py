"""Who waits for long for a GPU that is gone or for room on the disk is told of, once, until it waits no longer."""

from pathlib import Path

from btmd.command_handler import CommandHandler
from btmd.domain.commands import DECIDERS
from btmd.domain.warning import WarningRaised
from btmd.jobs.long_waits import LONG_S, TOLD, LongWaits
from btmd.jobs.turns import Wait
from btmd.monitoring.warned import WarnedJob, remedy, warning_text
from btmd.projections.views import ALL_PROJECTIONS
from btmd.store.event_log import Store
from tests.fixtures import job_histories as history
from tests.store.given import ACTOR, append, opened

DISK, GPU, MEMORY = (Wait(kind, "") for kind in ("disk", "gpu_missing", "memory"))


async def _told(store: Store) -> list[tuple[str, str]]:
    return [(one.type, one.data["kind"]) for one in await store.read_stream("watch-aa")]


async def test_a_long_wait_is_told_once_and_withdrawn_when_it_is_over(tmp_path: Path) -> None:
    async with opened(tmp_path, projections=ALL_PROJECTIONS) as store:
        await history.write(store, "aa", history.submitted("aa"))
        await append(store, "watch-aa", WarningRaised("aa", 1, "not_a_number", "critical", {}))
        waits = LongWaits(CommandHandler(store, DECIDERS), ACTOR)
        for now_s in (0.0, LONG_S - 1):
            await waits.look({"aa": DISK, "bb": MEMORY}, now_s)
        # Another reason, another wait.
        for now_s in (LONG_S, 2 * LONG_S - 1):
            await waits.look({"aa": GPU, "bb": MEMORY}, now_s)
        assert len(await _told(store)) == 1
        for now_s in (2 * LONG_S, 5 * LONG_S):
            await waits.look({"aa": GPU, "bb": MEMORY}, now_s)
        assert (await _told(store))[1:] == [("WarningRaised", "waits_for_gpu")]
        for now_s in (5 * LONG_S + 1, 9 * LONG_S):
            await waits.look({"bb": MEMORY}, now_s)
        assert (await _told(store))[2:] == [("WarningWithdrawn", "waits_for_gpu")]
        assert await store.read_stream("watch-bb") == []


def test_each_has_words_and_a_command() -> None:
    for kind in TOLD.values():
        assert "30m 0s" in warning_text(kind, {"waited_s": LONG_S})
        assert "`btmctl " in remedy(kind, WarnedJob("j", "m", "d"))
