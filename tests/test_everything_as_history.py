"""All parts of a daemon at once, against plain dictionaries: settings, own presets and their files, restores of moments
and of backups, undos, confirmations, resets, prunes, condensing, a clock that is set back, lost databases, restarts.

``BTMD_PROOF=1`` runs the long form: ten thousand steps. `make proof-history` writes down what came of it.
"""

import random
import re
import subprocess
import sys
import tempfile
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test
from msgspec.structs import replace

import btmd.daemon
from benchmarks.results import Figure, ProofState, Topic, record
from btmd.backups.keeper import Wish
from btmd.child.caller import ignore_progress
from btmd.config import Config
from btmd.daemon import Daemon
from btmd.domain.commands import PRESETS
from btmd.domain.preset_definition import DeletePreset, SavePreset, UndoPreset, stream_name
from btmd.domain.restore import Manner, RestoreConflict
from btmd.errors import MomentAmbiguous
from btmd.mirroring import sync as file_sync
from btmd.presets.history import change_of_preset
from btmd.projections.backup import BackupRow
from btmd.restoring.target import target_in_backup
from btmd.store import condensing
from btmd.store.condensing import CondenseRule
from btmd.store.event_log import StreamAppend
from tests.store.given import ACTOR, tick
from tests.test_settings_as_history import PROOF, SECOND_US, Plain, SettingsAsHistory

DAY_S = 24 * 3600
KEYS = st.sampled_from(["one", "two"])
EPOCHS = st.integers(1, 3)
Presets = dict[str, int]
"""The own presets' keys, and what tells their definitions apart: the epochs."""


@dataclass(frozen=True)
class Moment:
    """What was true after event ``seq``; ``known`` counts the changes there were."""

    seq: int
    wall_us: int
    values: dict[str, Any]
    presets: Presets
    changed: tuple[dict[str, Any], ...] = ()
    ticks: int = 0
    plain: Plain | None = None
    """With what waited to be confirmed."""


