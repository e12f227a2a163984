"""The training data as the trainer reads it: the rows file of the plan, checked to be that file.

No torch here, so that rows are tokenised while it is still being imported.
"""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from btmd.data.encoding import Encoder
from btmd.data.row_chunks import RowsFile
from btmd.data.rows import Row, decode_row
from btmd.data.sequences import ROWS_AT_A_TIME, Collector, Dataset, encode_rows
from btmd.errors import Damaged, FileMissing
from btmd.trainer.failures import TrainingFailed


def load_dataset(
    rows_path: Path,
    encoder: Encoder,
    *,
    sha256: str,
    training_type: str = "lora_adaptation",
    packing: bool = False,
    max_length: int,
    held_out_fraction: float,
    held_out_limit: int,
    seed: int,
    split_rule: int = 0,
    between_rows: Callable[[], None],
) -> Dataset:
    """Read, check and tokenise a version's rows; a row's place is the byte at which it begins.

    Rows of more than ``max_length`` tokens are left out whole: a cut answer teaches to stop in the middle. Only texts
    of continued pre-training are cut, and with ``packing`` put together in blocks of at most that length.
    Raises TrainingFailed(data) when the file is not the one the job was submitted with or nothing remains, and
    DatasetRefused when its rows are not of the kind that this type of training needs.
    """
    collected = Collector(max_length, split_rule=split_rule)
    place = 0
    try:
        lines = RowsFile(rows_path).lines(sha256)
        while some := list(itertools.islice(lines, ROWS_AT_A_TIME)):
            between_rows()
            rows = [decode_row(line, base) for line, base in some]
            encoded = encode_rows(encoder, rows, training_type, max_length)
            for (line, _), row, sequences in zip(some, rows, encoded, strict=True):
                collected.take(row, sequences, place)
                place += len(line)
    except (Damaged, FileMissing) as error:
        raise TrainingFailed("data", "The dataset's rows are not those this job was submitted with.") from error
    dataset = collected.dataset(
        training_type=training_type,
        packing=packing,
        held_out_fraction=held_out_fraction,
        held_out_limit=held_out_limit,
        seed=seed,
    )
    if len(dataset.train) == 0:
        raise TrainingFailed(
            "data",
            f"No row is left to train on: {dataset.over_long_rows} are longer than {max_length} tokens, in "
            f"{dataset.unlearned_rows} nothing would be learned, and {dataset.untemplated_rows} do not fit the "
            "model's chat template.",
        )
    return dataset


def prompt_date(submitted_us: int) -> datetime:
    """The moment that chat templates are told; the same in every attempt of a job."""
    return datetime.fromtimestamp(submitted_us / 1e6, UTC)


def read_row_at(rows_path: Path, place: int) -> Row:
    """The row that begins at ``place``, a byte of the stored rows; one chunk is read for it."""
    return decode_row(*RowsFile(rows_path).line_at(place))
