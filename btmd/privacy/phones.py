"""Phone numbers: candidates by their form, judged by the numbering plans of phonenumbers and the words around them."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumber, PhoneNumberFormat, PhoneNumberType

from btmd.privacy.finding import PHONE, Finding
from btmd.privacy.languages import language_of
from btmd.privacy.surroundings import MEASURED_AFTER, Said, phone_context

_SPACE = r"[ \u00a0\u2007\u2009\u202f]"
_DASH = r"[-.\u2010-\u2013]"
_JOIN = rf"(?:{_SPACE}?[(]|[)]{_SPACE}?{_DASH}?|{_SPACE}?{_DASH}{_SPACE}?[(]?|{_SPACE}?/{_SPACE}?|{_SPACE})"
_RUN: Final = re.compile(
    r"[+(\d](?<!\w[+(\d])"
    rf"(?:(?<=\d)|(?<=\+){_SPACE}?\(?\d|(?<=\()(?:\+{_SPACE}?\(?)?\d)(?:\d|{_JOIN}{{1,2}}\d){{5,40}}"
)
_SIGN: Final = re.compile(r"(?:\(\+|\+\(?|\() ?\Z")
_GROUP: Final = re.compile(r"\d+")
_EXTENSION: Final = re.compile(
    rf"{_SPACE}?(?:x|ext\.?|extension|durchwahl|dw\.?|poste|interno|int\.)[ .:]?{_SPACE}?\d{{1,6}}(?!\w)", re.IGNORECASE
)
_NOT_DIGIT: Final = re.compile(r"\D")
_TRUNK_SHOWN: Final = re.compile(r"\(0\)")
_ABROAD: Final = re.compile(r"\(?(?:\+|00(?=[ ().-]*[1-9]))")
_DATE: Final = re.compile(
    r"\d{1,2}([./-])\d{1,2}\1(?:\d{4}|\d{2})(?: .*)?"
    r"|\d{4}([./-])\d{1,2}\2\d{1,2}(?: .*)?|\d{1,2} \d{1,2} (?:19|20)\d\d"
)
_FOURS: Final = re.compile(r"\d{4}(?:[ .-]\d{4}){2,5}(?:[ .-]\d{1,3})?")
"""Groups of four as on a card: no plan of phone numbers has more than two of them."""
_ISBN: Final = re.compile(r"97[89][- ].*|\d-\d{2,7}-\d{2,7}-\d")
_DECIMAL: Final = re.compile(r"\d{1,3}\.\d{4,}|\d{1,3}(?:\.\d{3})+|\d+ ?[-/] ?\d{1,2}")
_SIGNED_DECIMAL: Final = re.compile(r"\+\d+\.\d{1,2}")
_ZIP_CODE: Final = re.compile(r"\d{5}-\d{4}|\d{4}-\d{4}")
"""American ones; and two years or two hours."""
_NORTH_AMERICA: Final = re.compile(
    rf"(?:1{_SPACE}?{_DASH}?)?(?P<open>\()?[2-9]\d\d(?P<close>\))?(?P<join>{_SPACE}?{_DASH}?/?{_SPACE}?)\d\d\d"
    rf"(?:{_SPACE}|{_DASH})?\d{{4}}"
)
_SPANISH: Final = re.compile(
    r"[6789]\d\d[ .-]?\d{3}[ .-]?\d{3}|[6789]\d\d[ .-]?\d\d[ .-]?\d\d[ .-]?\d\d|9\d \d{3} \d\d \d\d"
)
_ITALIAN: Final = re.compile(
    r"3\d\d[ ./-]?\d{3}[ .-]?\d{3,4}|3\d\d[ ./-]?\d{6,7}|3\d\d[ .-]?\d\d[ .-]?\d\d[ .-]?\d{2,3}"
)
_REGIONS: Final = {
    "de": ("DE", "AT", "CH"),
    "fr": ("FR", "BE", "CH"),
    "es": ("ES", "MX", "AR", "CO"),
    "it": ("IT", "CH"),
    "en": ("US", "GB", "IE", "AU"),
    "": ("DE", "FR", "GB", "IT", "ES", "US", "AT", "CH"),
}
_LONGEST: Final = 17
_MOST_GROUPS: Final = 8
_LEAST_ABROAD: Final = 8
_LEAST_NATIONAL, _MOST_NATIONAL = 7, 13
_LEAST_DIFFERENT: Final = 3
_COUNTING: Final = "012345678901234567890"
_GLUED_BEFORE: Final = "#$€£¥@\\_^"


class Phones:
    """Finds phone numbers; ``regions`` (``DE``) are tried first for those without a country code, in any language."""

    def __init__(self, regions: Sequence[str] = ()) -> None:
        self._regions = tuple(regions)

    def __call__(self, text: str) -> Iterator[Finding]:
        """Every number; one form for all spellings of it."""
        for run in _RUN.finditer(text):
            yield from self._in_run(text, run.start(), run.end())

    def _in_run(self, text: str, start: int, end: int) -> Iterator[Finding]:
        """Numbers in a run of digits, which may hold several or other things beside: the longest first."""
        if _FOURS.fullmatch(text, start, end):
            return
        groups = [(one.start(), one.end()) for one in _GROUP.finditer(text, start, end)]
        first = 0
        while first < len(groups):
            found = self._beginning_at(text, start, groups, first)
            if found is None:
                first += 1
                continue
            yield found[0]
            first = found[1] + 1

    def _beginning_at(
        self, text: str, start: int, groups: list[tuple[int, int]], first: int
    ) -> tuple[Finding, int] | None:
        """The longest number that begins with this group, and its last group."""
        if first and not _may_part(text[groups[first - 1][1] : groups[first][0]]):
            return None
        begin = _with_sign(text, start if first == 0 else groups[first - 1][1], groups[first][0])
        last = min(len(groups), first + _MOST_GROUPS) - 1
        digits = sum(end - begin for begin, end in groups[first : last + 1])
        while last >= first and digits >= _LEAST_NATIONAL:
            ends_here = last + 1 == len(groups) or _may_part(text[groups[last][1] : groups[last + 1][0]])
            # In the middle of a run of numbers, only a sign tells that one of them is a phone's.
            inside = first > 0 and last + 1 < len(groups) and text[begin] not in "+("
            if ends_here and not inside and digits <= _LONGEST:
                found = self._judged(text, begin, groups[last][1])
                if found is not None:
                    return found, last
            digits -= groups[last][1] - groups[last][0]
            last -= 1
        return None

    def _judged(self, text: str, start: int, end: int) -> Finding | None:
        written = text[start:end]
        digits = _NOT_DIGIT.sub("", written)
        if not _LEAST_NATIONAL <= len(digits) <= _LONGEST or _glued(text, start, end) or digits in _COUNTING:
            return None
        if len(set(digits)) < _LEAST_DIFFERENT or _arithmetic(text, start):
            return None
        extension = _EXTENSION.match(text, end)
        if extension is None and text[end : end + 1].isalnum():
            return None
        value = self._abroad(written, text, start, end) if _ABROAD.match(written) else None
        if value is None:
            value = self._national(text, start, end, written, digits)
        if value is None:
            return None
        if extension is None:
            return Finding(start, end, PHONE, value)
        return Finding(start, extension.end(), PHONE, f"{value}x{_NOT_DIGIT.sub('', extension[0])}")

    def _abroad(self, written: str, text: str, start: int, end: int) -> str | None:
        plain = _TRUNK_SHOWN.sub("", written)
        digits = _NOT_DIGIT.sub("", plain)
        if "+" not in plain:
            digits = digits[2:]
        if len(digits) < _LEAST_ABROAD:
            return None
        number = _parsed("+" + digits, None)
        if number is None:
            return None
        if "+" not in plain and phone_context(text, start, end) is Said.OTHER:
            return None
        if _valid(number):
            return _one_form(number)
        if not phonenumbers.is_possible_number(number) or _SIGNED_DECIMAL.fullmatch(plain):
            return None
        # A plus says enough; two noughts alone stand before many a running number.
        named = "+" in plain or not written.isdigit() or phone_context(text, start, end) is Said.THIS
        return _one_form(number) if named and phone_context(text, start, end) is not Said.OTHER else None

    def _national(self, text: str, start: int, end: int, written: str, digits: str) -> str | None:
        if not _LEAST_NATIONAL <= len(digits) <= _MOST_NATIONAL or written.startswith(("+", "(+")):
            return None
        if _DATE.fullmatch(written) or _ISBN.fullmatch(written) or MEASURED_AFTER.match(text, end):
            return None
        said = phone_context(text, start, end)
        if said is Said.OTHER and not written.startswith("("):
            return None
        if said is not Said.THIS and (_DECIMAL.fullmatch(written) or _ZIP_CODE.fullmatch(written)):
            return None
        language = language_of(text)
        if digits[0] == "0":
            return self._with_trunk(written, digits, language, said)
        return self._without_trunk(written, language, said)

    def _with_trunk(self, written: str, digits: str, language: str, said: Said) -> str | None:
        groups = _GROUP.findall(written)
        if len(groups) > 1 and groups[0] == "0" and not written.startswith("(0)") and said is not Said.THIS:
            return None
        if len(groups) > 2 and any(len(one) == 1 for one in groups[1:-1]):
            return None
        regions = self._tried(language, any_language=said is Said.THIS)
        number = next((one for region in regions if (one := _parsed(digits, region)) is not None and _valid(one)), None)
        if number is None:
            possible = _parsed(digits, regions[0])
            spelled = len(groups) > 1 or said is Said.THIS
            fits = possible is not None and phonenumbers.is_possible_number(possible)
            return digits if (fits or written.startswith("(0")) and spelled and said is Said.THIS else None
        # Bare, without a word for it, in no known language: only what is a mobile number somewhere.
        if len(groups) == 1 and said is Said.NOTHING and not language and not self._regions:
            return _one_form(number) if _is_mobile(number) else None
        return _one_form(number)

    def _without_trunk(self, written: str, language: str, said: Said) -> str | None:
        homely = self._spanish_or_italian(written, language, said)
        if homely is not None:
            return homely
        if (american := self._north_american(written, language, said)) is not None:
            return american
        return self._called_a_phone(written, language) if said is Said.THIS else None

    def _spanish_or_italian(self, written: str, language: str, said: Said) -> str | None:
        for region, form, spoken in (("ES", _SPANISH, "es"), ("IT", _ITALIAN, "it")):
            home = language == spoken or region in self._regions
            if not home or form.fullmatch(written) is None or (written.isdigit() and said is not Said.THIS):
                continue
            number = _parsed(written, region)
            if number is not None and _valid(number):
                return _one_form(number)
        return None

    def _north_american(self, written: str, language: str, said: Said) -> str | None:
        form = _NORTH_AMERICA.fullmatch(written)
        if form is None or (form["open"] is None) != (form["close"] is None):
            return None
        if said is not Said.THIS:
            spelled = written.count("-") > 1 or written.count(".") > 1 or form["open"] is not None
            at_home = language == "en" or "US" in self._regions
            if written.isdigit() or not (spelled or at_home):
                return None
        number = _parsed(written, "US")
        return None if number is None else _one_form(number)

    def _called_a_phone(self, written: str, language: str) -> str | None:
        for region in self._tried(language, any_language=True):
            number = _parsed(written, region)
            # Where numbers begin with a nought, one without it is hardly one.
            if number is not None and _valid(number) and region not in _NOUGHT_FIRST:
                return _one_form(number)
        return None

    def _tried(self, language: str, *, any_language: bool) -> tuple[str, ...]:
        others = (one for one in _REGIONS[""] if any_language and one not in _REGIONS[language])
        return (*self._regions, *_REGIONS[language], *others)


_NOUGHT_FIRST: Final = frozenset({"DE", "AT", "CH", "FR", "BE", "GB", "IE", "AU"})


def _may_part(between: str) -> bool:
    """Whether what stands between two groups of digits may be the end of a number: dashes and points are not."""
    return any(one not in "-.\u2010\u2011\u2012\u2013()" for one in between) or ")" in between


def _with_sign(text: str, from_: int, first_digit: int) -> int:
    """Where a number begins that has its first digit there: its plus or bracket belongs to it."""
    sign = _SIGN.search(text, from_, first_digit)
    return first_digit if sign is None else sign.start()


def _arithmetic(text: str, start: int) -> bool:
    """Whether the plus stands between two numbers."""
    return text.startswith("+", start) and text[max(0, start - 4) : start].rstrip(" ")[-1:].isdigit()


def _glued(text: str, start: int, end: int) -> bool:
    """Whether it is a part of something longer: a code, an address of a page, an amount."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    if before and before[-1] in _GLUED_BEFORE:
        return True
    if len(before) == 2 and before[1] in "-/" and before[0].isalnum():
        return True
    if len(before) == 2 and before[1] in ".:,=" and before[0].isdigit():
        return True
    if after and after[0] in "€$£%°_@":
        return True
    return len(after) == 2 and (
        (after[0] in ".,:" and after[1].isdigit()) or (after[0] in "-/=" and after[1].isalnum())
    )


@lru_cache(maxsize=4096)
def _parsed(written: str, region: str | None) -> PhoneNumber | None:
    try:
        return phonenumbers.parse(written, region)
    except NumberParseException:
        return None


def _valid(number: PhoneNumber) -> bool:
    return phonenumbers.is_valid_number(number)


def _is_mobile(number: PhoneNumber) -> bool:
    return phonenumbers.number_type(number) in (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE)


def _one_form(number: PhoneNumber) -> str:
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)
