"""What could steer a terminal in text from elsewhere, shown and not obeyed: names, paths, notes, errors of others."""

import json


def clean(text: str, keep: str = "") -> str:
    """The text in one line, with every character that is none to be seen as ``\\x1b``; but for those in ``keep``."""
    if text.isprintable():
        return text
    return "".join(letter if letter in keep or letter.isprintable() else _visible(letter) for letter in text)


def clean_json(document: str) -> str:
    """A JSON document that says the same, with every such character escaped; line breaks stay."""
    if document.isprintable():
        return document
    return "".join(one if one == "\n" or one.isprintable() else json.dumps(one)[1:-1] for one in document)


def _visible(letter: str) -> str:
    return " " if letter in "\n\r\t" else f"\\x{ord(letter):02x}"
