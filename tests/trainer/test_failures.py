"""Every failure has one typed reason and a sentence without contents."""

import errno

import pytest

from btmd.errors import DatasetRefused, ModelRefused, TemplateMismatch
from btmd.trainer.failures import TrainingFailed, blamed_on, classify


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "out_of_memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "out_of_memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "out_of_memory"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "device"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk_full"),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), "disk_full"),
        (TrainingFailed("not_a_number", "diverged"), "not_a_number"),
        (DatasetRefused("bad rows"), "data"),
        (ModelRefused("bad model"), "model"),
        (TemplateMismatch("The template says: a secret, letter by letter"), "data"),
        (ZeroDivisionError("secret text of a row"), "crash"),
    ],
)
def test_reasons(error: Exception, reason: str) -> None:
    failure = classify(error)
    assert failure.reason == reason
    assert "secret" not in failure.text
    assert failure.text.endswith((".", "diverged", "bad rows", "bad model"))


def test_the_cause_behind_an_error_counts() -> None:
    error = ValueError("while saving")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert classify(error).reason == "disk_full"


def test_an_unknown_error_gets_the_reason_of_where_it_happened() -> None:
    with pytest.raises(TrainingFailed) as failed, blamed_on("model", "The model cannot be loaded"):
        raise KeyError("layer")
    assert (failed.value.reason, failed.value.text) == (
        "model",
        "The model cannot be loaded (KeyError). The job's log has the details.",
    )


def test_memory_and_disk_keep_their_own_reason_wherever_they_happen() -> None:
    with pytest.raises(MemoryError), blamed_on("model", "The model cannot be loaded"):
        raise MemoryError


def test_what_a_template_says_of_a_row_is_told_nobody_wherever_it_says_it() -> None:
    with pytest.raises(TrainingFailed) as failed, blamed_on("model", "The model cannot be asked"):
        raise TemplateMismatch("The template says: a secret, letter by letter")
    assert "secret" not in failed.value.text
