"""What the columns of an unclear dataset may be for, judged by a sample of their values; the values go nowhere."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from btmd.errors import UnknownLayout
from btmd.reading import names as known
from btmd.reading.names import Names, plain
from btmd.reading.ordering import is_orderable
from btmd.reading.turns import FIRST, OTHERS, role_of

Records = Sequence[Mapping[str, Any]]

_MOST_SUGGESTIONS: Final = 3
_NO_PROSE: Final = re.compile(r"(?:https?://\S+|[\w.+-]+@[\w.-]+|[\d\s.,:/+TZ-]+|[0-9a-fA-F-]{16,})")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A mapping as --map and --role give it, and in a few words what it would mean."""

    mapping: Mapping[str, str]
    meaning: str

    @property
    def words(self) -> str:
        return " ".join(
            f"--role {shlex.quote(f'{key[5:]}={value}')}"
            if key.startswith("role:")
            else f"--map {shlex.quote(f'{key}={value[:40]}')}"
            for key, value in self.mapping.items()
        )


@dataclass(frozen=True, slots=True)
class _Column:
    """What a sample of a column's values looks like."""

    name: str
    place: int
    filled: int
    prose: float
    """The share that are texts somebody wrote."""
    mean_chars: float
    distinct: float
    questions: float

    @property
    def is_prose(self) -> bool:
        return self.filled > 0 and self.prose >= 0.7 and self.distinct > 0.3


def unclear(detail: str, suggestions: Sequence[Suggestion], *, otherwise: str = "") -> UnknownLayout:
    """The refusal that asks: the best suggestion in words, all of them for programs."""
    hint = otherwise
    if suggestions:
        best = suggestions[0]
        hint = f"If this is meant ({best.meaning}): {best.words}"
    return UnknownLayout(
        detail,
        hint=hint or "Name the columns: --map prompt=COLUMN --map completion=COLUMN, or --map text=COLUMN",
        suggestions=tuple(dict(suggestion.mapping) for suggestion in suggestions),
    )


def suggest(
    records: Records, columns: Sequence[str], *, grouped: tuple[str, str] | None = None
) -> tuple[Suggestion, ...]:
    """At most three mappings, the likeliest first. ``grouped``: the columns with the role and the text of messages."""
    looked = [_look(column, place, records) for place, column in enumerate(columns)]
    suggestions: list[Suggestion] = []
    together = _together(looked, records, grouped)
    if together is not None:
        suggestions.append(together)
    if grouped is None:
        suggestions += _pairs(looked)
        prose = [column for column in looked if column.is_prose]
        if prose:
            longest = max(prose, key=lambda column: column.mean_chars)
            suggestions.append(Suggestion({"text": longest.name}, "plain text, learned as it stands"))
        elif len(columns) == 1:
            suggestions.append(Suggestion({"text": columns[0]}, "plain text, learned as it stands"))
    return tuple(suggestions[:_MOST_SUGGESTIONS])


def _look(name: str, place: int, records: Records) -> _Column:
    values = [value for record in records if (value := record.get(name)) not in (None, "")]
    texts = [value for value in values if isinstance(value, str)]
    written = [text for text in texts if len(text) >= 2 and not _NO_PROSE.fullmatch(text[:200].strip())]
    count = max(1, len(values))
    return _Column(
        name,
        place,
        len(values),
        len(written) / count,
        sum(map(len, texts)) / count,
        len(set(map(str, values))) / count,
        sum(text.rstrip().endswith(("?", "\uff1f")) for text in texts) / count,
    )


def _pairs(looked: Sequence[_Column]) -> list[Suggestion]:
    answers = (*known.ANSWER, *known.LABEL)
    asking = [column for column in looked if column.is_prose]
    answering = [column for column in looked if column.filled and (column.is_prose or plain(column.name) in answers)]
    scored = []
    for asked in asking:
        for answered in answering:
            if asked.name == answered.name:
                continue
            # Names say most; then who asks with question marks, who is longer, and who comes first.
            score = 3.0 * (plain(answered.name) in answers) + 3.0 * _is_question(asked.name)
            score -= 3.0 * (plain(asked.name) in answers) + 3.0 * _is_question(answered.name)
            score += 2 * asked.questions - 2 * answered.questions
            score += 1.0 * (asked.place < answered.place) + 0.5 * (answered.mean_chars > asked.mean_chars)
            scored.append((score, -asked.place, -answered.place, asked, answered))
    scored.sort(key=lambda entry: entry[:3], reverse=True)
    return [
        Suggestion({"prompt": asked.name, "completion": answered.name}, f"'{answered.name[:40]}' is the answer")
        for *_, asked, answered in scored[:2]
    ]


def _is_question(name: str) -> bool:
    return plain(name) in (*known.PROMPT, *known.INSTRUCTION, *known.QUESTION)


def _together(looked: Sequence[_Column], records: Records, grouped: tuple[str, str] | None) -> Suggestion | None:
    """One message a row: a column that repeats, one that says who, one with the text."""
    named = Names([column.name for column in looked])
    thread = named.first(known.THREAD, but=grouped or ()) or _repeating(looked, grouped)
    prose = sorted((column for column in looked if column.is_prose), key=lambda column: -column.mean_chars)
    if thread is None or (not prose and grouped is None):
        return None
    content = grouped[1] if grouped is not None else (named.first(known.CONTENT, but=(thread,)) or prose[0].name)
    roles = [grouped[0]] if grouped is not None else named.every(known.ROLE, but=(thread, content))
    role = next((column for column in roles if len(_values(column, records)) > 1), None)
    if role is None:
        return None
    mapping = {"conversation": thread, "role": role, "content": content}
    order = next(
        (
            column
            for column in named.every(known.ORDER, but=(thread, role, content))
            if is_orderable([record.get(column) for record in records])
        ),
        None,
    )
    if order is not None:
        mapping["order"] = order
    values = _values(role, records)
    if any(role_of(value, {}) is None for value in values):
        # Names of people stay where they are: the two sides are told by who begins.
        mapping |= {f"role:{FIRST}": "user", f"role:{OTHERS}": "assistant"}
        return Suggestion(mapping, "one message a row; whoever writes first asks, everybody else answers")
    return Suggestion(mapping, "one message a row")


def _values(column: str, records: Records) -> set[str]:
    return {str(record[column]) for record in records if record.get(column) not in (None, "")}


def _repeating(looked: Sequence[_Column], grouped: tuple[str, str] | None) -> str | None:
    """A column like a number of a case: filled everywhere, each value a few times."""
    if grouped is None:
        return None
    named = [column for column in looked if column.name not in grouped and 0.02 < column.distinct < 0.7]
    ids = [column for column in named if re.search(r"id|nr|no|num|key|ref", plain(column.name))]
    best = next(iter(ids or named), None)
    return best.name if best is not None else None
