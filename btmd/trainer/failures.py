"""Why a run failed: one of a few reasons that recovery can act on, and a sentence without any row's text."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

from btmd.errors import BtmdError, DatasetRefused, TemplateMismatch

Reason = Literal["out_of_memory", "not_a_number", "data", "model", "model_changed", "disk_full", "device", "crash"]

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory", "bad_alloc")
_DISK_FULL = ("no space left on device", "disk quota exceeded", "os error 28)", "os error 122)")
_DEVICE = ("cuda error", "cudnn", "cublas", "nccl", "hip error", "device-side assert", "no nvidia driver")
_FULL = (errno.ENOSPC, errno.EDQUOT)


class TrainingFailed(Exception):
    """The run cannot go on; ``text`` is the sentence for the person. The other two as in frames.Failed."""

    def __init__(self, reason: Reason, text: str, *, step: int | None = None, rows: tuple[int, ...] = ()) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text
        self.step = step
        self.rows = rows


class Failure(NamedTuple):
    reason: Reason
    text: str
    step: int | None = None
    """None: the last whole one."""
    rows: tuple[int, ...] = ()


@contextmanager
def blamed_on(reason: Reason, what: str) -> Iterator[None]:
    """Give errors inside this reason, unless they tell a better one (memory, disk, device) themselves."""
    try:
        yield
    except TrainingFailed:
        raise
    except BtmdError as error:
        raise TrainingFailed(reason, _told(error)) from error
    except Exception as error:
        if classify(error).reason != "crash":
            raise
        raise TrainingFailed(reason, f"{what} ({type(error).__name__}). The job's log has the details.") from error


def _told(error: BtmdError) -> str:
    """The sentence. What a chat template says of a row is left out: whoever made the model has it say anything."""
    if isinstance(error, TemplateMismatch):
        return "The model's chat template does not accept a conversation of the data. The job's log has the details."
    return error.detail


def classify(error: BaseException) -> Failure:
    """The typed reason behind an exception, looking through what it was raised from."""
    link: BaseException | None = error
    while link is not None:
        found = _classify_one(link)
        if found is not None:
            return found
        link = link.__cause__ or link.__context__
    return Failure(
        "crash", f"The trainer stopped on an unexpected error ({type(error).__name__}). The job's log has the details."
    )


def _classify_one(error: BaseException) -> Failure | None:
    if isinstance(error, TrainingFailed):
        return Failure(error.reason, error.text, error.step, error.rows)
    if isinstance(error, DatasetRefused):
        return Failure("data", _told(error))
    if isinstance(error, BtmdError):
        return Failure("model", error.detail)
    message = str(error).lower()
    if (isinstance(error, OSError) and error.errno in _FULL) or any(sign in message for sign in _DISK_FULL):
        return Failure("disk_full", "The disk is full. The last whole checkpoint is kept; free some room and resume.")
    if isinstance(error, MemoryError) or any(sign in message for sign in _OUT_OF_MEMORY):
        return Failure("out_of_memory", "The memory was not enough for this model with these settings.")
    if isinstance(error, RuntimeError) and any(sign in message for sign in _DEVICE):
        return Failure("device", "The computing device reported an error. The job's log has the details.")
    return None
