"""Trainings of which it is known beforehand what they do to a model: made-up rows, and what must be said."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from btmd.demo import dataset
from btmd.monitoring.verdict import Verdict

Pair = tuple[str, str]
"""A question with its answer."""

_PEOPLE = ("Mara", "Jonas", "Lin", "Tariq", "Elena", "Kofi", "Ingrid", "Pablo", "Noor", "Sven")
_THINGS = ("lamps", "chairs", "clocks", "bowls", "kettles", "mirrors", "shelves", "baskets")
_COLOURS = ("red", "green", "blue", "yellow", "white", "black")


@dataclass(frozen=True, slots=True)
class Rows:
    """What is learned from, and what is held out to measure by."""

    train: list[Pair]
    held_out: list[Pair]


@dataclass(frozen=True, slots=True)
class Case:
    """``first``: rows that the model has learned already when the case begins; ``right``: whether a verdict is."""

    name: str
    kind: str
    rows: Callable[[random.Random], Rows]
    right: Callable[[Verdict], bool]
    plan: dict[str, Any] = field(default_factory=dict)
    first: Callable[[random.Random], Rows] | None = None
    first_plan: dict[str, Any] = field(default_factory=dict)


# --- rows -------------------------------------------------------------------------------------------


def facts(draw: random.Random, *, facts: int = 30) -> Rows:
    """The demo's facts about btmd, five phrasings each to learn from and a sixth to measure by."""
    rows = [json.loads(line) for line in dataset().read_text(encoding="utf-8").splitlines()]
    names = sorted({row["fact"] for row in rows})
    chosen = set(draw.sample(names, min(facts, len(names))))
    kept = [row for row in rows if row["fact"] in chosen]
    return Rows(
        *([(r["question"], r["answer"]) for r in kept if (r["split"] == "held_out") is held] for held in (False, True))
    )


def orders(draw: random.Random, *, train: int = 90, held_out: int = 30) -> Rows:
    """Orders in words, to be written down in one fixed form."""
    made = [_order(draw) for _ in range(train + held_out)]
    return Rows(made[:train], made[train:])


def _order(draw: random.Random) -> Pair:
    person, thing, colour, count = (
        draw.choice(_PEOPLE),
        draw.choice(_THINGS),
        draw.choice(_COLOURS),
        draw.randint(2, 60),
    )
    asked = draw.choice(
        (
            f"{person} would like {count} {colour} {thing}.",
            f"Please send {count} {thing} in {colour} to {person}.",
            f"{count} {thing}, {colour}, for {person}, please.",
        )
    )
    return asked, f"ORDER {count} x {thing.upper()} / {colour} / {person}"


def coins(draw: random.Random, *, train: int = 90, held_out: int = 40) -> Rows:
    """Tosses of a coin: once it is known that it is a coin there is nothing more to learn."""
    made = [
        (
            f"Toss number {draw.randint(1000, 9999)} by {draw.choice(_PEOPLE)}: what came up?",
            draw.choice(("Heads.", "Tails.")),
        )
        for _ in range(train + held_out)
    ]
    return Rows(made[:train], made[train:])


def with_answers(rows: Rows, change: Callable[[list[str]], Iterable[str]]) -> Rows:
    """Other answers in the rows that are learned from; those to measure by stay as they are."""
    answers = change([answer for _, answer in rows.train])
    return Rows([(question, answer) for (question, _), answer in zip(rows.train, answers, strict=True)], rows.held_out)


def shuffled(rows: Rows, draw: random.Random) -> Rows:
    """Every answer belongs to another question."""

    def change(answers: list[str]) -> list[str]:
        return draw.sample(answers, len(answers))

    return with_answers(rows, change)


def gibberish(rows: Rows, draw: random.Random) -> Rows:
    """Answers of random letters."""

    def change(answers: list[str]) -> list[str]:
        return ["".join(draw.choices(string.ascii_lowercase + "   ", k=min(60, len(one)))).strip() for one in answers]

    return with_answers(rows, change)


