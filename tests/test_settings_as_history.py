"""Random changes in every way there is, undone, restored, confirmed and across restarts, against plain dictionaries.

``BTMD_PROOF=1`` runs the long form: ten thousand steps.
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

from btmd.command_handler import CommandHandler
from btmd.domain.commands import DECIDERS
from btmd.domain.restore import Manner, RestoreConflict
from btmd.domain.settings import ChangeSettings, ConfirmChange, UndoChange
from btmd.errors import Conflict, LogMovedOn
from btmd.history import History
from btmd.mirroring import sync as file_sync
from btmd.presets.catalogue import PresetCatalogue
from btmd.presets.reading import load_builtin_presets
from btmd.projections.views import ALL_PROJECTIONS
from btmd.registry.content import ContentStore
from btmd.registry.contents_in_use import ContentsInUse
from btmd.restoring.restore import Restoring
from btmd.settings.confirmations import Confirmations
from btmd.settings.file import read_values, written
from btmd.settings.watcher import SettingsWatcher
from btmd.store.event_log import Store
from tests.store.given import ACTOR, Clocks

PROOF = os.environ.get("BTMD_PROOF") == "1"
SECOND_US = 1_000_000
KEYS = ("training.seed", "checkpoints.keep", "chat.idle_s", "log.level")
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "training.seed": st.integers(0, 3),
    "checkpoints.keep": st.integers(1, 3),
    "chat.idle_s": st.sampled_from([1.0, 2.5, 60.0]),
    "log.level": st.sampled_from(["debug", "info", "error"]),
}
CHANGES = st.fixed_dictionaries({}, optional={key: st.none() | values for key, values in VALUES.items()}).filter(bool)


class Plain:
    """What the settings must be: for each one a value for good and, above it, those that wait to be confirmed."""

    def __init__(self) -> None:
        self.good: dict[str, Any] = {}
        self.waiting: list[tuple[int, str, dict[str, Any]]] = []

    def values(self) -> dict[str, Any]:
        found = dict(self.good)
        for _, _, layer in self.waiting:
            found.update(layer)
        return {key: value for key, value in found.items() if value is not None}

    def put(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Set for good what differs; what was changed, by what it was before."""
        now = self.values()
        changed = {key: value for key, value in wanted.items() if now.get(key) != value}
        for key, value in changed.items():
            self.good[key] = value
            for _, _, layer in self.waiting:
                layer.pop(key, None)
        self.waiting = [one for one in self.waiting if one[2]]
        return {key: now.get(key) for key in changed}

    def put_for_now(self, wanted: dict[str, Any], change_id: str, deadline_us: int) -> dict[str, Any]:
        now = self.values()
        changed = {key: value for key, value in wanted.items() if now.get(key) != value}
        if changed:
            self.waiting.append((deadline_us, change_id, dict(changed)))
        return {key: now.get(key) for key in changed}

    def confirm_newest(self) -> None:
        """Its values are for good, and nothing below them counts any more."""
        _, _, layer = self.waiting.pop()
        for key, value in layer.items():
            self.good[key] = value
            for _, _, below in self.waiting:
                below.pop(key, None)
        self.waiting = [one for one in self.waiting if one[2]]

    def time_is(self, now_us: int) -> None:
        self.waiting = [one for one in self.waiting if one[0] > now_us]


