"""Own presets changed in every way there is, undone, restored and across restarts, against a plain dictionary.

``BTMD_PROOF=1`` runs the long form.
"""

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from btmd.command_handler import CommandHandler
from btmd.domain.commands import DECIDERS, PRESETS
from btmd.domain.preset import Preset
from btmd.domain.preset_definition import DeletePreset, SavePreset, UndoPreset, stream_name
from btmd.domain.restore import Manner, RestoreConflict
from btmd.history import History
from btmd.mirroring import sync as file_sync
from btmd.presets.catalogue import PresetCatalogue
from btmd.presets.history import change_of_preset
from btmd.presets.reading import load_builtin_presets, parse_preset
from btmd.presets.text import rendered, written
from btmd.presets.watcher import PresetsWatcher
from btmd.projections.views import ALL_PROJECTIONS
from btmd.registry.content import ContentStore
from btmd.registry.contents_in_use import ContentsInUse
from btmd.restoring.restore import Restoring
from btmd.store.event_log import Store
from tests.store.given import ACTOR, Clocks

PROOF = os.environ.get("BTMD_PROOF") == "1"
BUILT_IN = load_builtin_presets()
KEYS = ("one", "two")
PRESETS_OF = {key: replace(BUILT_IN["quick_test"], key=key, name=key.title()) for key in KEYS}
VALUES = st.fixed_dictionaries(
    {}, optional={"num_epochs": st.integers(1, 3), "recommended_for": st.sampled_from([("a",), ("b", "c")])}
)
ANY_KEY = st.sampled_from(KEYS)
WRONG = ("", "key = \n", "nothing of use", 'key = "two"\n[hyperparameters]\n')
Plain = dict[str, Preset]


