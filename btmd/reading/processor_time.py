"""An end to the processor time that one document may take."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from btmd.errors import DatasetUnsafe

DOCUMENT_S: Final = 120.0


@contextmanager
def limited_processor_time(limit_s: float = DOCUMENT_S) -> Iterator[None]:
    """Raises DatasetUnsafe when what is done inside takes more processor time; only in a process's first thread."""
    before = signal.signal(signal.SIGVTALRM, _too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _too_long(_signal: int, _frame: FrameType | None) -> None:
    raise DatasetUnsafe(
        f"Reading the document takes longer than {DOCUMENT_S:.0f} seconds of processor time.",
        hint="If it is a real one, save its text as .txt.",
    )
