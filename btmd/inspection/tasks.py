"""What is done for each kind of request.

Each imports what it needs when it is asked for, and no more: numpy, transformers and the like cost seconds.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from btmd.child.answering import Progress
from btmd.inspection import requests


def perform(line: bytes, progress: Progress) -> msgspec.Struct:
    """Carry out the request that a line holds. Raises msgspec.ValidationError, and what the work raises."""
    request = requests.decode_request(line)
    return TASKS[type(request)](request, progress)


def _open_answers(request: requests.AnswersRequest, _progress: Progress) -> msgspec.Struct:
    from btmd.data.answers_file import open_sealed
    from btmd.inspection.shown import AnswersText

    return AnswersText(open_sealed(Path(request.answers).read_bytes(), Path(request.keys)).decode())


def _read_dataset(request: requests.DatasetRequest, progress: Progress) -> msgspec.Struct:
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


def _show_mapped_rows(request: requests.MappedRowsRequest, _progress: Progress) -> msgspec.Struct:
    from btmd.inspection.mapped_rows import mapped_rows

    return mapped_rows(request)


def _compare(request: requests.DifferenceRequest, progress: Progress) -> msgspec.Struct:
    from btmd.inspection.difference import difference

    return difference(Path(request.before), Path(request.after), progress)


def _count_tokens(request: requests.TokensRequest, progress: Progress) -> msgspec.Struct:
    from btmd.inspection.tokens import measure

    return measure(Path(request.rows), Path(request.model), max_length=request.max_length, progress=progress)


def _preview(request: requests.PreviewRequest, _progress: Progress) -> msgspec.Struct:
    from btmd.inspection.preview import preview

    return preview(
        Path(request.rows),
        request.choice,
        rows_total=request.rows_total,
        model_folder=Path(request.model) if request.model is not None else None,
        shape=request.shape,
    )


def _arrange(request: requests.ArrangementRequest, progress: Progress) -> msgspec.Struct:
    from btmd.inspection.arrangement import arrange

    return arrange(
        Path(request.rows), Path(request.model), request.shape, rows_total=request.rows_total, progress=progress
    )


def _survey_personal_data(request: requests.PersonalDataRequest, progress: Progress) -> msgspec.Struct:
    from btmd.inspection.personal_data import survey_personal_data

    return survey_personal_data(Path(request.rows), request.rows_total, progress)


def _anonymise(request: requests.AnonymiseRequest, progress: Progress) -> msgspec.Struct:
    from btmd.inspection.anonymising import anonymise

    return anonymise(Path(request.rows), request.rows_total, Path(request.out), request.replacing, progress)


def _preview_anonymising(request: requests.AnonymisingPreviewRequest, progress: Progress) -> msgspec.Struct:
    from btmd.inspection.anonymising import preview

    return preview(Path(request.rows), request.rows_total, request.replacing, request.examples, progress)


def _examine(request: requests.QualityRequest, progress: Progress) -> msgspec.Struct:
    from btmd.inspection.quality import examine

    return examine(Path(request.rows), Path(request.groups), rows_total=request.rows_total, progress=progress)


def _clean(request: requests.CleanRequest, progress: Progress) -> msgspec.Struct:
    from btmd.inspection.cleaning import clean

    return clean(request, progress)


def _read_model(request: requests.ModelRequest, progress: Progress) -> msgspec.Struct:
    from btmd.inspection.model import inspect_model

    tokenizer_folder = Path(request.tokenizer_folder) if request.tokenizer_folder is not None else None
    return inspect_model(Path(request.folder), tokenizer_folder=tokenizer_folder, progress=progress)


def _hash_files(request: requests.HashRequest, progress: Progress) -> msgspec.Struct:
    from btmd.inspection.hashes import hash_files

    return hash_files(Path(request.folder), progress)


def _survey_models(request: requests.SurveyRequest, progress: Progress) -> msgspec.Struct:
    from btmd.inspection.survey import survey

    return survey(request.paths, progress)


def _convert_pickled(request: requests.ConvertPickledRequest, progress: Progress) -> msgspec.Struct:
    from btmd.inspection.pickled import convert_pickled

    return convert_pickled(Path(request.source), Path(request.folder), progress=progress)


def _convert_gguf(request: requests.ConvertGgufRequest, progress: Progress) -> msgspec.Struct:
    from btmd.inspection.gguf import convert_gguf

    return convert_gguf(Path(request.source), Path(request.folder), progress=progress)


TASKS: Final[dict[type[Any], Callable[[Any, Progress], msgspec.Struct]]] = {
    requests.AnswersRequest: _open_answers,
    requests.DatasetRequest: _read_dataset,
    requests.MappedRowsRequest: _show_mapped_rows,
    requests.DifferenceRequest: _compare,
    requests.TokensRequest: _count_tokens,
    requests.PreviewRequest: _preview,
    requests.ArrangementRequest: _arrange,
    requests.PersonalDataRequest: _survey_personal_data,
    requests.AnonymiseRequest: _anonymise,
    requests.AnonymisingPreviewRequest: _preview_anonymising,
    requests.QualityRequest: _examine,
    requests.CleanRequest: _clean,
    requests.ModelRequest: _read_model,
    requests.HashRequest: _hash_files,
    requests.SurveyRequest: _survey_models,
    requests.ConvertPickledRequest: _convert_pickled,
    requests.ConvertGgufRequest: _convert_gguf,
}
