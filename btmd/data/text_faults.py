"""What is wrong with a single text, whatever the others are like: damage that training would teach."""

import re
from typing import Final

_REPLACEMENT: Final = "\ufffd"
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
# Characters that the bytes 0x80 to 0xBF become when they are read as Windows-1252.
_CONTINUING: Final = (
    "[\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]"
)
_DOUBLE_READ: Final = re.compile(f"[\u00c2-\u00f4]{_CONTINUING}+")
_FEWEST_RARE: Final = 3
_ESCAPED_BREAK: Final = re.compile(r"(?<!\\)\\n")
_FEWEST_ESCAPED: Final = 2
_PLACEHOLDERS: Final = frozenset(
    (
        "n/a",
        "na",
        "none",
        "null",
        "nil",
        "nan",
        "todo",
        "tbd",
        "tba",
        "undefined",
        "xxx",
        "lorem ipsum",
        "#n/a",
        "#ref!",
    )
)
_LONG_CHARS: Final = 80
_LIST_ITEM: Final = re.compile(r"\s*(?:[-*•+]|\d+[.)]|\|)\s*\S")
_OPEN_ENDS: Final = frozenset(",;(-–[{&+/")
_OPEN_WORDS: Final = frozenset(
    ("and", "or", "the", "a", "of", "to", "und", "oder", "der", "die", "et", "de", "la", "y", "el")
)
_LEAST_REPEATED_WORDS: Final = 4


def damage_of(text: str) -> str:
    """``lost_characters`` (marks in their place), ``mojibake`` (read wrongly), ``control_characters`` or nothing."""
    if _REPLACEMENT in text:
        return "lost_characters"
    if not text.isascii() and _is_mojibake(text):
        return "mojibake"
    return "control_characters" if _CONTROLS.search(text) else ""


def _is_mojibake(text: str) -> bool:
    rare = 0
    for match in _DOUBLE_READ.finditer(text):
        if not _reads_as_utf8(match.group()):
            continue
        # These come of accents and quotes in Western text; others, an É before ™ say, meet by chance too.
        if match.group()[0] in "ÂÃâð":
            return True
        rare += 1
        if rare >= _FEWEST_RARE:
            return True
    return False


def _reads_as_utf8(text: str) -> bool:
    raw = bytearray()
    for mark in text:
        try:
            raw += mark.encode("cp1252")
        except UnicodeEncodeError:
            if ord(mark) > 0xFF:
                return False
            raw.append(ord(mark))
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        # More letters may follow the last character of a word, and belong to nothing.
        return error.start > 0
    return True


def has_wrong_line_ends(text: str) -> bool:
    """Whether lines end with a carriage return, or with the two characters that stand for a line break in code."""
    if "\r" in text:
        return True
    return "\\n" in text and "\n" not in text and len(_ESCAPED_BREAK.findall(text)) >= _FEWEST_ESCAPED


def is_placeholder(answer: str) -> bool:
    """Whether an answer stands for one that is missing: no letter or digit in it, or a word such as N/A."""
    said = answer.strip().lower()
    return said in _PLACEHOLDERS or not any(mark.isalnum() or ord(mark) >= 0x2190 for mark in said)


def looks_cut_off(answer: str) -> bool:
    """Whether a long answer ends in the middle of a sentence or of a block of code."""
    said = answer.rstrip()
    if len(said) < _LONG_CHARS:
        return False
    if said.count("```") % 2:
        return True
    last_line = said[said.rfind("\n") + 1 :]
    if "```" in said and last_line.strip() == "```":
        return False
    if _LIST_ITEM.match(last_line):
        return False
    last_word = last_line.rsplit(None, 1)[-1]
    if said[-1] in _OPEN_ENDS or last_word.lower() in _OPEN_WORDS:
        return True
    # A heading or a verse is short; a sentence that breaks off stands in a long line.
    return said[-1].isalpha() and len(last_line) >= _LONG_CHARS and " " in last_line


def repeats_question(question: str, answer: str) -> bool:
    """Whether an answer is the question over again, with little behind it."""
    if not 0.6 * len(question) <= len(answer) <= len(question) + 40:
        return False
    asked, said = (" ".join(re.findall(r"\w+", text.lower())) for text in (question, answer))
    if asked.count(" ") + 1 < _LEAST_REPEATED_WORDS:
        return False
    beyond = said[len(asked) :].split()
    return said.startswith(asked) and len(beyond) <= 1
