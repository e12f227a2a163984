"""Tells in which of the codes of eight bits a text is written: by the letters of each language, then by small words.

One byte is another letter in each code, and every code can read every text. What tells is that the letters beyond ASCII
are all of one language's alphabet: read in a wrong code, some of them hardly ever are.
"""

import codecs
import re
from collections import Counter
from pathlib import Path
from typing import Final

from msgspec import Struct

from btmd.data.languages import language_of
from btmd.errors import DatasetEncoding, InvalidValue
from btmd.reading.told import ENCODING, encoding_named

_CHUNK_BYTES: Final = 1 << 20
_SAMPLE_BYTES: Final = 1 << 18
_LISTENED_LINES: Final = 300
_ASCII: Final = frozenset(range(128))
_LEAST_SHARE: Final = 0.95
_LEAST_LEAD: Final = 0.02
"""By which one code explains more letters than another for this to mean anything."""

_ALPHABETS: Final = {
    "cp1252": (
        *("äöüß", "àâæçéèêëîïôœùûü", "áéíñóúü¿¡ºª", "áâãàçéêíóôõúüºª", "àèéìíîòóùú", "æøåéòóôäö", "åäöéüšž"),
        *("áðéíóúýþæö", "áäéèêëíïóöü", "äõöüšž", "àçèéíïòóúü·"),
    ),
    "cp1250": ("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíľňóôšťúýž", "áéíóöőúüű", "čćđšž", "ăâîşţ"),
    "iso8859-2": ("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíľňóôšťúýž", "áéíóöőúüű", "čćđšž", "ăâîşţ"),
    "cp1254": ("çğıİöşüâîû",),
    "cp1257": ("ąčęėįšųūž", "āčēģīķļņšūž"),
}
"""Letters beyond ASCII of the languages that are written in each code; hardly ever used ones are left out."""
_LANGUAGES: Final = {
    "cp1252": frozenset(("en", "de", "fr", "es", "it", "pt", "nl", "sv", "da", "fi")),
    "cp1250": frozenset(("pl", "cs", "ro", "hu")),
    "iso8859-2": frozenset(("pl", "cs", "ro", "hu")),
    "cp1254": frozenset(("tr",)),
    "cp1257": frozenset[str](),
}
_WESTERN_MARKS: Final = frozenset("äöüßÄÖÜéèêëàâçîïôùûœÉÈÀÇñÑáíóúãõåøæÅØÆìò‘’“”„–—…«»€°§¿¡\xa0")
_WESTERN: Final = frozenset({"cp1252", "latin_1", "iso8859_15", "cp1250", "iso8859_2", "cp1254", "iso8859_9", "cp1257"})
_WINDOWS_1252: Final = frozenset({"cp1252", "latin_1", "iso8859_15"})
_BEYOND_ASCII: Final = re.compile(r"[^\x00-\x7f]+")
_MARK_IN_WORD: Final = re.compile(r"[¹³¼¾Ÿ](?=[^\W\d_])|(?<=[^\W\d_])¿(?=[^\W\d_])")


class Guessed(Struct, frozen=True):
    """An encoding by its shown name; ``matters`` where another one would have made other letters."""

    encoding: str
    matters: bool


def guess(path: Path) -> Guessed:
    """The code in which a file that is not UTF-8 is most likely written.

    Raises DatasetEncoding for other scripts, with the likely one as a suggestion: a wrong guess would spoil every word.
    """
    telling = _telling_lines(path)
    found = _by_letters(telling)
    if found is not None and found != "cp1252" and _decodes(path, found):
        return Guessed(encoding_named(found), matters=True)
    matters = _differs(telling)
    if (found == "cp1252" or _is_plainly_western(telling)) and _is_western(path):
        return Guessed("windows-1252", matters)
    from charset_normalizer import from_bytes

    best = from_bytes(telling).best()
    name = best.encoding if best is not None else None
    if name in _WESTERN and not _is_eastern(telling) and _is_western(path):
        return Guessed("windows-1252", matters)
    try:
        shown = encoding_named(name or "")
    except InvalidValue:
        shown = ""
    if not shown or name in _WINDOWS_1252:
        raise DatasetEncoding(
            "The file is neither UTF-8 nor any other encoding that fits all of it.",
            hint="Open it in the program it came from and save it as UTF-8, or name its encoding with --encoding.",
        )
    raise DatasetEncoding(
        f"The file is not UTF-8; its characters look like {shown}.",
        hint=f"Name it, if it is: --encoding {shown}. Or convert it: iconv -f {shown.upper()} -t UTF-8 FILE > NEW",
        suggestions=({ENCODING: shown},),
    )