class EverythingAsHistory(SettingsAsHistory):
    """The settings' machine, on a whole daemon."""

    steps: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        # Short: a socket lies in it.
        self.folder = tempfile.TemporaryDirectory(prefix="btmd-")
        self.presets: Presets = {}
        self.history_of_moments: list[Moment] = [Moment(0, 0, {}, {})]
        self.backups: dict[str, Moment] = {}
        self.ticks: list[int] = []
        self.patched = pytest.MonkeyPatch()
        self.patched.setattr(btmd.daemon, "clock_us", lambda: self.clocks.wall_us)
        self.patched.setattr(file_sync, "STILL_S", 0.0)
        self.patched.setattr(condensing, "MIN_ROWS", 5)
        self.patched.setattr(condensing, "SLICE_ROWS", 20)

    # --- the daemon ----------------------------------------------------------------------------

    async def _open(self) -> None:
        folder = Path(self.folder.name)
        self.config = Config(folder / "state", folder / "config", folder / "sock", log_level="error")
        self.config.presets_dir.mkdir(parents=True, exist_ok=True)
        self.daemon = Daemon(self.config)
        await self.daemon.open()
        await self.daemon.recover()
        parts = self.daemon.assembly.parts
        self.store, self.handler, self.history = parts.store, parts.handler, parts.history
        self.restoring, self.confirmations = parts.restoring, self.daemon.assembly.confirmations
        self.watcher = self
        await self.sync()

    async def sync(self) -> None:
        """What the daemon's own tasks do when a file or the log has changed."""
        await self.daemon.assembly.settings_watcher.sync()
        await self.daemon.assembly.presets_watcher.sync()

    def teardown(self) -> None:
        if hasattr(self, "daemon"):
            assert self.runner.run(self.store.verify()).ok
            self.runner.run(self.daemon.close())
        self.runner.close()
        self.patched.undo()
        self.folder.cleanup()

    # --- what every step ends with -------------------------------------------------------------

    def note(self) -> None:
        head = self.runner.run(self.history.position(self.store.head.seq))
        self.moments.append((head.seq, head.wall_at_us, self.plain.values()))
        self.history_of_moments.append(
            Moment(head.seq, head.wall_at_us, self.plain.values(), dict(self.presets), tuple(self.changed))
        )

    @invariant()
    def all_ways_to_look_agree(self) -> None:
        super().all_ways_to_look_agree()
        if not hasattr(self, "daemon"):
            return
        # Looked at after each step, and before the first.
        EverythingAsHistory.steps += 1
        own = self.runner.run(self.daemon.assembly.parts.presets.own_rows())
        assert {row.key: row.preset.num_epochs for row in own} == self.presets
        files = {path.stem: path.read_text() for path in self.config.presets_dir.glob("*.toml")}
        assert {key: int(_epochs_in(text)) for key, text in files.items()} == self.presets

    @property
    def settings_path(self) -> Path:
        return self.config.settings_path

    # --- own presets ---------------------------------------------------------------------------

    @rule(key=KEYS, epochs=EPOCHS)
    def save_preset(self, key: str, epochs: int) -> None:
        self.runner.run(self.handler.handle(SavePreset(self._preset(key, epochs)), actor=ACTOR))
        self.presets[key] = epochs
        self.settle({})

    @precondition(lambda self: self.presets)
    @rule(data=st.data())
    def delete_preset(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.presets)))
        self.runner.run(self.handler.handle(DeletePreset(key), actor=ACTOR))
        del self.presets[key]
        self.settle({})

    @precondition(lambda self: self.presets)
    @rule(data=st.data(), epochs=EPOCHS)
    def edit_preset_file(self, data: st.DataObject, epochs: int) -> None:
        key = data.draw(st.sampled_from(sorted(self.presets)))
        path = self.config.presets_dir / f"{key}.toml"
        path.write_text(re.sub(r"num_epochs = \d+", f"num_epochs = {epochs}", path.read_text()))
        self.presets[key] = epochs
        self.settle({})

    @precondition(lambda self: self.presets)
    @rule(data=st.data())
    def take_preset_file_away(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.presets)))
        (self.config.presets_dir / f"{key}.toml").unlink()
        del self.presets[key]
        self.settle({})

    @precondition(lambda self: self.presets)
    @rule(data=st.data(), text=st.sampled_from(["", "num_epochs = \n", "[hyperparameters]\nnum_epochs = 0\n"]))
    def break_preset_file(self, data: st.DataObject, text: str) -> None:
        path = self.config.presets_dir / f"{data.draw(st.sampled_from(sorted(self.presets)))}.toml"
        good = path.read_text()
        path.write_text(text)
        self.runner.run(self.sync())
        path.write_text(good)
        self.settle({})

    @rule(key=KEYS)
    def undo_preset(self, key: str) -> None:
        state, _ = self.runner.run(self.handler.state(stream_name(key)))
        if state is None or not state.version:
            return
        change = self.runner.run(change_of_preset(self.store, key, None))
        command = UndoPreset(key, change.number, change.before, change.after)
        self.runner.run(self.handler.handle(command, actor=ACTOR))
        if change.before is None:
            self.presets.pop(key, None)
        else:
            self.presets[key] = change.before.num_epochs
        self.settle({})

    def _preset(self, key: str, epochs: int) -> Any:
        made_from = self.daemon.assembly.parts.presets.built_in["quick_test"]
        return replace(made_from, key=key, name=key, num_epochs=epochs)

    # --- restores ------------------------------------------------------------------------------

    @rule(
        data=st.data(),
        mode=st.sampled_from(["replace", "merge"]),
        prefer=st.sampled_from([None, "current", "restored"]),
        only=st.sampled_from([None, ("settings",), ("presets",)]),
    )
    def restore(self, data: st.DataObject, mode: Any, prefer: Any, only: Any) -> None:
        moment = data.draw(st.sampled_from(self.history_of_moments))
        self._restore(moment.seq, moment, mode, prefer if mode == "merge" else None, only)

    @precondition(lambda self: self.backups)
    @rule(
        data=st.data(),
        mode=st.sampled_from(["replace", "merge"]),
        prefer=st.sampled_from([None, "current", "restored"]),
    )
    def restore_backup(self, data: st.DataObject, mode: Any, prefer: Any) -> None:
        name = data.draw(st.sampled_from(sorted(self.backups)))
        parts = self.daemon.assembly.parts
        row = self._row(name)
        target = self.runner.run(target_in_backup(row, parts.backups, self.store, self.history))
        self._restore(target, self.backups[name], mode, prefer if mode == "merge" else None, None)

    def _restore(self, target: Any, then: Moment, mode: Any, prefer: Any, only: Any) -> None:
        manner = Manner(mode=mode, prefer=prefer, **({"components": only} if only else {}))
        now = self.plain.values()
        wanted = _merged(now, then.values, mode, prefer) if only in (None, ("settings",)) else {}
        presets = _merged(self.presets, then.presets, mode, prefer) if only in (None, ("presets",)) else {}
        conflicts = [
            *(_both(now, then.values) if only in (None, ("settings",)) else ()),
            *(_both(self.presets, then.presets) if only in (None, ("presets",)) else ()),
        ]
        work = self.restoring.restore(target, manner, actor=ACTOR, expected_head=self.store.head.seq)
        try:
            self.runner.run(work)
        except RestoreConflict:
            assert (mode, prefer, bool(conflicts)) == ("merge", None, True)
            return
        assert not (mode == "merge" and prefer is None and conflicts)
        self._put_presets(presets)
        self.settle(self.plain.put(wanted))

    def _put_presets(self, wanted: dict[str, int | None]) -> None:
        for key, epochs in wanted.items():
            if epochs is None:
                self.presets.pop(key, None)
            else:
                self.presets[key] = epochs

    # --- backups -------------------------------------------------------------------------------

    @rule(kind=st.sampled_from(["full", "config"]))
    def back_up(self, kind: Any) -> None:
        made = self.runner.run(self.daemon.assembly.parts.backups.create(Wish(kind), actor=ACTOR))
        assert made is not None
        self.backups[made.facts.name] = Moment(
            made.facts.head_seq,
            self.clocks.wall_us,
            self.plain.values(),
            dict(self.presets),
            tuple(self.changed),
            len(self.ticks),
            deepcopy(self.plain),
        )
        self.settle({})

    @precondition(lambda self: len(self.backups) > 2)
    @rule(data=st.data())
    def delete_backup(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.backups)))
        self.runner.run(self.daemon.assembly.parts.backups.delete(self._row(name), actor=ACTOR))
        del self.backups[name]
        self.settle({})

    @precondition(lambda self: len(self.backups) > 2)
    @rule()
    def prune(self) -> None:
        answer = self.runner.run(self.daemon.assembly.parts.backups.prune(actor=ACTOR))
        for name in answer.names:
            self.backups.pop(name, None)
        assert self.backups
        self.settle({})

    @precondition(lambda self: any(self._is_full(name) for name in self.backups))
    @rule()
    def prove_a_backup(self) -> None:
        row = self._row(min(name for name in self.backups if self._is_full(name)))
        assert not self.runner.run(self.daemon.assembly.parts.backups.drill(row, actor=ACTOR)).code

    def _row(self, name: str) -> BackupRow:
        return self.runner.run(self.daemon.assembly.parts.backups.known.find(name[:16]))

    @precondition(lambda self: any(self._is_full(name) for name in self.backups))
    @rule()
    def lose_the_database(self) -> None:
        """Everything after the newest full backup is gone, and the log goes on from there in a new epoch."""
        full = [name for name in self.backups if self._is_full(name)]
        newest = max(full, key=lambda name: (self._row(name).facts.created_at_us, self.backups[name].seq))
        then = self.backups[newest]
        self.runner.run(self.daemon.close())
        for path in self.config.state_dir.glob("btmd.db*"):
            path.unlink()
        command = [sys.executable, "-m", "btmctl", "recover", "--yes", "--backup", newest[:16]]
        command += ["--from", str(self.config.backups_dir), "--state-dir", str(self.config.state_dir)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[1])
        assert done.returncode == 0, done.stderr
        self.history_of_moments = [one for one in self.history_of_moments if one.seq <= then.seq]
        self.moments = [one for one in self.moments if one[0] <= then.seq]
        self.changed = [dict(one) for one in then.changed]
        assert then.plain is not None
        self.plain, self.presets, self.ticks = deepcopy(then.plain), dict(then.presets), self.ticks[: then.ticks]
        self.runner.run(self._open())
        self.pass_time(0)
        self.settle({})

    def _is_full(self, name: str) -> bool:
        return self._row(name).kind == "full"

    # --- resets, old ticks, clocks -------------------------------------------------------------

    @rule()
    def reset_and_undo(self) -> None:
        factory_reset = self.daemon.assembly.parts.factory_reset
        before = self.plain.values()
        self.runner.run(factory_reset.reset(True, actor=ACTOR, on_progress=ignore_progress))
        self.settle(self.plain.put(dict.fromkeys(before)))
        self.all_ways_to_look_agree()
        self.runner.run(factory_reset.undo(actor=ACTOR))
        self.settle(self.plain.put(before))

    @rule()
    def reset(self) -> None:
        self.runner.run(self.daemon.assembly.parts.factory_reset.reset(True, actor=ACTOR, on_progress=ignore_progress))
        self.settle(self.plain.put(dict.fromkeys(self.plain.values())))

    @rule(count=st.integers(1, 30))
    def train(self, count: int) -> None:
        """Progress of a job, on a stream of its own."""
        numbers = range(len(self.ticks) + 1, len(self.ticks) + count + 1)
        events = tuple(map(tick, numbers))
        self.ticks += numbers
        self.runner.run(self.store.commit([StreamAppend("ticks-aaaaaaaaaa", events)], actor=ACTOR))

    @rule()
    def condense(self) -> None:
        while self.runner.run(self.store.condense(CondenseRule(self.clocks.wall_us, 0))) is not None:
            pass
        rows = self.runner.run(self.store.read_stream("ticks-aaaaaaaaaa"))
        assert [row.version for row in rows] == list(range(1, len(rows) + 1))
        assert [row.data["number"] for row in rows] == self.ticks

    @rule(days=st.sampled_from([-3650, -1, 1, 3650]))
    def set_the_clock(self, days: int) -> None:
        if days < 0 and any(one[0] for one in self.plain.waiting):
            # What waits to be confirmed has its own clock, tested elsewhere.
            return
        self.clocks.wall_us += days * DAY_S * SECOND_US
        self.pass_time(60)
        self.settle({})

    @rule(data=st.data())
    def look_back(self, data: st.DataObject) -> None:
        moment = data.draw(st.sampled_from(self.history_of_moments))
        assert self.runner.run(self.history.settings_at(moment.seq)).values == moment.values
        for key in ("one", "two"):
            state = self.runner.run(self.history.state_at(stream_name(key), PRESETS, moment.seq))
            then = None if state is None or state.preset is None else state.preset.num_epochs
            assert then == moment.presets.get(key)
        if moment.seq and moment.wall_us <= self.clocks.wall_us:
            self._look_at_time(moment)

    def _look_at_time(self, moment: Moment) -> None:
        same = [one for one in self.history_of_moments if one.wall_us == moment.wall_us]
        try:
            found = self.runner.run(self.history.at(moment.wall_us))
        except MomentAmbiguous as error:
            # The clock showed this time more than once: each of the moments is listed.
            numbers = {int(one) for one in re.findall(r"event (\d+)", error.detail)}
            assert len(numbers) > 1
            return
        assert self.runner.run(self.history.settings_at(found.seq)).values == same[-1].values

    @rule()
    def restart(self) -> None:
        self.runner.run(self.daemon.close())
        self.clocks.advance(60 * SECOND_US)
        self.runner.run(self._open())
        self.pass_time(0)


