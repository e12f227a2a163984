"""What is known of the files of a folder that is a dataset."""

import msgspec


class FolderFile(msgspec.Struct, frozen=True):
    """A file of a folder: its name relative to it, and where its bytes stand."""

    name: str
    path: str


class FolderPart(msgspec.Struct, frozen=True):
    """A file of a folder that became a dataset."""

    name: str
    """Relative to the folder."""
    format: str
    first_line: int
    """The number under which its first line, page or row is counted: they go on from file to file."""
    unit: str = "line"


class SkippedFile(msgspec.Struct, frozen=True):
    """A file of a folder that was left out, and why."""

    name: str
    reason: str
