from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.daemon import Client, ThreadedDaemon, config_of, end_trainers
from tests.fixtures.peers import peers
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder with a path short enough for a socket in it."""
    with short_folder() as path:
        yield path


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Path:
    return make_tiny_llama(folder / "tiny")


@pytest.fixture(scope="module")
def daemon(folder: Path) -> Iterator[ThreadedDaemon]:
    with ThreadedDaemon(config_of(folder)) as running:
        yield running
        end_trainers(running.config.jobs_dir)


@pytest.fixture
def client(daemon: ThreadedDaemon) -> Client:
    return daemon.client


__all__ = ["client", "daemon", "folder", "peers", "tiny"]
