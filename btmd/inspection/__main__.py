"""The inspection child: files of unknown origin are opened here.

What goes wrong with them - memory, a crash in a library, time - goes wrong in a process that is thrown away.
"""

import ctypes
import os
import resource
import sys
from pathlib import Path
from typing import Final

import msgspec

from btmd.child.answering import Progress, answer_one
from btmd.domain.units import GIB
from btmd.hardware.memory import read_memory
from btmd.inspection.requests import (
    AnonymiseRequest,
    AnonymisingPreviewRequest,
    AnswersRequest,
    ArrangementRequest,
    CleanRequest,
    ConvertGgufRequest,
    ConvertPickledRequest,
    DatasetRequest,
    DifferenceRequest,
    HashRequest,
    MappedRowsRequest,
    ModelRequest,
    PersonalDataRequest,
    PreviewRequest,
    QualityRequest,
    SurveyRequest,
    TokensRequest,
    decode_request,
)

LEAST_MEMORY_BYTES: Final = 2 * GIB
_NEW_NETWORK, _NEW_USER = 0x4000_0000, 0x1000_0000
"""CLONE_NEWNET and CLONE_NEWUSER of unshare(2)."""


def main() -> int:
    _limit_memory()
    _leave_the_network()
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
    return answer_one(_perform)


def _limit_memory() -> None:
    """Half of what is free, so that one line of a chat template cannot take the machine's memory and a training's.

    Files that are mapped do not count. Should memory run out all the same, the kernel is to end this process first.
    """
    limit = max(LEAST_MEMORY_BYTES, read_memory().available_bytes // 2)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    Path("/proc/self/oom_score_adj").write_text("1000")


def _leave_the_network() -> None:
    """Into a network namespace of its own, where there is nothing to talk to.

    Without rights that takes a user namespace, which some systems refuse; then there is only the offline mode.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NETWORK) != 0:
        libc.unshare(_NEW_USER | _NEW_NETWORK)


def _perform(line: bytes, progress: Progress) -> msgspec.Struct:
    request = decode_request(line)
    # Each kind imports what it needs and no more: numpy, transformers and the like cost seconds.
    match request:
        case AnswersRequest():
            from btmd.data.answers_file import open_sealed
            from btmd.inspection.shown import AnswersText

            return AnswersText(open_sealed(Path(request.answers).read_bytes(), Path(request.keys)).decode())
        case DatasetRequest():
            from btmd.inspection.dataset import inspect_dataset
            from btmd.reading.opening import folder_contents

            return inspect_dataset(
                Path(request.source),
                request.name,
                Path(request.rows),
                mapping=request.mapping,
                folder=folder_contents(request.folder, request.skipped),
                progress=progress,
            )
        case MappedRowsRequest():
            from btmd.inspection.mapped_rows import mapped_rows

            return mapped_rows(request)
        case DifferenceRequest():
            from btmd.inspection.difference import difference

            return difference(Path(request.before), Path(request.after), progress)
        case TokensRequest():
            from btmd.inspection.tokens import measure

            return measure(Path(request.rows), Path(request.model), max_length=request.max_length, progress=progress)
        case PreviewRequest():
            from btmd.inspection.preview import preview

            folder = Path(request.model) if request.model is not None else None
            return preview(
                Path(request.rows),
                request.choice,
                rows_total=request.rows_total,
                model_folder=folder,
                shape=request.shape,
            )
        case ArrangementRequest():
            from btmd.inspection.arrangement import arrange

            return arrange(
                Path(request.rows),
                Path(request.model),
                request.shape,
                rows_total=request.rows_total,
                progress=progress,
            )
        case PersonalDataRequest():
            from btmd.inspection.personal_data import survey_personal_data

            return survey_personal_data(Path(request.rows), request.rows_total, progress)
        case AnonymiseRequest():
            from btmd.inspection.anonymising import anonymise

            return anonymise(Path(request.rows), request.rows_total, Path(request.out), request.replacing, progress)
        case AnonymisingPreviewRequest():
            from btmd.inspection.anonymising import preview as preview_anonymising

            return preview_anonymising(
                Path(request.rows), request.rows_total, request.replacing, request.examples, progress
            )
        case QualityRequest():
            from btmd.inspection.quality import examine

            return examine(Path(request.rows), Path(request.groups), rows_total=request.rows_total, progress=progress)
        case CleanRequest():
            from btmd.inspection.cleaning import clean

            return clean(request, progress)
        case ModelRequest():
            from btmd.inspection.model import inspect_model

            tokenizer_folder = Path(request.tokenizer_folder) if request.tokenizer_folder is not None else None
            return inspect_model(Path(request.folder), tokenizer_folder=tokenizer_folder, progress=progress)
        case HashRequest():
            from btmd.inspection.hashes import hash_files

            return hash_files(Path(request.folder), progress)
        case SurveyRequest():
            from btmd.inspection.survey import survey

            return survey(request.paths, progress)
        case ConvertPickledRequest():
            from btmd.inspection.pickled import convert_pickled

            return convert_pickled(Path(request.source), Path(request.folder), progress=progress)
        case ConvertGgufRequest():
            from btmd.inspection.gguf import convert_gguf

            return convert_gguf(Path(request.source), Path(request.folder), progress=progress)


if __name__ == "__main__":
    sys.exit(main())
