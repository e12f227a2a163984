"""What a person says of a file itself, beside its columns: whether its first line holds names, and its characters.

It is kept with the columns, as ``{"file:header": "none"}``, ``{"file:encoding": "windows-1250"}`` and, of a folder,
``{"file:only": "tables"}``.
"""

import codecs
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from btmd.errors import InvalidValue

HEADER: Final = "file:header"
ENCODING: Final = "file:encoding"
ONLY: Final = "file:only"
NAMES, NONE = "names", "none"
"""What the first line of a table may be said to hold."""
TABLES, DOCUMENTS = "tables", "documents"
"""What of a folder may be said to be meant."""
_CODECS: Final = frozenset(
    (
        *("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "ascii"),
        *(f"cp{number}" for number in (*range(1250, 1259), 437, 737, 775, 850, 852, 855, 857, 858, 860, 861, 862)),
        *(f"cp{number}" for number in (863, 864, 865, 866, 869, 874, 932, 949, 950, 1125)),
        *(f"iso8859-{number}" for number in (*range(1, 12), *range(13, 17))),
        *("koi8-r", "koi8-u", "koi8-t", "mac-roman", "mac-latin2", "mac-cyrillic", "mac-greek", "mac-turkish"),
        *("gb18030", "gbk", "gb2312", "hz", "big5", "big5hkscs", "shift_jis", "shift_jis_2004", "euc_jp"),
        *("iso2022_jp", "euc_kr", "johab", "tis-620", "ptcp154", "kz1048"),
    )
)


class Told(Struct, frozen=True):
    """What was said of a file; None where nothing was."""

    has_header: bool | None = None
    encoding: str | None = None
    """As `encoding_named` spells it."""
    only: str | None = None
    """``tables`` or ``documents`` of a folder that has both."""


def told_by(mapping: Mapping[str, str] | None) -> tuple[Told, dict[str, str]]:
    """What a mapping says of the file, and the rest of it, which is about columns. Raises InvalidValue."""
    columns = dict(mapping or {})
    header, encoding, only = (columns.pop(key, None) for key in (HEADER, ENCODING, ONLY))
    if header not in (None, NAMES, NONE):
        raise InvalidValue(
            "What the first line holds cannot be understood.", hint=f"'{HEADER}' is '{NAMES}' or '{NONE}'."
        )
    if only not in (None, TABLES, DOCUMENTS):
        raise InvalidValue(
            "What of the folder is meant cannot be understood.", hint=f"'{ONLY}' is '{TABLES}' or '{DOCUMENTS}'."
        )
    has_header = None if header is None else header == NAMES
    return Told(has_header, None if encoding is None else encoding_named(encoding), only), columns


def encoding_named(name: str) -> str:
    """The encoding as it is shown: ``utf-8``, ``windows-1250``, ``iso8859-2``. Raises InvalidValue."""
    try:
        found = codecs.lookup(name.strip()).name
    except (LookupError, ValueError):
        found = ""
    if found not in _CODECS:
        raise InvalidValue(
            f"There is no encoding '{name[:40]}'.",
            hint="Possible are utf-8, utf-16, windows-1250 to windows-1258, iso-8859-1 to -16, koi8-r, cp437, cp852, "
            "gb18030, big5, shift_jis, euc_kr and the like.",
        )
    return f"windows-{found[2:]}" if found.startswith("cp125") else found
