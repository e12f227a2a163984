"""Refusals of datasets of which nothing can be used, with the reasons that were met."""

from collections import Counter
from collections.abc import Sequence

from btmd.errors import DatasetEmpty, DatasetRefused
from btmd.reading.records import Record


def nothing_usable(first: Sequence[Record], *, is_all: bool) -> DatasetRefused:
    """The refusal of a dataset whose first records are all broken; ``is_all``: it has no more than these."""
    if not first:
        return DatasetEmpty("The file has no rows.", hint="A CSV file needs rows under its first line of names.")
    reasons = Counter(record.broken or "" for record in first)
    reason, _ = reasons.most_common(1)[0]
    more = "" if is_all else " so far"
    return DatasetEmpty(
        f"None of the {len(first):,} rows{more} can be read ({reason}). The first is at line {first[0].line:,}.",
        hint="Check that the file is what its name says and is whole.",
    )
