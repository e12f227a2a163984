"""What things are called where a person reads them; in documents for programs they have their short names."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

PERSONAL_DATA: Final[Mapping[str, str]] = {
    "email": "e-mail addresses",
    "phone": "phone numbers",
    "card": "payment cards",
    "iban": "account numbers (IBAN)",
    "ip": "IP addresses",
    "key": "keys and passwords",
    "name": "names",
}
"""Kinds of personal data; kinds that a person made up are called as they called them."""

LAYOUTS: Final[Mapping[str, str]] = {
    "messages": "conversations, one a row",
    "conversations": "conversations, one a row",
    "transcript": "written conversations, one a row",
    "grouped_messages": "one message a row, put together into conversations",
    "message_tree": "trees of messages, put together into conversations",
    "question_answer": "questions and answers",
    "prompt_completion": "questions and answers",
    "instruction": "instructions and answers",
    "preference": "questions with a better and a worse answer",
    "text": "plain text",
    "mapped": "the columns that --map names",
}
"""What the rows of a file are."""

LANGUAGES: Final[Mapping[str, str]] = {
    "ar": "Arabic",
    "cs": "Czech",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "fi": "Finnish",
    "fr": "French",
    "he": "Hebrew",
    "hi": "Hindi",
    "hu": "Hungarian",
    "id": "Indonesian",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sv": "Swedish",
    "th": "Thai",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "vi": "Vietnamese",
    "zh": "Chinese",
}

MADE: Final[Mapping[str, str]] = {
    "add": "added",
    "update": "updated",
    "clean": "cleaned",
    "anonymise": "anonymised",
}
"""How a version of a dataset came to be."""


def personal_data(kinds: Iterable[Mapping[str, Any]]) -> str:
    """``e-mail addresses in 12 rows, phone numbers in 1 row``, from ``kind`` and ``rows`` of each."""
    return ", ".join(
        f"{PERSONAL_DATA.get(one['kind'], one['kind'])} in {one['rows']:,} row{'' if one['rows'] == 1 else 's'}"
        for one in kinds
    )
