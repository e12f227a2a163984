from pathlib import Path

import pytest

from btmd.backup import sealed_file
from tests.backup.logs import Place, append


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 240 events."""
    path = tmp_path_factory.mktemp("log") / "btmd.db"
    append(path, 240, seed=1)
    return path


@pytest.fixture
def place(tmp_path: Path, template: Path) -> Place:
    return Place(tmp_path, template)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> int:
    """Several chunks in a small file."""
    monkeypatch.setattr(sealed_file, "CHUNK_BYTES", 512)
    return 512
