"""The thin side of btmd: the command line, and the Python client. Neither loads torch or the daemon."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from btmctl.basic_training import (
        Backup,
        BasicTrainingMode,
        BtmdError,
        DaemonUnreachable,
        Job,
        PlannedTraining,
        Preset,
        Progress,
        Result,
        TrainingRefused,
    )

__all__ = [
    "Backup",
    "BasicTrainingMode",
    "BtmdError",
    "DaemonUnreachable",
    "Job",
    "PlannedTraining",
    "Preset",
    "Progress",
    "Result",
    "TrainingRefused",
]


def __getattr__(name: str) -> Any:
    # The command line starts in a tenth of a second: it does not load what only programs need.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from btmctl import basic_training

    return getattr(basic_training, name)
