"""What anonymising tells the daemon: counts, names of kinds and columns, line numbers; never the text of a row."""

import msgspec


class ReplacedKind(msgspec.Struct, frozen=True, kw_only=True):
    """What was replaced of one kind. ``different``: how many values, each with a placeholder of its own."""

    rows: int
    findings: int
    different: int


class Replacements(msgspec.Struct, frozen=True, kw_only=True):
    """What is different from the version before. ``lines``: of the first hundred rows that changed."""

    rows_changed: int
    lines: tuple[int, ...]
    kinds: dict[str, ReplacedKind]
    columns: dict[str, str]
    """Columns of the source whose values were replaced, and the kinds they were called."""
    names_looked_for: bool


class AnonymisedRows(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that were written, and what the facts of a dataset say of them. No hash: nothing was found or written."""

    rows_sha256: str | None
    rows_size_bytes: int
    duplicates: int
    average_chars: float
    longest_chars: int
    changes: Replacements
