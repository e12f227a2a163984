"""What holds for all tests."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A test never depends on the machine's speed.
settings.register_profile("btmd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("btmd")

# Trainings of tests that run side by side do not wait for one another's devices.
_DEVICE_LOCKS = tempfile.TemporaryDirectory(prefix="btmd-locks-")
os.environ["BTMD_DEVICE_LOCKS"] = _DEVICE_LOCKS.name


LONG = ("e2e", "queue", "faults", "supervisor", "daemon", "trainer", "docs", "api", "btmctl", "client", "exporting")
"""Folders whose tests start daemons or train, the longest first: begun last, one of them would be waited for alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _turn(item.path))


def _turn(path: Path) -> int:
    folder = path.relative_to(Path(__file__).parent).parts[0]
    return LONG.index(folder) if folder in LONG else len(LONG)
