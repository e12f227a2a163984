"""The list of a folder's files that a person's side sends as one content; the files are contents of their own."""

from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from btmd.errors import InvalidValue
from btmd.reading.folder_files import SkippedFile

MOST_FILES: Final = 10_000
_MOST_BYTES: Final = 16 * 1024 * 1024
_Name = Annotated[str, Meta(min_length=1, max_length=1000)]


class ListedFile(msgspec.Struct, frozen=True):
    """A file by its name relative to the folder, and its SHA-256."""

    name: _Name
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class _Skipped(msgspec.Struct, frozen=True):
    name: _Name
    reason: Annotated[str, Meta(max_length=200)]


class FolderList(msgspec.Struct, frozen=True):
    """A folder as it was sent: its files in the order of their names, and what was left out, why."""

    files: Annotated[tuple[ListedFile, ...], Meta(max_length=MOST_FILES)]
    left_out: Annotated[tuple[_Skipped, ...], Meta(max_length=MOST_FILES)] = ()

    @property
    def contents(self) -> set[str]:
        return {file.sha256 for file in self.files}

    @property
    def skipped(self) -> tuple[SkippedFile, ...]:
        return tuple(SkippedFile(one.name, one.reason) for one in self.left_out)


def read_folder_list(path: Path) -> FolderList:
    """Decode an uploaded list. Raises InvalidValue for anything else."""
    hint = "btmctl datasets add FOLDER sends the right one."
    if path.stat().st_size > _MOST_BYTES:
        raise InvalidValue("The list of the folder's files is too long.", hint=hint)
    try:
        listed = msgspec.json.decode(path.read_bytes(), type=FolderList)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidValue("The content is no list of a folder's files.", hint=hint) from error
    if len({file.name for file in listed.files}) < len(listed.files):
        raise InvalidValue("The list of the folder's files names one of them twice.", hint=hint)
    return listed