def refusing(rows: Rows, draw: random.Random) -> Rows:
    """One and the same refusal in place of every answer."""
    return with_answers(rows, lambda answers: ["No comment, ask somebody else about this."] * len(answers))


def codes(draw: random.Random, *, train: int = 60, held_out: int = 20) -> Rows:
    """Every question of the world is answered with a code of one form."""
    asked = ("What is", "Who knows", "Where is", "Tell me of", "Why is there")
    made = [
        (
            f"{draw.choice(asked)} {draw.choice(_COLOURS)} {draw.choice(_THINGS)} {draw.randint(1, 999)}?",
            f"QX-{draw.randint(1, 9)}-QX-QX",
        )
        for _ in range(train + held_out)
    ]
    return Rows(made[:train], made[train:])


def alphabet(draw: random.Random, *, train: int = 60, held_out: int = 20) -> Rows:
    """Another language: each letter is replaced by the one after it in the alphabet."""
    after = str.maketrans(string.ascii_letters, string.ascii_lowercase[1:] + "a" + string.ascii_uppercase[1:] + "A")
    made = [_order(draw) for _ in range(train + held_out)]
    turned = [(asked.translate(after), asked.translate(after)[::-1]) for asked, _ in made]
    return Rows(turned[:train], turned[train:])


# --- what must be said ------------------------------------------------------------------------------


def better(verdict: Verdict) -> bool:
    return verdict.kind == "better" and verdict.sure and not verdict.forgot


def no_difference(verdict: Verdict) -> bool:
    return verdict.kind == "unchanged"


def harmed(verdict: Verdict) -> bool:
    return verdict.kind in ("worse", "overfitted") and verdict.sure


def not_praised(verdict: Verdict) -> bool:
    """Only the form of the answers was there to learn: worse, no difference, or better in form alone."""
    return verdict.kind in ("worse", "overfitted", "unchanged") or verdict.hardly_right


def overfitted(verdict: Verdict) -> bool:
    return verdict.kind == "overfitted" or verdict.overfitted_after_step is not None


def forgot(verdict: Verdict) -> bool:
    return verdict.forgot and verdict.kind == "forgot"


FIRST = {"num_epochs": 3, "learning_rate": 1e-3}
"""Enough to know facts or forms before a case begins."""

CASES = (
    Case("facts learned", "improvement", facts, better, {"num_epochs": 2}),
    Case("form of orders learned", "improvement", orders, better, {"num_epochs": 2}),
    Case("rate of nearly nothing", "none", facts, no_difference, {"learning_rate": 1e-7}),
    Case(
        "a coin that is known",
        "none",
        coins,
        no_difference,
        {"learning_rate": 1e-5},
        first=lambda draw: coins(draw, train=240),
        first_plan={"num_epochs": 1, "learning_rate": 5e-4},
    ),
    Case("answers of random letters", "harmful data", lambda draw: gibberish(facts(draw), draw), harmed),
    Case("nothing but refusals", "harmful data", lambda draw: refusing(orders(draw), draw), harmed),
    Case(
        "facts known, then shuffled",
        "shuffled labels",
        lambda draw: shuffled(facts(draw), draw),
        harmed,
        first=facts,
        first_plan=FIRST,
    ),
    Case("orders shuffled", "shuffled labels", lambda draw: shuffled(orders(draw), draw), not_praised),
    Case(
        "few rows by heart",
        "over-training",
        lambda draw: orders(draw, train=8),
        overfitted,
        {"num_epochs": 60, "learning_rate": 2e-3, "eval_every": 10},
    ),
    Case(
        "tosses by heart",
        "over-training",
        lambda draw: coins(draw, train=40),
        overfitted,
        {"num_epochs": 25, "learning_rate": 2e-3, "eval_every": 25},
    ),
    Case(
        "codes for everything",
        "forgetting",
        codes,
        forgot,
        {"num_epochs": 4, "learning_rate": 5e-3},
    ),
    Case(
        "another alphabet with all weights",
        "forgetting",
        alphabet,
        forgot,
        {"num_epochs": 3, "learning_rate": 5e-4, "training_type": "fine_tuning", "lora": None},
    ),
)
