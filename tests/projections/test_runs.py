"""Rows that a view takes together show what they show one by one; of several views, one that fails stops alone."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from btmd.domain import job_events, settings
from btmd.domain.event import Event
from btmd.projections.job_view import JOBS_VIEW
from btmd.projections.settings import SETTINGS_VIEW
from btmd.projections.spool import SPOOL_VIEW
from btmd.projections.view import View
from btmd.store.event_log import StreamAppend
from btmd.store.recorded import Recorded
from tests.projections.test_engine import Counted
from tests.store.given import ACTOR, append, file_names, opened, refused, tick


def made_up(chance: random.Random, count: int) -> list[tuple[str, Event]]:
    """Two jobs at once and changes of settings, so that runs are of every length."""
    found: list[tuple[str, Event]] = [
        (
            f"job-{job_id}",
            job_events.JobSubmitted(job_id, job_id, 1000, "m", "d", "v", "p", {"total_steps": 9}, {}, {}),
        )
        for job_id in ("a", "b")
    ]
    for number in range(1, count):
        job_id = chance.choice("aab")
        losses = tuple(chance.uniform(1, 3) for _ in range(chance.randint(1, 3)))
        match chance.randint(0, 9):
            case 0:
                loss = job_events.HeldOutLossMeasured(job_id, 1, number, number, losses[0], 40, "during", 2.0)
                found.append((f"job-{job_id}", loss))
            case 1:
                found.append((f"job-{job_id}", job_events.AttemptStarted(job_id, number, "boot", "crash")))
            case 2 | 3:
                key = chance.choice(("training.seed", "training.threads"))
                found.append(("settings", settings.SettingChanged(key, None, number)))
            case 4:
                found.append(("machine", refused()))
            case _:
                steps = tuple(range(number, number + len(losses)))
                ticked = job_events.TrainingProgressed(
                    job_id, 1, number, steps[-1], 9, 0, losses[-1], 1e-3, 50.0, float(number), 1000, steps, losses
                )
                found.append((f"ticks-{job_id}", ticked))
    return found


def shown(view: View, rows: list[Recorded], sizes: list[int]) -> dict[str, list[tuple[object, ...]]]:
    """The view's tables after the rows, given in portions of these sizes; 0 is one row by itself."""
    with closing(sqlite3.connect(":memory:")) as connection:
        view.create(connection)
        rest = list(rows)
        while rest:
            size = sizes[len(rest) % len(sizes)]
            if size == 0:
                view.apply(connection, rest.pop(0))
            else:
                view.apply_all(connection, rest[:size])
                del rest[:size]
        return {
            table: sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr) for table in view.tables
        }


@pytest.mark.parametrize("view", [JOBS_VIEW, SPOOL_VIEW, SETTINGS_VIEW], ids=lambda view: view.name)
async def test_rows_taken_together_show_what_rows_one_by_one_show(view: View, tmp_path: Path) -> None:
    for seed in range(6):
        folder = tmp_path / str(seed)
        folder.mkdir()
        async with opened(folder) as store:
            appends = [StreamAppend(stream, (one,)) for stream, one in made_up(random.Random(seed), 150)]
            rows = await store.append(appends, actor=ACTOR)
        one_by_one = shown(view, rows, [0])
        assert any(one_by_one.values())
        for sizes in ([1], [7], [1000], [0, 3, 20, 1]):
            assert shown(view, rows, sizes) == one_by_one


async def test_of_views_rebuilt_in_one_pass_only_the_one_with_a_bug_is_given_up(tmp_path: Path) -> None:
    good, bad = Counted(), Counted("failing", fails_at="7")
    async with opened(tmp_path, projections=(bad, good)) as store:
        for number in range(20):
            await append(store, "s", refused(str(number)))
            await append(store, "ticks-a", tick(number))
        found = await store.rebuild_projections()
        assert found == {"failing": "RuntimeError: a bug", "counted": None}
        with closing(sqlite3.connect(store.path)) as connection:
            assert dict(connection.execute("SELECT stream, rows FROM view_counted")) == {"s": 20, "ticks-a": 20}
        assert not [name for name in file_names(tmp_path) if name.startswith("rebuild-")]