class SettingsAsHistory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.clocks = Clocks()
        self.plain = Plain()
        self.moments: list[tuple[int, int, dict[str, Any]]] = [(0, 0, {})]
        self.changed: list[dict[str, Any]] = []

    @initialize()
    def open(self) -> None:
        self.runner.run(self._open())

    async def _open(self) -> None:
        folder = Path(self.folder.name)
        clocks = self.clocks
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
        contents = ContentStore(folder / "content")
        self.restoring = Restoring(
            self.store, self.handler, self.history, contents, ContentsInUse(self.store, contents), clocks.new_id
        )
        self.confirmations = Confirmations(self.store, self.handler, lambda: clocks.wall_us, clocks.new_id, ACTOR)
        self.watcher = SettingsWatcher(
            store=self.store,
            handler=self.handler,
            history=self.history,
            path=self.settings_path,
            memory_path=folder / "settings-file.json",
            new_id=clocks.new_id,
            troubles={},
            require_preset=PresetCatalogue(self.store, load_builtin_presets()).require_choice,
        )
        await self.watcher.sync()

    @property
    def settings_path(self) -> Path:
        return Path(self.folder.name) / "settings.toml"

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()
        self.folder.cleanup()

    def settle(self, before: dict[str, Any]) -> None:
        """What every step ends with: the file follows, the moment is noted, a minute passes and what is due goes back.

        ``before`` is what was changed, by what it was.
        """
        if before:
            self.changed.append(before)
        self.runner.run(self.watcher.sync())
        self.note()
        self.pass_time(60)

    def note(self) -> None:
        self.moments.append((self.store.head.seq, self.clocks.wall_us, self.plain.values()))

    def pass_time(self, seconds: int) -> None:
        self.clocks.advance(seconds * SECOND_US)
        now = self.plain.values()
        self.plain.time_is(self.clocks.wall_us)
        then = self.plain.values()
        self.runner.run(self.confirmations.take_back())
        self.runner.run(self.watcher.sync())
        gone = {key: now.get(key) for key in now.keys() | then.keys() if now.get(key) != then.get(key)}
        if gone:
            # Taken back one by one where several were due: only one alone can be undone as one.
            self.changed.append(gone)
            self.note()

    @rule(changes=CHANGES)
    def set(self, changes: dict[str, Any]) -> None:
        command = ChangeSettings(changes)
        self.runner.run(self.handler.handle(command, actor=ACTOR, correlation_id=self.clocks.new_id()))
        self.settle(self.plain.put(changes))

    @rule(changes=CHANGES, minutes=st.integers(1, 5))
    def set_with_confirmation(self, changes: dict[str, Any], minutes: int) -> None:
        change_id, deadline_us = self.clocks.new_id(), self.clocks.wall_us + minutes * 60 * SECOND_US
        command = ChangeSettings(changes, "", deadline_us, change_id)
        self.runner.run(self.handler.handle(command, actor=ACTOR, correlation_id=change_id))
        self.settle(self.plain.put_for_now(changes, change_id, deadline_us))

    @rule()
    def confirm(self) -> None:
        try:
            self.runner.run(self.handler.handle(ConfirmChange(None), actor=ACTOR))
        except Conflict:
            assert not self.plain.waiting
            return
        self.plain.confirm_newest()
        self.settle({})

    @rule(changes=CHANGES)
    def edit_the_file(self, changes: dict[str, Any]) -> None:
        path = self.settings_path
        values = {key: value for key, value in (self.plain.values() | changes).items() if value is not None}
        path.write_text(written(path.read_text(), values))
        self.runner.run(self.watcher.sync())
        self.settle(self.plain.put(changes))

    @rule(text=st.sampled_from(["", "[training\n", "[training]\nseed = -1\n", "[nothing]\nof = 1\n", "\n \n"]))
    def break_the_file(self, text: str) -> None:
        path = self.settings_path
        good = path.read_text()
        path.write_text(text)
        self.runner.run(self.watcher.sync())
        path.write_text(good)
        self.settle({})

    @precondition(lambda self: self.changed)
    @rule()
    def undo(self) -> None:
        undone = self.runner.run(self.history.change(None))
        assert undone.before == self.changed[-1]
        command = UndoChange(undone.number, undone.before, undone.after)
        self.runner.run(self.handler.handle(command, actor=ACTOR, correlation_id=self.clocks.new_id()))
        self.settle(self.plain.put(undone.before))

    @rule(
        data=st.data(),
        mode=st.sampled_from(["replace", "merge"]),
        prefer=st.sampled_from([None, "current", "restored"]),
    )
    def restore(self, data: st.DataObject, mode: Any, prefer: Any) -> None:
        seq, _, then = data.draw(st.sampled_from(self.moments))
        now = self.plain.values()
        wanted: dict[str, Any] = {key: then.get(key) for key in now.keys() | then.keys()}
        both = {key for key in now.keys() & then.keys() if now[key] != then[key]}
        if mode == "merge":
            wanted = {
                key: value for key, value in then.items() if key not in now or (key in both and prefer == "restored")
            }
        manner = Manner(mode=mode, prefer=prefer if mode == "merge" else None)
        work = self.restoring.restore(seq, manner, actor=ACTOR, expected_head=self.store.head.seq)
        try:
            self.runner.run(work)
        except RestoreConflict:
            assert (mode, prefer, bool(both)) == ("merge", None, True)
            return
        assert not (mode == "merge" and prefer is None and both)
        self.settle(self.plain.put(wanted))

    @precondition(lambda self: self.changed)
    @rule()
    def restore_past_a_preview(self) -> None:
        newest = self.runner.run(self.history.change(None)).number
        with pytest.raises(LogMovedOn):
            self.runner.run(self.restoring.restore(0, Manner(), actor=ACTOR, expected_head=newest - 1))

    @rule()
    def restart(self) -> None:
        self.runner.run(self.store.close())
        self.clocks.advance(60 * SECOND_US)
        self.runner.run(self._open())
        self.pass_time(0)

    @invariant()
    def all_ways_to_look_agree(self) -> None:
        if not hasattr(self, "store"):
            return
        values = self.plain.values()
        state, _ = self.runner.run(self.handler.state("settings"))
        assert (state.values if state else {}) == values
        assert read_values(self.settings_path.read_bytes()) == values

    @rule(data=st.data())
    def look_back(self, data: st.DataObject) -> None:
        seq, wall_us, then = data.draw(st.sampled_from(self.moments))
        assert self.runner.run(self.history.settings_at(seq)).values == then
        if seq:
            # Of several moments at one time the clock shows the last.
            last = [one for _, at_us, one in self.moments if at_us == wall_us][-1]
            at = self.runner.run(self.history.at(wall_us))
            assert self.runner.run(self.history.settings_at(at.seq)).values == last


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_sync, "STILL_S", 0.0)


SettingsAsHistory.TestCase.settings = settings(
    max_examples=200 if PROOF else 15,
    stateful_step_count=60 if PROOF else 25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestSettingsAsHistory = SettingsAsHistory.TestCase
