"""Looks at rows one by one: which faults each has by itself, and what is needed to judge it beside the others."""

import heapq
import math
from collections import Counter, defaultdict
from typing import Final

from msgspec import Struct, field

from btmd.data.languages import language_of
from btmd.data.rows import Row
from btmd.data.text_faults import damage_of, has_wrong_line_ends, is_placeholder, looks_cut_off, repeats_question
from btmd.inspection.quality_facts import LISTED, Listed

ROW_FAULTS: Final = (
    "mojibake",
    "lost_characters",
    "control_characters",
    "line_ends",
    "placeholder_answers",
    "repeated_questions",
)
"""Those that a row has whatever the others are like, in the order in which a cleaning counts them."""

_SHORT_WORDS: Final = 2
_LONG_ANSWER_CHARS: Final = 80
_SHORTEST_MEDIAN_WORDS: Final = 20
_MOST_OPEN_SHARE: Final = 0.2
_FEWEST_ANSWERS: Final = 20
_MOST_ANSWERS_KEPT: Final = 50_000
_LABEL_CHARS: Final = 200
_FEWEST_OF_LANGUAGE: Final = 3
_LEAST_SHARE_OF_LANGUAGE: Final = 0.01
_LONG_FACTOR: Final = 20
_STEPS_PER_DOUBLING: Final = 8
_LEAST_SAME_SHARE: Final = 0.6


def question_and_answer(row: Row) -> tuple[str, str | None]:
    """The last question, and the last answer or None."""
    question, answer = "", None
    for message in row.get("messages", ()):
        if message["role"] == "assistant":
            answer = message["content"]
        elif message["role"] == "user":
            question = message["content"]
    return question, answer


def texts_of(row: Row) -> list[str]:
    """Every text of the row."""
    texts = [message["content"] for message in (*row.get("messages", ()), *row.get("rejected", ()))]
    return [*texts, row["text"]] if "text" in row else texts


def faults_of(row: Row) -> set[str]:
    """Those of `ROW_FAULTS` that the row has."""
    found: set[str] = set()
    for text in texts_of(row):
        damage = damage_of(text)
        if damage:
            found.add(damage)
        if has_wrong_line_ends(text):
            found.add("line_ends")
    question, answer = question_and_answer(row)
    if answer is not None:
        if is_placeholder(answer):
            found.add("placeholder_answers")
        elif repeats_question(question, answer):
            found.add("repeated_questions")
    return found


def is_short(answer: str) -> bool:
    """Whether an answer has one or two words."""
    return answer.count(" ") < _SHORT_WORDS and len(answer.split()) <= _SHORT_WORDS


def language_of_row(row: Row) -> str:
    """The language of its answer, else that of its question or text."""
    question, answer = question_and_answer(row)
    return language_of(answer or "") or language_of(question or texts_of(row)[-1])


class Some(Struct):
    """Rows of one kind as they go by."""

    count: int = 0
    lines: list[int] = field(default_factory=list)

    def add(self, line: int) -> None:
        self.count += 1
        if len(self.lines) < LISTED:
            self.lines.append(line)

    def merge(self, other: "Some") -> None:
        self.count += other.count
        self.lines = sorted(self.lines + other.lines)[:LISTED]

    def listed(self) -> Listed:
        return Listed(self.count, tuple(self.lines))


