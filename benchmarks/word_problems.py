"""Made-up rows of questions and answers, for whoever has no data at hand: lengths spread as in GSM8K."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

_PEOPLE = ("Mara", "Jonas", "Lin", "Tariq", "Elena", "Kofi", "Ingrid", "Pablo")
_THINGS = ("apples", "stamps", "marbles", "pencils", "tickets", "shells", "buttons", "postcards")
_PLACES = ("at the market", "from a neighbour", "on the way to school", "in a box under the stairs", "at the fair")


def questions_and_answers(data: Path | None) -> Iterator[tuple[str, str]]:
    """The rows of a JSONL file with ``question`` and ``answer``, or without one as many made-up rows as are taken."""
    if data is None:
        draw = random.Random(0)
        while True:
            yield _made_up(draw)
    with data.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield row["question"], row["answer"]


def _made_up(draw: random.Random) -> tuple[str, str]:
    person, thing = draw.choice(_PEOPLE), draw.choice(_THINGS)
    count = draw.randint(3, 90)
    told = [f"{person} starts the week with {count} {thing}."]
    reckoned = [f"{person} has {count} {thing} at first."]
    for day in range(1, 2 + min(9, int(draw.expovariate(0.4)))):
        more, place = draw.randint(2, 60), draw.choice(_PLACES)
        told.append(f"On day {day} {person} gets {more} more {thing} {place}.")
        reckoned.append(
            f"After day {day} there are {count} + {more} = <<{count}+{more}={count + more}>>{count + more}."
        )
        count += more
    told.append(f"How many {thing} does {person} have in the end?")
    return " ".join(told), "\n".join([*reckoned, f"#### {count}"])
