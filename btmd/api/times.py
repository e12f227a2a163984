"""Moments as the API writes them: RFC 3339, UTC."""

from datetime import UTC, datetime

from msgspec import Meta

SINCE = Meta(ge=0, le=2**62, description="microseconds since the beginning of 1970, UTC")


def rfc3339(moment_us: int) -> str:
    """``2026-11-22T14:00:00.000000Z`` from microseconds since the epoch."""
    seconds, micros = divmod(moment_us, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{micros:06d}Z"


def optional_rfc3339(moment_us: int | None) -> str | None:
    return None if moment_us is None else rfc3339(moment_us)