class Look(Struct):
    """What was seen of some rows; those of several workers are put together with :meth:`merge`."""

    rows: int = 0
    faults: defaultdict[str, Some] = field(default_factory=lambda: defaultdict(Some))
    languages: defaultdict[str, Some] = field(default_factory=lambda: defaultdict(Some))
    answers: int = 0
    answer_words: Counter[int] = field(default_factory=Counter)
    """Answers by their number of words, a hundred for all that are longer."""
    short: Some = field(default_factory=Some)
    long_answers: int = 0
    open_ends: Some = field(default_factory=Some)
    said: dict[int, Some] = field(default_factory=dict)
    """Short answers by their hash, the most frequent ones once there are very many."""
    said_forgotten: bool = False
    lengths: Counter[int] = field(default_factory=Counter)
    """Rows by the logarithm of their characters."""
    longest: list[tuple[int, int]] = field(default_factory=list)
    """The longest rows: characters and minus the line; a heap."""

    def take(self, row: Row) -> None:
        line = row["line"]
        self.rows += 1
        for fault in faults_of(row):
            self.faults[fault].add(line)
        texts = texts_of(row)
        chars = sum(map(len, texts))
        self.lengths[_step(chars)] += 1
        push = heapq.heappush if len(self.longest) < LISTED else heapq.heappushpop
        push(self.longest, (chars, -line))
        self.languages[language_of_row(row)].add(line)
        _, answer = question_and_answer(row)
        if answer is not None:
            self._take_answer(answer, line)

    def _take_answer(self, answer: str, line: int) -> None:
        self.answers += 1
        self.answer_words[min(answer.count(" ") + 1, 100)] += 1
        if is_short(answer):
            self.short.add(line)
        if len(answer) >= _LONG_ANSWER_CHARS:
            self.long_answers += 1
            if looks_cut_off(answer):
                self.open_ends.add(line)
        if len(answer) <= _LABEL_CHARS:
            self.said.setdefault(hash(answer.strip().lower()), Some()).add(line)
            if len(self.said) > _MOST_ANSWERS_KEPT:
                self._forget_rare()

    def _forget_rare(self) -> None:
        self.said_forgotten = True
        self.said = {key: some for key, some in self.said.items() if some.count > 2}
        if len(self.said) > _MOST_ANSWERS_KEPT // 2:
            most = sorted(self.said.items(), key=lambda item: -item[1].count)
            self.said = dict(most[: _MOST_ANSWERS_KEPT // 4])

    def merge(self, other: "Look") -> None:
        """Put what another worker saw in. Workers are forked from one process, so their hashes agree."""
        self.rows += other.rows
        for mine, others in ((self.faults, other.faults), (self.languages, other.languages)):
            for kind, some in others.items():
                mine[kind].merge(some)
        self.answers += other.answers
        self.answer_words += other.answer_words
        self.short.merge(other.short)
        self.long_answers += other.long_answers
        self.open_ends.merge(other.open_ends)
        for key, some in other.said.items():
            self.said.setdefault(key, Some()).merge(some)
        self.said_forgotten = self.said_forgotten or other.said_forgotten
        self.lengths += other.lengths
        self.longest = heapq.nlargest(LISTED, self.longest + other.longest)

    def found(self) -> dict[str, Listed]:
        """By kind, those that a row has by itself and those that it has beside the others."""
        found = {kind: some.listed() for kind, some in self.faults.items()}
        found |= self._odd_answers() | self._other_languages() | self._long_rows()
        return {kind: listed for kind, listed in found.items() if listed.count}

    def _odd_answers(self) -> dict[str, Listed]:
        found = {}
        # Where answers are short by nature, as those of a classification are, a short one is none the worse.
        if self.answers and _median(self.answer_words) >= _SHORTEST_MEDIAN_WORDS:
            found["short_answers"] = self.short.listed()
        # Where many answers end without a full stop that is how they are written.
        if self.open_ends.count <= _MOST_OPEN_SHARE * self.long_answers:
            found["cut_off_answers"] = self.open_ends.listed()
        most = max(self.said.values(), key=lambda some: some.count, default=Some())
        if self.answers >= _FEWEST_ANSWERS and most.count >= _LEAST_SAME_SHARE * self.answers:
            found["same_answer"] = most.listed()
        return found

    @property
    def minor_languages(self) -> tuple[str, ...]:
        """Languages of some rows, not of most; one of hardly any rows was more likely mistaken."""
        known = {language: some.count for language, some in self.languages.items() if language}
        fewest = max(_FEWEST_OF_LANGUAGE, _LEAST_SHARE_OF_LANGUAGE * sum(known.values()))
        main = max(known, key=lambda language: known[language], default="")
        return tuple(sorted(one for one, count in known.items() if one != main and count >= fewest))

    def _other_languages(self) -> dict[str, Listed]:
        others = Some()
        for language in self.minor_languages:
            others.merge(self.languages[language])
        return {"other_language": others.listed()}

    def _long_rows(self) -> dict[str, Listed]:
        limit = _LONG_FACTOR * max(1, self.median_chars)
        count = sum(rows for step, rows in self.lengths.items() if _chars(step) >= limit)
        return {
            "long_rows": Listed(count, tuple(sorted(-line for chars, line in self.longest if chars >= limit)[:count]))
        }

    @property
    def median_chars(self) -> int:
        """What half of the rows are at most as long as, in characters, within a tenth."""
        return _chars(_median(self.lengths)) if self.lengths else 0

    @property
    def longest_share(self) -> float:
        """Of all characters, how many the longest hundredth of the rows holds, about."""
        total = sum(_chars(step) * rows for step, rows in self.lengths.items())
        left, held = max(1, self.rows // 100), 0
        for step, rows in sorted(self.lengths.items(), reverse=True):
            held += _chars(step) * min(left, rows)
            left -= min(left, rows)
        return round(held / total, 4) if total else 0.0


def _step(chars: int) -> int:
    return round(math.log2(chars + 1) * _STEPS_PER_DOUBLING)


def _chars(step: int) -> int:
    return round(2 ** (step / _STEPS_PER_DOUBLING)) - 1


def _median(counted: Counter[int]) -> int:
    half, seen = sum(counted.values()) / 2, 0
    for value, count in sorted(counted.items()):
        seen += count
        if seen >= half:
            return value
    return 0
