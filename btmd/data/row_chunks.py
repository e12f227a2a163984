"""Rows in chunks: compressed pieces under the hash of their bytes, and a small list that names them in order.

Where a chunk ends is decided by the row that ends it, so that an insertion moves no boundary that comes later, and
versions of a dataset share the chunks they have in common. Inside a chunk ``line`` is counted from the line of the
chunk's first row, which stands in the list: an inserted row changes the numbers of all rows below it, but no chunk.

The list is JSON lines: a head, then one object for each chunk. Beside a list that was just written its chunks are in
the folder ``<list>.chunks``; in the content store they stand as every content does. A file of plain rows, as releases
before this one wrote them, is read the same way.
"""

import hashlib
import shutil
import zlib
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from btmd.errors import Damaged, FileMissing
from btmd.files.durable import sync_folder, write_synced

if TYPE_CHECKING:
    import zstandard

USUAL_CHUNK_BYTES: Final = 1024 * 1024
"""Of rows, before compression: the mean."""
LEAST_CHUNK_BYTES: Final = 64 * 1024
MOST_CHUNK_BYTES: Final = 4 * 1024 * 1024
"""Only a single row that is longer makes a longer chunk."""

_HEAD: Final = b'{"rows_list":1,'
_LINE: Final = b'{"line":'
_BEFORE_REST: Final = zlib.crc32(b",")
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_LEVEL: Final = 3
_WAITING_CHUNKS: Final = 2
_ENCODE: Final = msgspec.json.Encoder().encode


class Chunk(msgspec.Struct, frozen=True):
    """One piece of the rows. ``size_bytes`` is before compression, ``stored_bytes`` after it."""

    sha256: str
    line: int
    """Of its first row; those of the others are counted from it."""
    rows: int
    size_bytes: int
    stored_bytes: int


class _Head(msgspec.Struct, frozen=True):
    rows_list: int
    rows: int
    size_bytes: int
    chunks: int


class RowsWritten(msgspec.Struct, frozen=True):
    """Rows that are whole and on the disk. ``sha256`` names the list, ``size_bytes`` is before compression."""

    sha256: str
    size_bytes: int
    rows: int
    stored_bytes: int


def chunks_folder(path: Path) -> Path:
    """Where the chunks of a list stand that was just written."""
    return path.with_name(f"{path.name}.chunks")


