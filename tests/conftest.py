"""What holds for all tests."""

import os
import tempfile

from hypothesis import HealthCheck, settings

# A test never depends on the machine's speed.
settings.register_profile("btmd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("btmd")

# Trainings of tests that run side by side do not wait for one another's devices.
_DEVICE_LOCKS = tempfile.TemporaryDirectory(prefix="btmd-locks-")
os.environ["BTMD_DEVICE_LOCKS"] = _DEVICE_LOCKS.name
