"""From what was found out about a dataset to a report: findings, what each means and what helps, and one score.

Pure: the same facts give the same report. A share is taken of the rows that have no fault for which they would be
dropped, so that dropping rows with a fault never lowers the score.
"""

from collections.abc import Iterator
from math import prod
from typing import Final, Literal

import msgspec
from msgspec import Struct

from btmd.inspection.facts import DatasetFacts, PersonalData, TokenFacts
from btmd.inspection.quality_facts import LISTED, Listed, QualityFacts
from btmd.vocabulary import PERSONAL_DATA

Severity = Literal["serious", "warning", "note"]
Part = Literal["completeness", "variety", "text", "answers", "fit", "held_out", "balance", "privacy"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something to know about a dataset, in words, with rows to look at."""

    kind: str
    part: Part
    severity: Severity
    count: int
    """Rows."""
    share: float
    """Of all rows, 0 to 1."""
    lines: tuple[int, ...]
    """Where the first hundred begin in the source."""
    text: str
    meaning: str
    command: str
    """That helps; empty where only a person can."""
    gain: float
    """Points that the score would rise by without it."""


class ScorePart(msgspec.Struct, frozen=True, kw_only=True):
    """One aspect of the score, 0 to 100, and how many points of the whole it costs."""

    part: Part
    score: float
    costs: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What is good and bad in a dataset. ``score``: 0 to 100."""

    score: float
    parts: tuple[ScorePart, ...]
    findings: tuple[Finding, ...]
    """Those that cost most first."""


class Kind(Struct, frozen=True):
    """What a kind of finding is and how much it weighs: ``weight`` is lost where all rows are of it.

    ``drops``: rows of it are dropped by a cleaning and so take no part in the shares of the other kinds.
    """

    part: Part
    weight: float
    text: str
    meaning: str
    drops: bool = True
    drop: str = ""
    """What `clean --drop` calls it; empty where it cannot be dropped."""
    serious_share: float = 0.05
    """From this share of the rows on it is serious; never, above 1."""
    free_share: float = 0.0
    """Up to this share it is only told."""


KINDS: Final[dict[str, Kind]] = {
    "broken": Kind(
        "completeness", 0.6, "cannot be read", "They are left out: what stands in them is not learned.", drop="broken"
    ),
    "empty": Kind(
        "completeness", 0.4, "are empty in a column that matters", "They are left out.", drop="empty", serious_share=0.2
    ),
    "duplicates": Kind(
        "variety",
        0.6,
        "repeat an earlier row exactly",
        "They count as often as they stand there, and the model learns them by heart.",
        drop="duplicates",
        serious_share=0.1,
    ),
    "near_duplicates": Kind(
        "variety",
        0.5,
        "say nearly the same as an earlier row",
        "Case, punctuation or a few words differ; they teach little that is new.",
        drop="near_duplicates",
        serious_share=0.2,
    ),
    "mojibake": Kind(
        "text",
        0.8,
        "hold characters that were read in a wrong encoding (such as Ã¼ for ü)",
        "The model learns to write them so. Read the source again in its own encoding, or leave the rows out.",
        drop="mojibake",
        serious_share=0.01,
    ),
    "lost_characters": Kind(
        "text",
        0.6,
        "hold marks where characters were lost",
        "What stood there is gone; the model learns to write the mark. Read the source again, or leave the rows out.",
        drop="lost_characters",
        serious_share=0.01,
    ),
    "guessed_encoding": Kind(
        "text",
        0.0,
        "hold letters that were guessed: nothing in the file says that it is written in {encoding}",
        "Look at some. Where letters are wrong, name the right encoding: "
        "btmctl datasets update {dataset_id} --encoding windows-1250, say.",
        drops=False,
        serious_share=2,
    ),
    "control_characters": Kind(
        "text",
        0.4,
        "hold control characters",
        "They are no text, and the model learns to write them.",
        drop="control_characters",
    ),
    "line_ends": Kind(
        "text",
        0.2,
        "have line ends of another system, or \\n written out",
        "The model learns these marks as a part of its answers.",
        drop="line_ends",
        serious_share=0.5,
    ),
    "placeholder_answers": Kind(
        "answers",
        0.8,
        "have an answer that stands for a missing one, such as N/A",
        "The model learns to answer so.",
        drop="placeholder_answers",
        serious_share=0.02,
    ),
    "repeated_questions": Kind(
        "answers",
        0.8,
        "have an answer that repeats the question",
        "The model learns to echo what it is asked.",
        drop="repeated_questions",
        serious_share=0.02,
    ),
    "cut_off_answers": Kind(
        "answers",
        0.5,
        "have a long answer that breaks off",
        "The model learns to stop in the middle. Answers are often cut by the tool that exported them.",
        drop="cut_off_answers",
    ),
    "short_answers": Kind(
        "answers",
        0.2,
        "have an answer of one or two words, while most answers are long",
        "The model learns to be brief now and then; look whether these say enough.",
        drop="short_answers",
        serious_share=2,
        free_share=0.01,
    ),
    "too_long": Kind(
        "fit",
        0.6,
        "are longer than {max_length:,} tokens",
        "A training with this length leaves them out whole; a greater max_length takes them and more memory.",
        drop="too_long",
        serious_share=0.1,
    ),
    "nothing_learned": Kind(
        "fit",
        0.8,
        "have no token to learn",
        "Only the assistant's words are learned, and there are none in them.",
        drop="nothing_learned",
    ),
    "untemplated": Kind(
        "fit",
        0.8,
        "do not fit the model's chat template",
        "They are left out. Turns may be in an order that this model does not know.",
        drop="untemplated",
    ),
    "leaked": Kind(
        "held_out",
        0.7,
        "are trained on although the file holds them or their like out",
        "The held-out loss looks better than it is. The rows that are held out stay; leave these out.",
        drop="leaked",
        serious_share=0.001,
    ),
    "same_answer": Kind(
        "balance",
        0.4,
        "have one and the same answer",
        "The model may learn to give it whatever is asked. More rows with other answers help, or fewer of these.",
        drops=False,
        serious_share=0.8,
    ),
    "long_rows": Kind(
        "balance",
        0.15,
        "are twenty times as long as half of the rows",
        "They take most of the time and memory, and outweigh the short ones.",
        drops=False,
        serious_share=2,
        free_share=0.02,
    ),
    "other_language": Kind(
        "balance",
        0.1,
        "are in another language than most",
        "Meant so, it is no fault; otherwise the model may change the language in the middle.",
        drop="other_language",
        serious_share=2,
    ),
    "personal_data": Kind(
        "privacy",
        0.4,
        "hold personal data ({kinds})",
        "A trained model can repeat it to anybody who asks.",
        drops=False,
        serious_share=0.01,
    ),
}
DROPPABLE: Final = tuple(kind.drop for kind in KINDS.values() if kind.drop)
"""What `clean --drop` takes."""
NEEDS_MODEL: Final = ("too_long", "nothing_learned", "untemplated")
PARTS: Final[tuple[Part, ...]] = (
    "completeness",
    "variety",
    "text",
    "answers",
    "fit",
    "held_out",
    "balance",
    "privacy",
)
_ORDER: Final[tuple[Severity, ...]] = ("serious", "warning", "note")


class Known(Struct, frozen=True):
    """What is known of a version; what was not looked for is None."""

    dataset_id: str
    facts: DatasetFacts
    quality: QualityFacts | None = None
    tokens: TokenFacts | None = None
    max_length: int = 0
    """In tokens; what rows are compared with."""
    model_id: str = ""
    personal: PersonalData | None = None


def report_on(known: Known) -> Report:
    """Everything that was found, in words, and the score."""
    found = dict(_found(known))
    total = max(1, known.facts.rows_total)
    faulty = sum(listed.count for kind, listed in found.items() if KINDS[kind].drops)
    sound = max(0, total - faulty)
    kept = {kind: 1 - _loss(KINDS[kind], listed.count, sound) for kind, listed in found.items()}
    score = prod(kept.values())
    parts = []
    for part in PARTS:
        own = prod(value for kind, value in kept.items() if KINDS[kind].part == part)
        others = prod(value for kind, value in kept.items() if KINDS[kind].part != part)
        parts.append(ScorePart(part=part, score=_points(own), costs=_points(others - score)))
    findings = [
        _finding(known, kind, listed, total, gain=_points(_without(kept, kind) - score))
        for kind, listed in found.items()
    ]
    findings.sort(key=lambda one: (_ORDER.index(one.severity), -one.gain, one.kind))
    return Report(score=_points(score), parts=tuple(parts), findings=tuple(findings))


def _found(known: Known) -> Iterator[tuple[str, Listed]]:
    facts, quality, tokens, personal = known.facts, known.quality, known.tokens, known.personal
    told = {
        "broken": Listed(facts.rows_broken, tuple(row.line for row in facts.broken)),
        "empty": Listed(facts.rows_empty, facts.empty_lines),
        "guessed_encoding": Listed(facts.guessed_rows, facts.guessed_lines),
    }
    if quality is not None:
        told |= quality.found
    else:
        told |= {"duplicates": Listed(facts.duplicates), "lost_characters": Listed(facts.damaged_characters)}
    if tokens is not None:
        told["too_long"] = _too_long(tokens, known.max_length)
        told["nothing_learned"] = Listed(tokens.rows_nothing_learned, tokens.nothing_learned_lines)
        told["untemplated"] = Listed(tokens.rows_refused, tokens.refused_lines)
    if personal is not None:
        lines = sorted({line for kind in personal.kinds for line in kind.lines})
        told["personal_data"] = Listed(personal.rows_affected, tuple(lines[:LISTED]))
    return ((kind, told[kind]) for kind in KINDS if kind in told and told[kind].count > 0)


def _too_long(tokens: TokenFacts, max_length: int) -> Listed:
    count = next((one.rows_over for one in tokens.over if one.max_length == max_length), None)
    if count is None:
        # Rows are counted by lengths rounded up.
        count = sum(rows for length, rows in tokens.histogram.items() if length > max_length)
    lines = sorted(line for length, line in tokens.longest_rows if length > max_length)
    return Listed(count, tuple(lines[:count]))


def _loss(kind: Kind, count: int, sound: int) -> float:
    """The part of the score that a kind costs, 0 to ``weight``; more rows of it or fewer sound ones never cost less."""
    share = count / (count + sound) if kind.drops else min(1.0, count / max(1, sound))
    share = max(0.0, share - kind.free_share)
    # The first rows of a kind weigh more than the last: 1 % costs a fifth of the weight, 25 % a half and more.
    costs: float = kind.weight * min(1.0, (share**0.5 + share) / 2 * 1.15)
    return costs


def _finding(known: Known, kind: str, listed: Listed, total: int, *, gain: float) -> Finding:
    meant = KINDS[kind]
    share = min(1.0, listed.count / total)
    severity: Severity = "serious" if share >= meant.serious_share else "warning" if gain >= 0.5 else "note"
    personal = known.personal.kinds if known.personal is not None else ()
    kinds = ", ".join(PERSONAL_DATA.get(one.kind, one.kind) for one in personal)
    said = meant.text.format(max_length=known.max_length, kinds=kinds, encoding=known.facts.encoding)
    rows = f"{listed.count:,} rows"
    if listed.count == 1:
        verb, _, rest = said.partition(" ")
        rows, said = "1 row", f"{_OF_ONE.get(verb, verb)} {rest}"
    return Finding(
        kind=kind,
        part=meant.part,
        severity=severity,
        count=listed.count,
        share=round(share, 4),
        lines=listed.lines,
        text=f"{rows} ({_percent(share)}) {said}.",
        meaning=meant.meaning.format(dataset_id=known.dataset_id) + (_reasons(known.facts) if kind == "broken" else ""),
        command=_command(known, kind),
        gain=gain,
    )


_OF_ONE: Final = {
    "are": "is",
    "do": "does",
    "have": "has",
    "hold": "holds",
    "repeat": "repeats",
    "say": "says",
}


def _reasons(facts: DatasetFacts) -> str:
    most = list(facts.broken_reasons.items())[:3]
    return f" Why: {', '.join(f'{reason} ({count:,})' for reason, count in most)}." if most else ""


def _command(known: Known, kind: str) -> str:
    if kind == "personal_data":
        return f"btmctl datasets anonymise {known.dataset_id}"
    if kind == "guessed_encoding":
        line = f" --line {known.facts.guessed_lines[0]}" if known.facts.guessed_lines else ""
        return f"btmctl datasets preview {known.dataset_id}{line}"
    if not KINDS[kind].drop:
        return ""
    model = f" --model {known.model_id} --max-length {known.max_length}" if kind in NEEDS_MODEL else ""
    return f"btmctl datasets clean {known.dataset_id} --drop {KINDS[kind].drop}{model}"


def _percent(share: float) -> str:
    return "under 0.1 %" if share < 0.001 else f"{share:.1%}".replace("%", " %")


def _without(kept: dict[str, float], kind: str) -> float:
    share: float = prod(value for other, value in kept.items() if other != kind)
    return share


def _points(share: float) -> float:
    return round(100 * share, 1)
