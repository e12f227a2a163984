"""Being asked to stop: SIGTERM says that, the control file says how."""

import signal
from types import FrameType
from typing import Literal, Protocol, cast

from btmd.job_folder import JobFolder

Control = Literal["pause", "stop", "cancel", "leave"]


class StopRequested(BaseException):
    """Leave what is under way: ``pause`` (with a checkpoint), ``cancel`` or ``leave``.

    Not an Exception, so that no library swallows it.
    """

    def __init__(self, control: Control) -> None:
        super().__init__(control)
        self.control = control


class Stop(Protocol):
    """What the loop asks between two pieces of work."""

    def read(self) -> Control | None:
        """What was asked for, None for nothing yet."""

    def leave_if_asked(self) -> None:
        """Raise StopRequested on all but ``stop``, which lets the piece of work under way finish."""


class SignalStop:
    """SIGTERM as a flag that the loop reads between micro-batches; the last request counts."""

    def __init__(self, folder: JobFolder) -> None:
        self._folder = folder
        self._signals = 0
        self._signals_read = 0
        self._control: Control | None = None

    def install(self) -> None:
        """Take the signals over; before the slow imports, since until then SIGTERM just kills.

        A parent may start the process with SIGTERM blocked, so that not even the first milliseconds are open.
        """
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1

    def read(self) -> Control | None:
        signals = self._signals
        if signals != self._signals_read:
            self._signals_read = signals
            self._control = cast(Control, self._folder.read_control())
        return self._control

    def leave_if_asked(self) -> None:
        control = self.read()
        if control is not None and control != "stop":
            raise StopRequested(control)