def clear_rows(path: Path) -> None:
    """Remove what a writer left at ``path``, finished or not."""
    shutil.rmtree(chunks_folder(path), ignore_errors=True)
    _beside(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def encode_row(row: Mapping[str, Any]) -> tuple[memoryview, bool]:
    """A row as it is stored behind its line, and whether a chunk may end with it. Raises UnicodeEncodeError."""
    rest = memoryview(_ENCODE({name: value for name, value in row.items() if name != "line"}))[1:]
    return rest, _ends_chunk(rest)


class RowsWriter:
    """Writes rows to ``path``: the list appears when :meth:`finish` returns, and nothing remains of it otherwise.

    Compressing and syncing go on in a thread beside the one that reads.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._folder = path, chunks_folder(path)
        self._pieces: list[bytes | memoryview] = []
        """Of the chunk that is open: the beginning, rest and end of each of its rows."""
        self._base = self._open_rows = self._open_bytes = 0
        self._made: list[Chunk] = []
        self._waiting: deque[Future[Chunk]] = deque()
        self._thread = ThreadPoolExecutor(1)
        self._compressor: zstandard.ZstdCompressor | None = None
        self._finished = False
        self.rows = self.size_bytes = 0

    def __enter__(self) -> Self:
        clear_rows(self._path)
        self._folder.mkdir(mode=0o700)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.shutdown(cancel_futures=True)
        if not self._finished:
            clear_rows(self._path)

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row. Raises UnicodeEncodeError, nothing of the row being written, for what no file can hold."""
        self.add(row["line"], *encode_row(row))

    def add(self, line: int, rest: memoryview, may_end: bool) -> None:
        """Add, under its line, a row that `encode_row` made, perhaps in another process; ``rest`` may not change."""
        if not self._open_rows:
            self._base = line
        begin = b"%b%d," % (_LINE, line - self._base)
        self._pieces += (begin, rest, b"\n")
        size = len(begin) + len(rest) + 1
        self._open_rows += 1
        self._open_bytes += size
        self.size_bytes += size
        self.rows += 1
        if self._open_bytes >= LEAST_CHUNK_BYTES and (may_end or self._open_bytes >= MOST_CHUNK_BYTES):
            self._close_chunk()

    def finish(self) -> RowsWritten:
        """Have everything on the disk and the list under its name."""
        if self._open_rows:
            self._close_chunk()
        while self._waiting:
            self._made.append(self._waiting.popleft().result())
        head = _Head(1, self.rows, self.size_bytes, len(self._made))
        text = b"".join(_ENCODE(one) + b"\n" for one in (head, *self._made))
        beside = _beside(self._path)
        write_synced(beside, text)
        sync_folder(self._folder)
        beside.replace(self._path)
        self._finished = True
        different = {chunk.sha256: chunk.stored_bytes for chunk in self._made}
        return RowsWritten(hashlib.sha256(text).hexdigest(), self.size_bytes, self.rows, sum(different.values()))

    def _close_chunk(self) -> None:
        text = b"".join(self._pieces)
        self._waiting.append(self._thread.submit(self._store, text, self._base, self._open_rows))
        self._pieces = []
        self._open_rows = self._open_bytes = 0
        while len(self._waiting) > _WAITING_CHUNKS:
            self._made.append(self._waiting.popleft().result())

    def _store(self, text: bytes, line: int, rows: int) -> Chunk:
        if self._compressor is None:
            import zstandard

            # One for all chunks, as only one thread compresses.
            self._compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
        stored = self._compressor.compress(text)
        sha256 = hashlib.sha256(stored).hexdigest()
        path = self._folder / sha256
        if not path.exists():
            write_synced(path, stored)
        return Chunk(sha256, line, rows, len(text), len(stored))


def _ends_chunk(rest: memoryview) -> bool:
    """Whether a chunk may end after this row: so likely that the mean comes out whatever the length of rows."""
    return zlib.crc32(rest, _BEFORE_REST) * USUAL_CHUNK_BYTES < (len(rest) + 1) << 32


class RowsFile:
    """Rows as they are stored, whichever form they have. Raises FileMissing for a list or a chunk that is gone.

    A place is where a row begins, in bytes of the stored rows, counted over all chunks.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.exists():
            raise _missing()
        self.chunks: tuple[Chunk, ...] | None = read_list(path) if is_list(path) else None
        """None for a file of plain rows."""
        self._starts = [0, *accumulate(one.size_bytes for one in self.chunks or ())]
        self._kept: tuple[str, bytes] = ("", b"")

    @property
    def size_bytes(self) -> int:
        """Of the rows before compression."""
        return self._starts[-1] if self.chunks is not None else self._path.stat().st_size

    @property
    def rows(self) -> int | None:
        """How many there are; a file of plain rows does not tell."""
        return sum(one.rows for one in self.chunks) if self.chunks is not None else None

    def lines(self, sha256: str = "", *, without: Mapping[str, int] | None = None) -> Iterator[tuple[bytes, int]]:
        """Each row as it is stored, and what has to be added to its ``line``.

        With ``sha256``, the name of the content, what is read is checked against it: raises Damaged, at the end for
        plain rows and before the first wrong byte is handed out for chunks. The first so many chunks of a name as
        ``without`` says are passed over.
        """
        if self.chunks is None:
            yield from self._plain_lines(sha256)
            return
        if sha256 and hashlib.sha256(self._path.read_bytes()).hexdigest() != sha256:
            raise _damaged()
        passed_over = dict(without or {})
        for chunk in self.chunks:
            if passed_over.get(chunk.sha256, 0) > 0:
                passed_over[chunk.sha256] -= 1
                continue
            for line in self._text(chunk).splitlines(keepends=True):
                yield line, chunk.line

    def line_at(self, place: int) -> tuple[bytes, int]:
        """The row that begins at ``place``, as :meth:`lines` gives it."""
        if self.chunks is None:
            with self._path.open("rb") as file:
                file.seek(place)
                return file.readline(), 0
        number = bisect_right(self._starts, place) - 1
        text, start = self._text(self.chunks[number]), place - self._starts[number]
        return text[start : text.index(b"\n", start) + 1], self.chunks[number].line

    def _plain_lines(self, sha256: str) -> Iterator[tuple[bytes, int]]:
        digest = hashlib.sha256()
        with self._path.open("rb") as file:
            for line in file:
                if sha256:
                    digest.update(line)
                yield line, 0
        if sha256 and digest.hexdigest() != sha256:
            raise _damaged()

    def _text(self, chunk: Chunk) -> bytes:
        if self._kept[0] != chunk.sha256:
            self._kept = (chunk.sha256, self._read(chunk))
        return self._kept[1]

    def _read(self, chunk: Chunk) -> bytes:
        import zstandard

        try:
            stored = chunk_path(self._path, chunk.sha256).read_bytes()
        except FileNotFoundError:
            raise _missing() from None
        if hashlib.sha256(stored).hexdigest() != chunk.sha256:
            raise _damaged()
        return zstandard.ZstdDecompressor().decompress(stored, max_output_size=chunk.size_bytes)


def chunk_path(list_path: Path, sha256: str) -> Path:
    """Where a chunk of this list stands: beside a list that was just written, else in the content store."""
    beside = chunks_folder(list_path) / sha256
    return beside if beside.is_file() else list_path.parent.parent / sha256[:2] / sha256


def is_list(path: Path) -> bool:
    """Whether this is a list of chunks; False for plain rows and for what is not there."""
    return _begins(path, _HEAD)


def is_plain_rows(path: Path) -> bool:
    """Whether these are rows as releases before this one wrote them."""
    return _begins(path, _LINE)


def is_chunk(path: Path) -> bool:
    """Whether this is compressed as chunks are; False for what is not there."""
    return _begins(path, _ZSTD)


def _begins(path: Path, mark: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(mark)) == mark
    except FileNotFoundError:
        return False


def read_list(path: Path) -> tuple[Chunk, ...]:
    """The chunks that a list names, in order. Raises Damaged, FileMissing."""
    try:
        head, *lines = path.read_bytes().splitlines()
        told = msgspec.json.decode(head, type=_Head)
        chunks = tuple(msgspec.json.decode(line, type=Chunk) for line in lines)
    except FileNotFoundError:
        raise _missing() from None
    except (ValueError, msgspec.DecodeError):
        raise _damaged() from None
    if len(chunks) != told.chunks:
        raise _damaged()
    return chunks


def _damaged() -> Damaged:
    return Damaged(
        "The rows of this dataset are damaged.",
        hint="Add the file again. Or, from a backup that holds its contents: `btmctl datasets remove` it, then "
        "`btmctl restore --only datasets BACKUP`.",
    )


def _missing() -> FileMissing:
    return FileMissing("The rows of this dataset are not all in the state folder any more.", hint="Add the file again.")
