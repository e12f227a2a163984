"""Finds the rows of a dataset that say the same: exactly, or nearly so.

Two rows are near-duplicates when their numbers and their system message are the same, and the Jaccard index of the
shingles of their words (`btmd.data.shingles`), prompt and answer taken by themselves, is at least 0.5 in each and 0.7
in the mean, in which each counts by its words; rows of fewer than forty words, in which one word makes the difference,
need 0.85. So case, punctuation, the order of sentences and a few words make none; another number, another answer to the
same question, or another question about the same passage does.

Candidates are rows whose signatures agree in a band of five values (locality-sensitive hashing: at an index of 0.7
all but one in a hundred pairs are found); each is checked by the whole of both signatures. Signatures and bands lie
in files without a name, which are gone with the process; in memory are one band's keys and one label a row.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from btmd.data.rows import Row, content_key
from btmd.data.shingles import SIGNATURE, SLOTS, parts_of, signatures

LEAST_MEAN: Final = 0.7
LEAST_MEAN_OF_SHORT: Final = 0.85
LEAST_EACH: Final = 0.5
_SHORT_WORDS: Final = 40
_BANDS: Final = 25
_RECORD: Final = np.dtype([("row", "<i8"), ("content", "<u8"), *SIGNATURE.descr])
_KEY: Final = np.dtype("<u8")
_ROWS_AT_ONCE: Final = 1000
_CHARS_AT_ONCE: Final = 1 << 20
_BLOCK_RECORDS: Final = 1 << 14
_KEYS_AT_ONCE: Final = 1 << 21
_FEW_PAIRS: Final = 1 << 13
"""Every signature may lie in a page of its own: 32 MB for each side."""
_MOST_DIFFERENT: Final = 4
"""With how many unlike rows of one bucket others are compared; a crowd there would take the square of its size."""

Progress = Callable[[float], None]


class SignatureFile:
    """Where a process notes the rows that it reads: a file without a name in ``folder``, 280 bytes a row."""

    def __init__(self, folder: Path | None) -> None:
        self.file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._waiting: list[Row] = []
        self._numbers: list[int] = []
        self._chars = 0

    def take(self, number: int, row: Row) -> None:
        """Note a row; its number is counted from 0 over the whole dataset. Raises OSError."""
        self._numbers.append(number)
        self._waiting.append(row)
        self._chars += sum(len(text) for _, text in parts_of(row))
        if len(self._waiting) >= _ROWS_AT_ONCE or self._chars >= _CHARS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Have all rows in the file. Raises OSError."""
        rows, numbers = self._waiting, self._numbers
        self._waiting, self._numbers, self._chars = [], [], 0
        records = np.empty(len(rows), _RECORD)
        records["row"] = numbers
        records["content"] = [int.from_bytes(content_key(row)[:8], "little") for row in rows]
        found = signatures(rows)
        for name in SIGNATURE.names or ():
            records[name] = found[name]
        self.file.write(records.tobytes())
        self.file.flush()


class Groups(Struct, frozen=True):
    """Rows that repeat an earlier one, ascending, with that one: the first of all that say the same.

    ``exact`` is set where the whole row is the same, letter for letter, as some earlier row.
    """

    rows: NDArray[np.int64]
    leaders: NDArray[np.int64]
    exact: NDArray[np.bool_]
    total: int
    """Rows of the dataset."""

    def labels(self) -> NDArray[np.int64]:
        """For every row of the dataset the first row of its group; its own number where it is alone."""
        found = np.arange(self.total, dtype=np.int64)
        found[self.rows] = self.leaders
        return found

    def save(self, file: IO[bytes]) -> None:
        """Write the groups for `Groups.load`."""
        np.savez(file, rows=self.rows, leaders=self.leaders, exact=self.exact, total=self.total)

    @classmethod
    def load(cls, path: Path) -> "Groups":
        """Raises OSError or ValueError for what is no file of groups."""
        with np.load(path, allow_pickle=False) as found:
            return cls(found["rows"], found["leaders"], found["exact"], int(found["total"]))


