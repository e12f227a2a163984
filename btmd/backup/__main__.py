"""The backup child: what needs keys and compression is done here, so that the daemon carries neither in memory."""

import gc
import sys

import msgspec

from btmd.backup import perform_artefacts, perform_audit, perform_keys, perform_recovery
from btmd.backup.perform import perform
from btmd.backup.requests import decode_request
from btmd.child.answering import Progress, answer_one

# Importing them registers what they answer.
PERFORMERS = (perform_artefacts, perform_audit, perform_keys, perform_recovery)


def _perform(line: bytes, progress: Progress) -> msgspec.Struct:
    return perform(decode_request(line), progress)


if __name__ == "__main__":
    # One answer, then the end: looking for circles among a hundred thousand rows would find none worth the time.
    gc.disable()
    sys.exit(answer_one(_perform))
