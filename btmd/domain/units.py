"""Quantities as people read them."""

KIB, MIB, GIB = 1024, 1024**2, 1024**3


def format_bytes(size_bytes: float) -> str:
    """``1.4 GB``, ``350 MB``: powers of 1024, as memory is sold."""
    if size_bytes >= 10 * GIB:
        return f"{size_bytes / GIB:.0f} GB"
    if size_bytes >= GIB:
        return f"{size_bytes / GIB:.1f} GB"
    if size_bytes >= MIB:
        return f"{size_bytes / MIB:.0f} MB"
    return f"{max(0.0, size_bytes) / KIB:.0f} kB"


def format_count(number: int, singular: str, plural: str | None = None) -> str:
    """``1 row``, ``1,200 rows``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def format_duration(seconds: float) -> str:
    """``1h 5m``, ``3m 20s``, ``12s``: the two largest parts, as the REST contract writes them."""
    whole = max(0, int(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, rest_s = divmod(rest, 60)
    if hours:
        return f"{hours}h {minutes}m"
    if minutes:
        return f"{minutes}m {rest_s}s"
    return f"{rest_s}s"
