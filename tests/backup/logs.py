"""Real databases for the tests: settings, a model, a dataset, jobs with ticks."""

import asyncio
import itertools
import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from btmd.backup.create import BackupRequest, Created
from btmd.backup.key_ring import KeyRing
from btmd.backup.keys import Keys
from btmd.backup.repository import Repository
from btmd.domain.commands import DATASETS, JOBS, MACHINE, MODELS, SETTINGS
from btmd.domain.dataset import ConsentGranted, DatasetAdded
from btmd.domain.event import Actor, Event
from btmd.domain.job_events import HeldOutLossMeasured, TrainingProgressed
from btmd.domain.machine import OperationRefused
from btmd.domain.settings import SettingChanged
from btmd.store.connection import connect_reader
from btmd.store.event_log import Store, StreamAppend
from btmd.store.reader import pages
from btmd.store.recorded import Recorded

DECIDERS = (SETTINGS, MODELS, DATASETS, JOBS, MACHINE)
ACTOR = Actor(1000, 1000, 7, (1000,), "someone")
NOW_US = 1_800_000_000_000_000


def some_events(count: int, seed: int) -> list[tuple[str, Event]]:
    """Streams and events as a store sees them, most of them ticks; the same for the same seed."""
    drawn = random.Random(seed)
    found: list[tuple[str, Event]] = []
    for number in range(count):
        job_id = f"job{seed:05d}{number // 60:02d}"
        match number % 12:
            case 0:
                change = SettingChanged("log.level", None, drawn.choice(("debug", "info", "warning")), "test")
                found.append(("settings", change))
            case 1:
                found.append(
                    (f"dataset-d{seed}-{number}", DatasetAdded(f"d{seed}-{number}", "Daten äöü", 1000, "a.csv"))
                )
            case 2:
                consent = ConsentGranted(f"d{seed}-{number - 1}", "study", ("train", "backup"), 1000)
                found.append((f"dataset-d{seed}-{number - 1}", consent))
            case 3:
                loss = HeldOutLossMeasured(job_id, 1, number, number, drawn.random(), 4000, "during", drawn.random())
                found.append((f"job-{job_id}", loss))
            case 4:
                found.append(("machine", OperationRefused("chat", "not_permitted")))
            case _:
                tick = TrainingProgressed(
                    job_id,
                    1,
                    number,
                    number,
                    900,
                    1,
                    drawn.random(),
                    1e-4,
                    350.5,
                    number * 0.7,
                    10**9,
                    (number,),
                    (0.5,),
                )
                found.append((f"ticks-{job_id}", tick))
    return found


async def _append(path: Path, events: Sequence[tuple[str, Event]], seed: int) -> None:
    ids, clock = random.Random(seed), itertools.count(NOW_US + seed * 10**9, 700)
    store = await Store.open(
        path,
        clock=lambda: next(clock),
        boot_id=f"{seed:032x}",
        new_id=lambda: f"{ids.getrandbits(128):032x}",
        monotonic_clock=lambda: 0,
    )
    for at in range(0, len(events), 10):
        appends = [StreamAppend(stream, (event,)) for stream, event in events[at : at + 10]]
        correlation = f"{ids.getrandbits(128):032x}" if at % 20 else None
        await store.append(appends, actor=ACTOR, correlation_id=correlation)
    await store.close()


def append(path: Path, count: int, *, seed: int) -> None:
    """Append ``count`` events to the database at ``path``, which is made if it is missing."""
    asyncio.run(_append(path, some_events(count, seed), seed))


def all_rows(path: Path) -> list[Recorded]:
    connection = connect_reader(path)
    try:
        return [row for page in pages(connection) for row in page]
    finally:
        connection.close()


def raw_rows(path: Path) -> list[tuple[object, ...]]:
    """Every column of every row, hashes included."""
    return [row.row() for row in all_rows(path)]


def store_id_of(path: Path) -> str:
    with changed_by_hand(path) as connection:
        found: str = connection.execute("SELECT store_id FROM meta").fetchone()[0]
        return found


@contextmanager
def changed_by_hand(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


class Place:
    """A state folder with a log and keys, and a backup folder."""

    def __init__(self, root: Path, template: Path | None = None) -> None:
        self.state = root / "state"
        self.state.mkdir(parents=True)
        self.database = self.state / "btmd.db"
        if template is not None:
            self.database.write_bytes(template.read_bytes())
        self.target = root / "backups"
        self.repository = Repository(self.target, DECIDERS)
        self.keys = Keys(self.state / "keys", copies=(self.target,))
        self._store_id = ""
        self._moments = itertools.count(NOW_US, 3_600_000_000)

    @property
    def ring(self) -> KeyRing:
        self._store_id = self._store_id or store_id_of(self.database)
        return self.keys.open(self._store_id, NOW_US)

    def backup(self, request: BackupRequest | None = None) -> Created:
        return self.repository.create(
            self.database, self.keys, self.ring, request or BackupRequest(), next(self._moments)
        )

    def files(self) -> dict[str, bytes]:
        """Every file of the backup folder that matters, by its path in it."""
        return {
            str(path.relative_to(self.target)): path.read_bytes()
            for path in sorted(self.target.rglob("*"))
            if path.is_file() and path.parent.name != "tmp" and path.name != "lock"
        }

    def parts(self) -> list[Path]:
        return sorted(path for path in (self.target / "objects").rglob("*") if path.is_file())

    def manifest(self, name: str) -> Path:
        return self.target / "manifests" / name

    def object(self, name: str) -> Path:
        return self.target / "objects" / name[:2] / name
