"""Which column of a table of messages says who speaks, told by how its values stand to each other."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

_LONGEST_NAME_CHARS: Final = 60
_LEAST_SHARE: Final = 0.5


def who_speaks(
    records: Sequence[Mapping[str, Any]], thread: str, columns: Sequence[str], *, but: Sequence[str]
) -> str | None:
    """The first column with few short values, of which most conversations have more than one.

    ``thread`` is the column by which messages belong together; None too where hardly any do.
    """
    threads = defaultdict(list)
    for record in records:
        if record.get(thread) not in (None, ""):
            threads[str(record[thread])].append(record)
    several = [messages for messages in threads.values() if len(messages) > 1]
    if len(several) < _LEAST_SHARE * len(threads) or not several:
        return None
    for column in columns:
        if column == thread or column in but:
            continue
        values = [record[column] for record in records if record.get(column) not in (None, "")]
        names = {value for value in values if isinstance(value, str) and len(value) <= _LONGEST_NAME_CHARS}
        if len(values) < len(records) * 0.9 or not all(isinstance(value, str) for value in values):
            continue
        if not 1 < len(names) == len(set(values)) <= max(2, len(values) * 3 // 4) or _are_numbers(names):
            continue
        talks = sum(len({message.get(column) for message in messages}) > 1 for messages in several)
        if talks >= _LEAST_SHARE * len(several) and _stay_the_same(several, column):
            return column
    return None


def _are_numbers(names: set[str]) -> bool:
    """Whether they are numbers or times."""
    return sum(any(letter.isalpha() for letter in name) for name in names) * 2 < len(names)


def _stay_the_same(several: Sequence[Sequence[Mapping[str, Any]]], column: str) -> bool:
    """Whether somebody speaks twice, in one conversation or in two: people do, and texts do not repeat so."""
    spoken = [str(message.get(column)) for messages in several for message in messages]
    return len(set(spoken)) < len(spoken)
