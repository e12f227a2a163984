"""What holds for all tests."""

from hypothesis import HealthCheck, settings

# A test never depends on the machine's speed.
settings.register_profile("btmd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("btmd")
