"""A change that nobody confirms goes back: while the daemon runs, and when it ran out while it was away."""

import time
from pathlib import Path

from tests.fixtures.daemon import PATIENCE_S, Client, ThreadedDaemon, config_of
from tests.fixtures.short_folder import short_folder


def set_for(client: Client, value: int, confirm_s: float) -> int:
    changed = client.patch("/settings", {"changes": {"training.seed": value}, "confirm_s": confirm_s}).ok()
    assert changed["confirm_by"] is not None
    return int(changed["number"])


def seed(client: Client) -> int:
    return int(client.get("/settings/training.seed").ok()["value"])


def wait_for(client: Client, value: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while seed(client) != value:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_changes_are_kept_or_go_back() -> None:
    with short_folder() as folder, ThreadedDaemon(config_of(folder)) as daemon:
        client = daemon.client
        kept = set_for(client, 7, 3600)
        waiting = client.get("/history").ok()
        assert (waiting[0]["number"], waiting[0]["confirm_by"] is not None) == (kept, True)
        client.post("/settings/confirm", {"number": kept}).ok()
        client.post("/settings/confirm").refused(409, "conflict")
        assert client.get("/history").ok()[0]["confirm_by"] is None
        number = set_for(client, 8, 0.05)
        wait_for(client, 7)
        assert client.get("/history").ok()[0]["why"] == "not confirmed in time"
        client.post("/settings/confirm", {"number": number}).refused(409, "conflict")
        client.patch("/settings", {"changes": {"training.seed": 9}, "confirm_s": 0}).refused(422, "invalid_value")
        # What was taken back can be brought back.
        client.post("/settings/undo").ok()
        assert seed(client) == 8


def test_a_time_that_ran_out_while_the_daemon_was_away_counts(tmp_path: Path) -> None:
    with short_folder() as folder:
        with ThreadedDaemon(config_of(folder)) as daemon:
            set_for(daemon.client, 8, 0.5)
            daemon.client.patch("/settings", {"changes": {"checkpoints.keep": 9}, "confirm_s": 3600}).ok()
        time.sleep(0.6)
        with ThreadedDaemon(config_of(folder)) as daemon:
            assert seed(daemon.client) == 42
            assert daemon.client.get("/settings/checkpoints.keep").ok()["value"] == 9
            daemon.client.post("/settings/confirm").ok()
