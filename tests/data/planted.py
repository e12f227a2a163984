"""Made-up conversations with near-duplicates planted among them, and with pairs that only look like ones."""

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from btmd.data.near_duplicates import SignatureFile, groups_of
from btmd.data.rows import Row

_SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "ar", "en", "il", "or")]


@dataclass
class Planted:
    """Rows, and for each the number of the original that it says again; its own where it is one of a kind."""

    rows: list[Row] = field(default_factory=list)
    same_as: list[int] = field(default_factory=list)

    def add(self, question: str, answer: str, same_as: int | None = None) -> int:
        number = len(self.rows)
        self.rows.append(as_row(question, answer, line=number + 1))
        self.same_as.append(number if same_as is None else same_as)
        return number


def as_row(question: str, answer: str, *, line: int = 1, system: str = "") -> Row:
    turns = [("system", system), ("user", question), ("assistant", answer)]
    return Row(line=line, messages=[{"role": role, "content": text} for role, text in turns if text])


class Writer:
    """Writes sentences of made-up words, frequent ones and rare ones, with a number here and there."""

    def __init__(self, draw: random.Random, words: int = 5000) -> None:
        self.draw = draw
        self._words = ["".join(draw.choice(_SYLLABLES) for _ in range(draw.randint(1, 4))) for _ in range(words)]

    def word(self) -> str:
        return self._words[min(len(self._words) - 1, int(20 * self.draw.paretovariate(0.5)) - self.draw.randrange(20))]

    def name(self) -> str:
        """A rare word: no two texts have one in common by chance."""
        return "".join(self.draw.choice(_SYLLABLES) for _ in range(6))

    def sentences(self, fewest: int, most: int) -> list[str]:
        return [self._sentence() for _ in range(self.draw.randint(fewest, most))]

    def _sentence(self) -> str:
        words = [self.word() for _ in range(self.draw.randint(7, 14))]
        if self.draw.random() < 0.4:
            words[self.draw.randrange(len(words))] = str(self.draw.randint(2, 999))
        return " ".join(words).capitalize() + "."


Edit = Literal["case", "punctuation", "order", "words", "white space"]
EDITS: tuple[Edit, ...] = ("case", "punctuation", "order", "words", "white space")


def edited(sentences: list[str], edit: Edit, writer: Writer) -> str:
    """The same text after an edit that leaves what it says."""
    draw = writer.draw
    text = " ".join(sentences)
    if edit == "case":
        return text.upper() if draw.random() < 0.5 else text.lower()
    if edit == "punctuation":
        return text.replace(".", draw.choice(["!", ";", " -", "..."]))
    if edit == "order":
        return " ".join(draw.sample(sentences, len(sentences)))
    if edit == "white space":
        return text.replace(" ", "  ").replace(".", ".\n")
    words = text.split()
    # Up to one word in sixteen: another word, left out, or put in.
    for _ in range(max(1, len(words) // draw.randint(16, 40))):
        at = draw.randrange(len(words))
        if not any(mark.isdigit() for mark in words[at]):
            words[at : at + 1] = draw.choice([[writer.word()], [], [words[at], writer.word()]])
    return " ".join(words)


def plant(seed: int, originals: int) -> Planted:
    """About 2.5 rows an original: a near-duplicate of one in two, and something that only looks like one of each."""
    draw = random.Random(seed)
    writer = Writer(draw)
    planted = Planted()
    passages = [" ".join(writer.sentences(8, 12)) for _ in range(20)]
    for _ in range(originals):
        question, answer = writer.sentences(3, 6), writer.sentences(3, 7)
        number = planted.add(" ".join(question), " ".join(answer))
        if draw.random() < 0.5:
            edit = draw.choice(EDITS)
            planted.add(edited(question, edit, writer), edited(answer, edit, writer), same_as=number)
        _add_look_alike(planted, writer, question, answer, passages)
    order = draw.sample(range(len(planted.rows)), len(planted.rows))
    place = {number: index for index, number in enumerate(order)}
    return Planted([planted.rows[one] for one in order], [place[planted.same_as[one]] for one in order])


def _add_look_alike(
    planted: Planted, writer: Writer, question: list[str], answer: list[str], passages: list[str]
) -> None:
    draw = writer.draw
    kind = draw.choice(["number", "other answer", "same passage", "same form", "short", "half", "label"])
    if kind == "number":
        numbered = [*question, f"They counted {draw.randint(1000, 9999)} in all."]
        planted.add(" ".join(numbered), " ".join(answer))
        numbered[-1] = f"They counted {draw.randint(10000, 99999)} in all."
        planted.add(" ".join(numbered), " ".join(answer))
    elif kind == "other answer":
        planted.add(" ".join(question), " ".join(writer.sentences(3, 7)))
    elif kind == "same passage":
        asked = " ".join(writer.word() for _ in range(8))
        planted.add(f"{draw.choice(passages)} {asked}?", " ".join(writer.sentences(2, 4)))
    elif kind == "label":
        asked = f"What is the mood of somebody who writes in a letter to us: {writer.name()} {writer.name()}?"
        planted.add(asked, draw.choice(["positive", "negative"]))
    elif kind == "half":
        cut = [*question[: len(question) // 2], *writer.sentences(2, 3)]
        planted.add(" ".join(cut), " ".join([*answer[: len(answer) // 2], *writer.sentences(2, 4)]))
    elif kind == "same form":
        one = writer.name()
        planted.add(f"What is the largest town of {one}?", f"The largest town of {one} is {writer.name()}.")
    else:
        planted.add(f"{writer.name()} or {writer.name()}?", draw.choice(["Yes.", "No.", writer.name()]))


def told_apart(planted: Planted, folder: Path) -> tuple[float, float]:
    """Recall and precision of the search for near-duplicates among planted rows."""
    signed = SignatureFile(folder)
    for number, row in enumerate(planted.rows):
        signed.take(number, row)
    found = groups_of([signed], folder).labels().tolist()
    repeats = [number for number, of in enumerate(planted.same_as) if of != number]
    hit = sum(found[number] == found[planted.same_as[number]] for number in repeats)
    told = sum(size - 1 for size in Counter(found).values())
    return hit / len(repeats), hit / told
