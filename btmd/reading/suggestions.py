"""What the columns of an unclear dataset may be for, judged by a sample of their values; the values go nowhere."""

import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final

from msgspec import Struct

from btmd.errors import UnknownLayout
from btmd.reading import names as known
from btmd.reading.names import Names, plain
from btmd.reading.ordering import is_orderable
from btmd.reading.speakers import who_speaks
from btmd.reading.told import ENCODING, HEADER, NAMES, NONE, ONLY
from btmd.reading.turns import FIRST, OTHERS, role_of

Records = Sequence[Mapping[str, Any]]

MOST_SUGGESTIONS: Final = 3
_MOST_COLUMNS: Final = 50
"""That are looked at: of more, a person has to say."""
_NAME_THEM: Final = "Name the columns: --map prompt=COLUMN --map completion=COLUMN, or --map text=COLUMN"
_NO_PROSE: Final = re.compile(r"(?:https?://\S+|[\w.+-]+@[\w.-]+|[\d\s.,:/+TZ-]+|[0-9a-fA-F-]{16,})")


Suggestion = dict[str, str]
"""A mapping as --map, --role and the options about the file give it."""


class _Column(Struct, frozen=True):
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


def unclear(detail: str, suggestions: Sequence[Suggestion]) -> UnknownLayout:
    """The refusal that asks, with what may be meant."""
    return UnknownLayout(detail, hint=_NAME_THEM, suggestions=tuple(suggestions))


def in_words(detail: str, suggestions: Sequence[Suggestion], *, otherwise: str) -> UnknownLayout:
    """The refusal that asks, and ends in what is to be typed for the likeliest of what may be meant."""
    if not suggestions:
        return UnknownLayout(detail, hint=otherwise)
    likeliest = suggestions[0]
    return UnknownLayout(
        f"{detail} Perhaps {meaning_of(likeliest)}.", hint=words_of(likeliest), suggestions=tuple(suggestions)
    )


def words_of(mapping: Suggestion) -> str:
    """The mapping as it is typed."""
    return " ".join(_option(key, value) for key, value in mapping.items())


def _option(key: str, value: str) -> str:
    kind, _, name = key.partition(":")
    if key == HEADER:
        return "--header" if value == NAMES else "--no-header"
    if key == ONLY:
        return f"--only {value}"
    if key == ENCODING:
        return f"--encoding {shlex.quote(value)}"
    return (
        f"--role {shlex.quote(f'{name}={value}')}"
        if kind == "role" and name
        else f"--map {shlex.quote(f'{kind}={value}')}"
    )


def meaning_of(mapping: Suggestion) -> str:
    """In a few words, what a mapping would make of the file."""
    said = {NONE: ["its first line is a row already"], NAMES: ["its first line holds the names"]}.get(
        mapping.get(HEADER, ""), []
    )
    if ONLY in mapping:
        said.append(f"its {mapping[ONLY]} are meant")
    if ENCODING in mapping:
        said.append(f"it is written in {mapping[ENCODING]}")
    if "role" in mapping:
        said.append("every row is one message")
    if f"role:{FIRST}" in mapping:
        said.append("whoever begins a conversation asks, and everybody else answers")
    if "completion" in mapping:
        said.append(f"'{mapping['completion'][:40]}' is the answer")
    if "text" in mapping:
        said.append(f"'{mapping['text'][:40]}' is plain text, learned as it stands")
    return " and ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said)


def suggest(
    records: Records, columns: Sequence[str], *, grouped: tuple[str, str] | None = None
) -> tuple[Suggestion, ...]:
    """At most three mappings, the likeliest first. ``grouped``: the columns with the role and the text of messages."""
    looked = [_look(column, place, records) for place, column in islice(enumerate(columns), _MOST_COLUMNS)]
    suggestions: list[Suggestion] = []
    together = _together(looked, records, grouped)
    if together is not None:
        suggestions.append(together)
    if grouped is not None:
        suggestions.append({"text": grouped[1]})
    else:
        suggestions += _pairs(looked)
        prose = [column for column in looked if column.is_prose]
        if prose:
            suggestions.append({"text": max(prose, key=lambda column: column.mean_chars).name})
    if not suggestions:
        suggestions += _whatever_is_filled(looked)
    return tuple(suggestions[:MOST_SUGGESTIONS])


def _whatever_is_filled(looked: Sequence[_Column]) -> list[Suggestion]:
    """Where nothing looks like prose, as in a table of words that repeat, what may be meant all the same."""
    filled = [column.name for column in looked if column.filled]
    filled.sort(key=lambda name: -next(column.prose for column in looked if column.name == name))
    first_two = sorted(filled[:2], key=[column.name for column in looked].index)
    pair = [{"prompt": first_two[0], "completion": first_two[1]}] if len(first_two) == 2 else []
    return [*pair, *({"text": name} for name in filled[:1])]


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
    return [{"prompt": asked.name, "completion": answered.name} for *_, asked, answered in scored[:2]]


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
    role = role or who_speaks(records, thread, [column.name for column in looked], but=(content,))
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
    return mapping


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