def _epochs_in(text: str) -> str:
    found = re.search(r"num_epochs = (\d+)", text)
    assert found is not None
    return found[1]


def _both(now: dict[str, Any], then: dict[str, Any]) -> set[str]:
    return {key for key in now.keys() & then.keys() if now[key] != then[key]}


def _merged(now: dict[str, Any], then: dict[str, Any], mode: str, prefer: str | None) -> dict[str, Any]:
    """What a restore sets: None for what goes."""
    if mode == "replace":
        return {key: then.get(key) for key in now.keys() | then.keys()}
    both = _both(now, then)
    return {key: value for key, value in then.items() if key not in now or (key in both and prefer == "restored")}


CHUNK_RUNS, CHUNK_STEPS, CHUNKS = (10, 60, 17) if PROOF else (4, 15, 1)
"""About 10,200 steps in the long form; a chunk that is done is not done again for the same code."""


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_all_ways_lead_to_what_plain_dictionaries_say(chunk: int) -> None:
    done = [ProofState(f"history-{number}") for number in range(CHUNKS)] if PROOF else []
    if done and done[chunk].count:
        _record_when_whole()
        return
    random.seed()
    EverythingAsHistory.steps = 0
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        EverythingAsHistory,
        settings=settings(
            max_examples=CHUNK_RUNS,
            stateful_step_count=CHUNK_STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate] if PROOF else [Phase.generate, Phase.shrink],
        ),
    )
    if done:
        done[chunk].add(EverythingAsHistory.steps)
        _record_when_whole()


def _record_when_whole() -> None:
    steps = [ProofState(f"history-{number}").count for number in range(CHUNKS)]
    if not all(steps):
        return
    record(
        Topic(
            "Settings, presets, backups and resets against plain dictionaries",
            "make proof-history",
            [
                Figure("steps", [sum(steps)], "", ">= 10000", 0),
                Figure("differences", [0], "", "<= 0", 0),
            ],
            notes=["A whole daemon, fresh seeds; a difference ends its part of the run, so a recorded run has none."],
        )
    )