def _by_letters(telling: bytes) -> str | None:
    """The code in which nearly all letters beyond ASCII are of one language; None where none is."""
    counts = Counter(byte for byte in telling if byte > 0x7F)
    shares = {codec: _share(counts, codec) for codec in _ALPHABETS}
    best = max(shares.values())
    if best < _LEAST_SHARE:
        return None
    close = [codec for codec, share in shares.items() if share >= best - _LEAST_LEAD]
    if len(close) == 1:
        return close[0]
    spoken = _spoken(telling, close)
    # Of those that say the same, the first: Windows' codes are used more than those of ISO.
    return max(close, key=lambda codec: (spoken[codec], -close.index(codec)))


def _share(counts: Counter[int], codec: str) -> float:
    """Of the letters beyond ASCII, the share that belongs to the one alphabet that has most of them."""
    letters: Counter[str] = Counter()
    for byte, count in counts.items():
        letter = bytes((byte,)).decode(codec, "replace")
        if any(bytes((byte,)).decode(other, "replace").isalpha() for other in _ALPHABETS):
            letters[letter] += count
    total = sum(letters.values())
    most = max(
        sum(count for letter, count in letters.items() if letter in own or letter.lower() in own)
        for own in _ALPHABETS[codec]
    )
    return most / total if total else 1.0


def _spoken(telling: bytes, codecs_: list[str]) -> Counter[str]:
    """How many lines are in a language of each code, by their small words."""
    lines = telling.splitlines()[:_LISTENED_LINES]
    return Counter(
        {
            codec: sum(language_of(line.decode(codec, "replace")) in _LANGUAGES[codec] for line in lines)
            for codec in codecs_
        }
    )


def _differs(telling: bytes) -> bool:
    """Whether the codes of neighbouring countries make other letters of the same bytes."""
    read = ({codec: bytes((byte,)).decode(codec, "replace") for codec in _ALPHABETS} for byte in set(telling) - _ASCII)
    return any(
        letters["cp1252"] != letters[codec] and (letters["cp1252"].isalpha() or letters[codec].isalpha())
        for letters in read
        for codec in ("cp1250", "cp1254")
    )


def _decodes(path: Path, codec: str) -> bool:
    decoder = codecs.getincrementaldecoder(codec)()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                decoder.decode(chunk)
    except UnicodeDecodeError:
        return False
    return True


def _is_plainly_western(lines: bytes) -> bool:
    """Whether letters beyond ASCII are those of western languages, and at most two stand together.

    In other scripts whole words are beyond ASCII. A guess by frequencies needs more text than a small table has.
    """
    try:
        text = lines.decode("cp1252")
    except UnicodeDecodeError:
        return False
    beyond = [at for at, mark in enumerate(text) if mark > "\x7f"]
    common = sum(text[at] in _WESTERN_MARKS for at in beyond)
    apart = sum(len(run) for run in _BEYOND_ASCII.findall(text) if len(run) <= 2)
    return common >= 0.98 * len(beyond) and apart >= 0.9 * len(beyond)


def _is_eastern(lines: bytes) -> bool:
    """Whether marks stand inside words where Windows' code for Poland and its neighbours has letters.

    Read as western, such a text would be taken for one, with other letters in it.
    """
    text = lines.decode("cp1252", "replace")
    beyond = sum(mark > "\x7f" for mark in text)
    return len(_MARK_IN_WORD.findall(text)) > 0.05 * beyond


def _telling_lines(path: Path) -> bytes:
    """The first lines that have bytes beyond ASCII: only these say which encoding it is."""
    found = bytearray()
    with path.open("rb") as file:
        while len(found) < _SAMPLE_BYTES and (line := file.readline(_CHUNK_BYTES)):
            if not line.isascii():
                found += line[:4096]
    return bytes(found)


def _is_western(path: Path) -> bool:
    """Every byte is a character in Windows-1252, and those beyond ASCII are mostly letters and quotes."""
    letters = others = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            if chunk.isascii():
                continue
            try:
                text = chunk.decode("cp1252")
            except UnicodeDecodeError:
                return False
            beyond = [mark for mark in text if mark > "\x7f"]
            good = sum(1 for mark in beyond if mark.isalpha() or mark in "‘’“”„–—…•«»°€£§©®™´¿¡·\xa0½¼²³×")
            letters += good
            others += len(beyond) - good
    return letters > 4 * others
