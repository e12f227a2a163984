"""Layouts that a person named column by column: ``{role: column}``, and ``{"role:NAME": role}`` for who speaks.

``drop:COLUMN`` leaves a column out of what is looked at.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from btmd.errors import InvalidValue, UnknownLayout
from btmd.reading.detection import Records, detect_layout
from btmd.reading.layouts import Grouping, Layout
from btmd.reading.names import Names, plain
from btmd.reading.turns import DROPPED, FIRST, OTHERS

COLUMN_ROLES: Final = (
    *("prompt", "completion", "text", "conversation", "role", "content", "order", "chosen", "rejected", "drop"),
    *("system", "context", "split"),
)
SPEAKER_ROLES: Final = ("system", "user", "assistant", "tool", DROPPED)
_PLACE: Final = re.compile(r"column ([1-9]\d{0,5})")
"""A column of a table by its place."""
_EXAMPLE: Final = "For example: --map prompt=question --map completion=reply"


def layout_for(records: Records, columns: Sequence[str], mapping: Mapping[str, str] | None) -> Layout:
    """The layout that a person named, wholly or in part, or that can be told.

    Raises InvalidValue for a mapping that cannot be, UnknownLayout, RatedAnswers.
    """
    if not mapping:
        return detect_layout(records, columns)
    roles = _speakers(mapping)
    dropped = {_found(value, columns) for key, value in mapping.items() if key == "drop" or key.startswith("drop:")}
    left = tuple(column for column in columns if column not in dropped)
    named = {
        key: _found(column, columns, dropped)
        for key, column in mapping.items()
        if key != "drop" and not key.startswith(("drop:", "role:"))
    }
    if not named:
        seen = [{key: value for key, value in record.items() if key not in dropped} for record in records]
        return detect_layout(seen, left, roles=roles)
    return _named_layout(named, roles, records, Names(left).get("split"))


def _speakers(mapping: Mapping[str, str]) -> dict[str, str]:
    roles: dict[str, str] = {}
    for key, value in mapping.items():
        kind, _, name = key.partition(":")
        if (kind if name else key) not in COLUMN_ROLES or (name and kind not in ("role", "drop")):
            raise InvalidValue(
                f"There is no role '{key[:40]}' for a column.", hint="Possible are: " + ", ".join(COLUMN_ROLES)
            )
        if kind != "role" or not name:
            continue
        if value not in SPEAKER_ROLES:
            raise InvalidValue(f"Nobody can speak as '{value[:40]}'.", hint="Possible are: " + ", ".join(SPEAKER_ROLES))
        if name.startswith("@") and name not in (FIRST, OTHERS):
            raise InvalidValue(
                f"'{name[:40]}' stands for nobody.", hint=f"{FIRST} is whoever speaks first, {OTHERS} everybody else."
            )
        roles[name.strip().lower()] = value
    return roles


def _found(given: str, columns: Sequence[str], dropped: Collection[str] = ()) -> str:
    found = next((column for column in columns if column == given), None)
    found = found or next((column for column in columns if plain(column) == plain(given)), None)
    place = _PLACE.fullmatch(given)
    if found is None and place is not None and int(place[1]) <= len(columns):
        found = columns[int(place[1]) - 1]
    if found is None:
        shown = ", ".join(f"'{name[:40]}'" for name in columns[:20] if name not in dropped)
        raise UnknownLayout(f"There is no column '{given[:40]}'. The columns are: {shown}.", hint="Check the spelling.")
    if found in dropped:
        raise InvalidValue(f"Column '{given[:40]}' is dropped and used at once.", hint="Leave one of them out.")
    return found


def _named_layout(named: Mapping[str, str], roles: Mapping[str, str], records: Records, split: str | None) -> Layout:
    given = set(named) - {"split", "system"}
    common: dict[str, Any] = {"system": named.get("system"), "split": named.get("split", split)}
    if given == {"text"} and "system" not in named:
        return Layout("mapped", text=named["text"], split=common["split"])
    if given in ({"prompt", "completion"}, {"prompt", "completion", "context"}):
        prompt, completion = named["prompt"], named["completion"]
        return Layout("mapped", prompt=prompt, completion=completion, context=named.get("context"), **common)
    if given in ({"chosen", "rejected"}, {"prompt", "chosen", "rejected"}):
        chosen, rejected = named["chosen"], named["rejected"]
        return Layout("mapped", prompt=named.get("prompt"), chosen=chosen, rejected=rejected, **common)
    if given == {"conversation"}:
        column = named["conversation"]
        return Layout("mapped", conversation=column, form=_form(column, records), roles=roles, **common)
    if given in ({"conversation", "role", "content"}, {"conversation", "role", "content", "order"}):
        grouping = Grouping(named["conversation"], named["role"], named["content"], named.get("order"))
        return Layout("grouped_messages", conversation="messages", roles=roles, grouping=grouping, **common)
    if given & {"role", "content", "order"}:
        raise InvalidValue(
            "One message a row needs 'conversation', 'role' and 'content', and may have 'order'.",
            hint="For example: --map conversation=ticket --map role=author --map content=message --map order=time",
        )
    raise InvalidValue(
        "A mapping needs 'text' alone, both 'prompt' and 'completion', 'chosen' and 'rejected', or 'conversation'.",
        hint=_EXAMPLE,
    )


def _form(column: str, records: Records) -> str:
    values = [record[column] for record in records if record.get(column)]
    if any(isinstance(value, list) and all(isinstance(turn, str) for turn in value) for value in values):
        return "alternating"
    if any(isinstance(value, str) and not value.lstrip().startswith("[") for value in values):
        return "transcript"
    return "turns"