class PresetsAsHistory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.clocks = Clocks()
        self.plain: Plain = {}
        self.moments: list[tuple[int, Plain]] = [(0, {})]
        self.changed: dict[str, list[Preset | None]] = {key: [] for key in KEYS}

    @initialize()
    def open(self) -> None:
        self.runner.run(self._open())

    async def _open(self) -> None:
        folder, clocks = Path(self.folder.name), self.clocks
        self.store = await Store.open(
            folder / "btmd.db",
            clock=lambda: clocks.wall_us,
            monotonic_clock=lambda: clocks.monotonic_us,
            boot_id="boot",
            new_id=clocks.new_id,
            projections=ALL_PROJECTIONS,
        )
        self.handler = CommandHandler(self.store, DECIDERS)
        self.history = History(self.store, lambda: clocks.wall_us)
        self.catalogue = PresetCatalogue(self.store, BUILT_IN)
        contents = ContentStore(folder / "content")
        self.restoring = Restoring(
            self.store, self.handler, self.history, contents, ContentsInUse(self.store, contents), clocks.new_id
        )
        self.troubles: dict[str, str] = {}
        self.watcher = PresetsWatcher(
            store=self.store,
            handler=self.handler,
            catalogue=self.catalogue,
            folder=folder / "presets",
            memory_path=folder / "preset-files.json",
            new_id=clocks.new_id,
            troubles=self.troubles,
        )
        assert await self.watcher.sync()

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()
        self.folder.cleanup()

    def path(self, key: str) -> Path:
        return Path(self.folder.name) / "presets" / f"{key}.toml"

    def ask(self, command: Any) -> None:
        self.runner.run(self.handler.handle(command, actor=ACTOR, correlation_id=self.clocks.new_id()))

    def settle(self, after: Plain) -> None:
        """What every step ends with: the files follow, the moment is noted, a minute passes."""
        assert self.runner.run(self.watcher.sync())
        for key in KEYS:
            if after.get(key) != self.plain.get(key):
                self.changed[key].append(self.plain.get(key))
        self.plain = after
        self.moments.append((self.store.head.seq, dict(after)))
        self.clocks.advance(60_000_000)

    @rule(key=ANY_KEY, values=VALUES)
    def save(self, key: str, values: dict[str, Any]) -> None:
        preset = replace(self.plain.get(key, PRESETS_OF[key]), **values)
        self.ask(SavePreset(preset))
        self.settle({**self.plain, key: preset})

    @precondition(lambda self: self.plain)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.plain)))
        self.ask(DeletePreset(key))
        self.settle({name: one for name, one in self.plain.items() if name != key})

    @rule(key=ANY_KEY, values=VALUES)
    def edit_the_file(self, key: str, values: dict[str, Any]) -> None:
        preset = replace(self.plain.get(key, PRESETS_OF[key]), **values)
        text = self.path(key).read_text() if key in self.plain else "# by hand\n" + rendered(preset)
        self.path(key).write_text(written(text, preset, f"{key}.toml"))
        self.settle({**self.plain, key: preset})

    @precondition(lambda self: self.plain)
    @rule(data=st.data(), values=VALUES)
    def edit_the_file_while_another_value_is_changed(self, data: st.DataObject, values: dict[str, Any]) -> None:
        key = data.draw(st.sampled_from(sorted(self.plain)))
        before = self.plain[key]
        self.path(key).write_text(written(self.path(key).read_text(), replace(before, **values), f"{key}.toml"))
        other = data.draw(st.integers(1, 64))
        self.ask(SavePreset(replace(before, lora_r=other)))
        if before.lora_r != other and replace(before, **values) != before:
            # Two changes of which only the newer one is taken back by an undo.
            self.plain = {**self.plain, key: replace(before, lora_r=other)}
            self.changed[key].append(before)
        self.settle({**self.plain, key: replace(before, lora_r=other, **values)})

    @precondition(lambda self: self.plain)
    @rule(data=st.data())
    def take_the_file_away(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.plain)))
        self.path(key).unlink()
        self.settle({name: one for name, one in self.plain.items() if name != key})

    @precondition(lambda self: self.plain)
    @rule(data=st.data(), wrong=st.sampled_from(WRONG))
    def break_a_file_and_mend_it(self, data: st.DataObject, wrong: str) -> None:
        key = data.draw(st.sampled_from(sorted(self.plain)))
        good = self.path(key).read_text()
        self.path(key).write_text(wrong)
        self.runner.run(self.watcher.sync())
        assert list(self.troubles) == [f"preset file {key}.toml"]
        assert self.path(key).read_text() == wrong
        self.path(key).write_text(good)
        self.settle(self.plain)
        assert self.troubles == {}

    @rule(key=ANY_KEY)
    def undo(self, key: str) -> None:
        if not self.changed[key]:
            return
        before = self.changed[key][-1]
        undone = self.runner.run(change_of_preset(self.store, key, None))
        assert undone.before == before
        self.ask(UndoPreset(key, undone.number, undone.before, undone.after))
        after = {name: one for name, one in self.plain.items() if name != key}
        self.settle(after if before is None else {**after, key: before})

    @rule(
        data=st.data(),
        mode=st.sampled_from(["replace", "merge"]),
        prefer=st.sampled_from([None, "current", "restored"]),
    )
    def restore(self, data: st.DataObject, mode: Any, prefer: Any) -> None:
        seq, then = data.draw(st.sampled_from(self.moments))
        now = self.plain
        differ = {key for key in now.keys() & then.keys() if now[key] != then[key]}
        wanted = then
        if mode == "merge":
            wanted = {**then, **now} if prefer != "restored" else {**now, **then}
        manner = Manner(mode=mode, prefer=prefer if mode == "merge" else None)
        try:
            self.runner.run(self.restoring.restore(seq, manner, actor=ACTOR, expected_head=self.store.head.seq))
        except RestoreConflict:
            assert (mode, prefer, bool(differ)) == ("merge", None, True)
            return
        assert not (mode == "merge" and prefer is None and differ)
        self.settle(wanted)

    @rule(away=st.booleans())
    def restart(self, away: bool) -> None:
        self.runner.run(self.store.close())
        if away:
            # The whole folder: nobody has deleted single presets.
            for path in self.path("one").parent.iterdir():
                path.unlink()
            self.path("one").parent.rmdir()
        self.runner.run(self._open())

    @invariant()
    def all_ways_to_look_agree(self) -> None:
        if not hasattr(self, "store"):
            return
        assert {row.key: row.preset for row in self.runner.run(self.catalogue.own_rows())} == self.plain
        there = {path.stem: parse_preset(path.read_text(), path.name) for path in self.path("one").parent.iterdir()}
        assert there == self.plain

    @rule(data=st.data())
    def look_back(self, data: st.DataObject) -> None:
        seq, then = data.draw(st.sampled_from(self.moments))
        for key in KEYS:
            state = self.runner.run(self.history.state_at(stream_name(key), PRESETS, seq))
            assert (state.preset if state else None) == then.get(key)


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_sync, "STILL_S", 0.0)


PresetsAsHistory.TestCase.settings = settings(
    max_examples=170 if PROOF else 6,
    stateful_step_count=60 if PROOF else 25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestPresetsAsHistory = PresetsAsHistory.TestCase
