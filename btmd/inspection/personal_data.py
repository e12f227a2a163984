"""The child's part of a survey: which kinds of personal data a version holds, in how many rows and on which lines."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from btmd.inspection.facts import PersonalData, PersonalKind
from btmd.inspection.recogniser import pipelines
from btmd.inspection.row_scan import LookingFor, kinds_in, look_through

_LISTED: Final = 100
Progress = Callable[[float, str], None]


class KindCounts:
    """Counts what was found by kind, with the first hundred lines of each."""

    def __init__(self) -> None:
        self.rows_affected = 0
        self._findings: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()
        self._lines: dict[str, list[int]] = {}

    def add(self, line: int, kinds: Counter[str]) -> None:
        self.rows_affected += 1
        self._findings += kinds
        for kind in kinds:
            self._rows[kind] += 1
            lines = self._lines.setdefault(kind, [])
            if len(lines) < _LISTED:
                lines.append(line)

    def kinds(self) -> tuple[PersonalKind, ...]:
        """The most frequent first."""
        return tuple(
            PersonalKind(kind=kind, rows=rows, findings=self._findings[kind], lines=tuple(self._lines[kind]))
            for kind, rows in self._rows.most_common()
        )


def survey_personal_data(rows: Path, rows_total: int, progress: Progress) -> PersonalData:
    """Look through all rows. Raises what reading them raises, ChildFailed."""
    counts, total = KindCounts(), 0
    for looked in look_through(rows, LookingFor()):
        for number, found in looked.found.items():
            counts.add(looked.rows[number]["line"], kinds_in(found))
        total += len(looked.rows)
        progress(total / max(1, rows_total), f"{total:,} rows looked through for personal data")
    return PersonalData(
        rows=total, rows_affected=counts.rows_affected, kinds=counts.kinds(), names_looked_for=bool(pipelines())
    )