def groups_of(files: Sequence[SignatureFile], folder: Path | None, progress: Progress = lambda done: None) -> Groups:
    """The groups among all rows noted in ``files``. ``folder`` takes the bands meanwhile. Raises OSError."""
    for one in files:
        one.flush()
    signed = _Signed(files)
    labels = _Labels(signed.total)
    content = signed.column("content")
    # Who is compared with whom goes by what rows say and not by where they stand.
    by_content = np.argsort(content, kind="stable")
    labels.join(*_equal(content[by_content], by_content))
    rank = np.empty(signed.total, np.int32)
    rank[by_content] = np.arange(signed.total, dtype=np.int32)
    with _band_files(folder, signed) as bands:
        for number, band in enumerate(bands):
            for keys, places in _portions(band, signed.total):
                order = np.argsort(rank[places])
                _join_alike(keys[order], places[order], signed, labels)
            progress((number + 1) / _BANDS)
    return _by_row_number(signed.column("row").astype(np.int64), labels.of, content)


class _Signed:
    """The records of all files one behind the other."""

    def __init__(self, files: Sequence[SignatureFile]) -> None:
        self._files = [one.file for one in files]
        sizes = [file.seek(0, 2) // _RECORD.itemsize for file in self._files]
        self._starts = np.cumsum([0, *sizes])
        self.total = int(self._starts[-1])

    def blocks(self) -> Iterator[NDArray[np.void]]:
        for file in self._files:
            file.seek(0)
            while len(read := file.read(_BLOCK_RECORDS * _RECORD.itemsize)):
                yield np.frombuffer(read, _RECORD)

    def column(self, name: str) -> NDArray[np.uint64]:
        """One value of every record."""
        return np.concatenate([np.zeros(0, np.uint64), *(block[name].astype(np.uint64) for block in self.blocks())])

    def at(self, places: NDArray[np.int64]) -> NDArray[np.void]:
        """The records at some places."""
        found = np.empty(len(places), _RECORD)
        of_file = np.searchsorted(self._starts, places, side="right") - 1
        for number, file in enumerate(self._files):
            chosen = np.flatnonzero(of_file == number)
            if len(chosen):
                # Mapped anew each time: what was looked at does not stay in memory.
                mapped = np.memmap(file, _RECORD, mode="r")
                found[chosen] = mapped[places[chosen] - self._starts[number]]
        return found


class _Labels:
    """Which places belong together: each names the first of its group."""

    def __init__(self, total: int) -> None:
        self.of = np.arange(total, dtype=np.int64)

    def join(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
        """Put the groups of both together, pair by pair."""
        of = self.of
        for one, other in zip(first.tolist(), second.tolist(), strict=True):
            while (up := int(of[one])) != one:
                one = up
            while (up := int(of[other])) != other:
                other = up
            if one != other:
                of[max(one, other)] = min(one, other)
        while True:
            above = of[of]
            if np.array_equal(above, of):
                return
            of[:] = above


def _equal(keys: NDArray[np.uint64], places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of places with equal keys: the least of them, and each other one."""
    order = np.argsort(keys, kind="stable")
    runs = np.flatnonzero(np.concatenate(([True], keys[order][1:] != keys[order][:-1]))) if len(keys) else order
    firsts = np.repeat(order[runs], np.diff(np.append(runs, len(order))))
    is_other = firsts != order
    return places[firsts[is_other]], places[order[is_other]]


@contextmanager
def _band_files(folder: Path | None, signed: _Signed) -> Iterator[Sequence[IO[bytes]]]:
    """The keys of each band in a file of its own, one key a row; 0 for a row without words, which is alone."""
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile(dir=folder)) for _ in range(_BANDS)]
        for block in signed.blocks():
            wordless = block["fixed"] == 0
            for number, file in enumerate(files):
                keys = _band_keys(block, number)
                keys[wordless] = 0
                file.write(keys.tobytes())
        yield files


def _band_keys(block: NDArray[np.void], band: int) -> NDArray[np.uint64]:
    # Three values of the one part and two of the other, in turn.
    prompts, answers = 5 * (band // 2) + 3 * (band % 2), 5 * (band // 2) + 2 * (band % 2)
    count = 3 - band % 2
    columns = [*range(prompts, prompts + count), *range(SLOTS + answers, SLOTS + answers + 5 - count)]
    keys = block["fixed"].copy()
    for column in columns:
        keys = (keys ^ block["slots"][:, column]) * np.uint64(0x9E37_79B9_7F4A_7C15)
        keys ^= keys >> np.uint64(29)
    found: NDArray[np.uint64] = np.maximum(keys, np.uint64(1))
    return found


def _portions(band: IO[bytes], total: int) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.int64]]]:
    """A band's keys with their places, as many at once as memory is meant for, equal keys together."""
    portions = max(1, -(-total // _KEYS_AT_ONCE))
    for portion in range(portions):
        keys, places = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        band.seek(0)
        at = 0
        while len(read := band.read(_KEYS_AT_ONCE * _KEY.itemsize)):
            some = np.frombuffer(read, _KEY)
            chosen = np.flatnonzero((some != 0) & (some % np.uint64(portions) == portion))
            keys.append(some[chosen])
            places.append(chosen + at)
            at += len(some)
        yield np.concatenate(keys), np.concatenate(places)


def _join_alike(keys: NDArray[np.uint64], places: NDArray[np.int64], signed: _Signed, labels: _Labels) -> None:
    """Join those with equal keys whose signatures agree."""
    for _ in range(_MOST_DIFFERENT):
        first, other = _equal_indices(keys)
        if not len(first):
            return
        apart = labels.of[places[first]] != labels.of[places[other]]
        alike = ~apart
        alike[apart] = _are_alike(places[first[apart]], places[other[apart]], signed)
        labels.join(places[first[alike & apart]], places[other[alike & apart]])
        # The rest is compared among itself: without those that found their group, and without the first.
        keys, places = keys[other[~alike]], places[other[~alike]]


def _equal_indices(keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return _equal(keys, np.arange(len(keys), dtype=np.int64))


def _are_alike(first: NDArray[np.int64], other: NDArray[np.int64], signed: _Signed) -> NDArray[np.bool_]:
    alike = np.zeros(len(first), bool)
    for start in range(0, len(first), _FEW_PAIRS):
        some = slice(start, start + _FEW_PAIRS)
        one, two = signed.at(first[some]), signed.at(other[some])
        agree = (one["slots"] == two["slots"]).reshape(-1, 2, SLOTS).mean(axis=2)
        words = np.maximum(one["words"].astype(np.int64) + two["words"], 1)
        mean = (agree * words).sum(axis=1) / words.sum(axis=1)
        # The words of a plain text are counted in both parts.
        least = np.where(words.sum(axis=1) < 2 * _SHORT_WORDS, LEAST_MEAN_OF_SHORT, LEAST_MEAN)
        alike[some] = (mean >= least) & (agree.min(axis=1) >= LEAST_EACH)
    return alike


def _by_row_number(numbers: NDArray[np.int64], labels: NDArray[np.int64], content: NDArray[np.uint64]) -> Groups:
    """From places in the files to numbers of rows: of each group the row with the least is its first."""
    total = len(numbers)
    least = np.full(total, total, np.int64)
    np.minimum.at(least, labels, numbers)
    leaders = np.empty(total, np.int64)
    leaders[numbers] = least[labels]
    of_row = np.empty(total, np.uint64)
    of_row[numbers] = content
    _, others = _equal(of_row, np.arange(total, dtype=np.int64))
    exact = np.zeros(total, bool)
    exact[others] = True
    rows = np.flatnonzero(leaders != np.arange(total))
    return Groups(rows, leaders[rows], exact[rows], total)
