"""The disk refuses: full, or a sync that fails."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from btmd.errors import StateFolderReadOnly, StoreFull
from tests.faults.store_shim import build_shim, shim_environment
from tests.faults.store_worker import append, open_store

ROOT = Path(__file__).parents[2]


def run_behind_shim(folder: Path, what: str) -> None:
    state, switch = folder / "state", folder / "switch"
    state.mkdir()
    environment = shim_environment(
        build_shim(folder),
        prefix=state,
        fail_while=switch if what == "failed-sync" else None,
        full_while=switch if what in ("full", "condense-full") else None,
    )
    command = [sys.executable, "-m", "tests.faults.store_worker", what, str(state), "--switch", str(switch)]
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


def test_full_disk_refuses_clearly_and_appends_go_on_when_there_is_room(tmp_path: Path) -> None:
    run_behind_shim(tmp_path, "full")


def test_failed_sync_stops_the_store_until_it_is_opened_again_and_verified(tmp_path: Path) -> None:
    run_behind_shim(tmp_path, "failed-sync")


def test_condensing_on_a_full_disk_is_refused_clearly_and_loses_nothing(tmp_path: Path) -> None:
    run_behind_shim(tmp_path, "condense-full")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root; the disk behind the shim is full too")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_disk_that_fills_up_loses_nothing(small_disk: Path) -> None:
    store = await open_store(small_disk)
    (small_disk / "ballast").write_bytes(bytes(600_000))
    told = 0

    async def fill() -> None:
        nonlocal told
        while True:
            await append(store, "operation-fill", f"fill-{told}")
            told += 1

    with pytest.raises(StoreFull) as refused:
        await fill()
    assert "full" in refused.value.detail
    assert refused.value.hint
    assert store.health()["writer"] == "running"
    assert told > 0
    with pytest.raises(StoreFull):
        await append(store, "operation-fill", "still-full")
    (small_disk / "ballast").unlink()
    await append(store, "operation-fill", "room-again")
    assert [row.event_id for row in await store.read_stream("operation-fill")] == [
        *(f"fill-{number}" for number in range(told)),
        "room-again",
    ]
    assert (await store.verify()).ok
    await store.close()


def make_read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("there_before", [True, False])
async def test_a_state_folder_that_cannot_be_written_is_refused_at_once(small_disk: Path, there_before: bool) -> None:
    if there_before:
        store = await open_store(small_disk)
        await append(store, "operation", "first")
        await store.close()
    make_read_only(small_disk)
    before = contents(small_disk)
    with pytest.raises(StateFolderReadOnly):
        await open_store(small_disk)
    assert contents(small_disk) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere; the read-only mount stands for it")
async def test_a_state_folder_of_somebody_else_is_refused_at_once(tmp_path: Path) -> None:
    os.chmod(tmp_path, stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(StateFolderReadOnly):
        await open_store(tmp_path)
