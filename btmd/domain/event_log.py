"""Facts about the log itself."""

from btmd.domain.event import Event, event


@event("TicksCondensed")
class TicksCondensed(Event):
    """All ticks from ``first_seq`` to ``last_seq`` were copied, compressed, into the segment with this hash (hex)."""

    first_seq: int
    last_seq: int
    row_count: int
    segment_hash: str
