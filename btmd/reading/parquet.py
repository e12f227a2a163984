"""Records of a Parquet file, a few hundred at a time; nested columns come as lists and objects."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from btmd.errors import DatasetDamaged, DatasetEmpty, DatasetUnsafe
from btmd.reading.records import Record

_BATCH_ROWS: Final = 256
_MOST_TIMES: Final = 500
_UNSUSPICIOUS_BYTES: Final = 1024**3
_HINT: Final = "Write it again from where it came from, or save it as JSONL."


def parquet_columns(path: Path) -> tuple[str, ...]:
    """The names of the columns. Raises DatasetDamaged or DatasetEmpty."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = tuple(file.schema_arrow.names)
            rows = file.metadata.num_rows
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise DatasetDamaged("The Parquet file is damaged: its description cannot be read.", hint=_HINT) from error
    if rows == 0 or not names:
        raise DatasetEmpty("The Parquet file has no rows.", hint="Check that the right file was given.")
    if len(set(names)) < len(names):
        raise DatasetDamaged("Two columns of the Parquet file have the same name.", hint=_HINT)
    return names


def parquet_records(path: Path, columns: Sequence[str] | None = None) -> Iterator[Record]:
    """Records with their number as line; ``columns``: only these. Raises DatasetDamaged or DatasetUnsafe."""
    import pyarrow
    import pyarrow.parquet

    limit_bytes = max(_UNSUSPICIOUS_BYTES, _MOST_TIMES * path.stat().st_size)
    number = size_bytes = 0
    pool = pyarrow.system_memory_pool()
    try:
        with pyarrow.parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            pyarrow.set_memory_pool(pool)
            for batch in file.iter_batches(
                batch_size=_BATCH_ROWS, columns=list(columns) if columns is not None else None, use_threads=False
            ):
                size_bytes += batch.nbytes
                if size_bytes > limit_bytes:
                    raise DatasetUnsafe(
                        "The Parquet file unpacks to far more than it holds.",
                        hint="If it is a real one, save it as JSONL.",
                    )
                for fields in batch.to_pylist():
                    number += 1
                    yield Record(number, fields=fields)
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError, IndexError) as error:
        raise DatasetDamaged(f"The Parquet file is damaged behind row {number:,}.", hint=_HINT) from error
