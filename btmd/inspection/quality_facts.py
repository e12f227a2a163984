"""What is known of the quality of a version's rows: counts and line numbers, never text."""

import msgspec

from btmd.inspection.facts import DatasetFacts

LISTED = 100
"""Lines that are listed of each kind, the first ones."""


class Listed(msgspec.Struct, frozen=True):
    """Rows of one kind: how many, and the lines of the first hundred."""

    count: int
    lines: tuple[int, ...] = ()


class QualityFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A version's rows looked at one by one and together."""

    rows: int
    found: dict[str, Listed]
    """By kind; those that do not occur are left out.

    ``duplicates`` and ``near_duplicates`` repeat an earlier row exactly or nearly; ``leaked`` are trained on, and
    they or their like are held out by the source; ``mojibake``, ``lost_characters``, ``control_characters`` and
    ``line_ends`` are damage to the text; ``placeholder_answers``, ``repeated_questions``, ``cut_off_answers`` and
    ``short_answers`` are answers that teach little; ``other_language`` are not in the language of most;
    ``same_answer`` all have the most frequent answer; ``long_rows`` are twenty times as long as half of the rows.
    """
    answers: int
    """Rows that have one."""
    distinct_answers: int | None
    """None: very many."""
    languages: dict[str, int]
    """Rows by language as two letters; those that cannot be told under an empty name."""
    minor_languages: tuple[str, ...]
    """Those of ``other_language``."""
    median_chars: int
    longest_share: float
    """Of all characters, how many the longest hundredth of the rows holds."""
    similar_groups: int
    """Groups of rows that say the same, exactly or nearly."""


class CleanFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a cleaning left out. Each row is counted once, under the first kind that it is of."""

    facts: DatasetFacts
    """Of the rows that are left."""
    rows_before: int
    dropped: dict[str, Listed]
