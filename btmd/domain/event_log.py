"""Facts about the log itself."""

from btmd.domain.event import Event, event

STREAM = "log"


@event("TicksCondensed")
class TicksCondensed(Event, frozen=True):
    """All ticks from ``first_seq`` to ``last_seq`` were copied, compressed, into the segment with this hash (hex).

    ``streams`` are those in it, each with its first and its last version there; ``types`` are the events' types.
    """

    first_seq: int
    last_seq: int
    row_count: int
    segment_hash: str
    streams: tuple[tuple[str, int, int], ...] = ()
    types: tuple[str, ...] = ()
