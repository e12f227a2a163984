"""Files of presets while their folder comes and goes."""

from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from msgspec.structs import replace

from btmd.command_handler import CommandHandler
from btmd.domain.commands import DECIDERS
from btmd.domain.preset_definition import SavePreset
from btmd.files.folder_watch import FolderWatch
from btmd.files.watched_file import Content
from btmd.mirroring import follower
from btmd.mirroring.sync import FileSync
from btmd.presets.catalogue import PresetCatalogue
from btmd.presets.reading import load_builtin_presets
from btmd.presets.watcher import PresetsWatcher
from btmd.projections.views import ALL_PROJECTIONS
from tests.store.given import ACTOR, Clocks, opened

BUILT_IN = load_builtin_presets()


async def test_a_folder_replaced_after_it_was_looked_through_deletes_no_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, clocks, troubles = tmp_path / "presets", Clocks(), dict[str, str]()
    async with opened(tmp_path, clocks, projections=ALL_PROJECTIONS) as store:
        handler, catalogue = CommandHandler(store, DECIDERS), PresetCatalogue(store, BUILT_IN)
        watcher = PresetsWatcher(
            store=store,
            handler=handler,
            catalogue=catalogue,
            folder=folder,
            memory_path=tmp_path / "preset-files.json",
            new_id=clocks.new_id,
            troubles=troubles,
        )
        preset = replace(BUILT_IN["quick_test"], key="one", name="One")
        await handler.handle(SavePreset(preset), actor=ACTOR, correlation_id="made")
        watched, moved = anyio.Event(), False
        look_through, still = watcher._present, FileSync._still

        def watch(path: Path, only: str | None = None) -> FolderWatch:
            watched.set()
            return FolderWatch(path, only)

        def replaced() -> set[str]:
            nonlocal moved
            found = look_through()
            if not moved:
                moved = True
                folder.rename(tmp_path / "moved")
                folder.mkdir()
            return found

        async def seen_to_be_away(self: FileSync, content: Content | None) -> Content | None:
            while not watcher._follower._went_away:
                await anyio.lowlevel.checkpoint()
            return await still(self, content)

        monkeypatch.setattr(follower, "FolderWatch", watch)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watcher.run)
            await watched.wait()
            monkeypatch.setattr(watcher, "_present", replaced)
            monkeypatch.setattr(FileSync, "_still", seen_to_be_away)
            await watcher.reread()
            await watcher.reread()
            tasks.cancel_scope.cancel()
        assert moved
        assert [row.key for row in await catalogue.own_rows()] == ["one"]
        assert (folder / "one.toml").exists()
        assert troubles == {}
