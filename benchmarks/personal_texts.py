"""Texts with and without personal data, made anew for each seed: what the detectors of btmd/privacy are measured by.

Values come from Faker, from the numbering plans of phonenumbers, and from generators of our own; the sentences around
them stand in personal_frames. No value was made by looking at the detectors; the frames of tables and logs were added
while they were mended.
"""

import random
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import phonenumbers
from faker import Faker
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from benchmarks.personal_frames import FILLERS, NEGATIVE_FRAMES, POSITIVE_FRAMES, STRUCTURED_FRAMES

KINDS: Final = ("email", "phone", "card", "iban", "ip", "key")
LOCALES: Final = {
    "de": ("de_DE", "de_AT", "de_CH"),
    "fr": ("fr_FR", "fr_CH", "fr_BE"),
    "es": ("es_ES",),
    "it": ("it_IT", "it_CH"),
    "en": ("en_US", "en_GB"),
}
PHONE_REGIONS: Final = {
    "de": ("DE", "DE", "AT", "CH"),
    "fr": ("FR", "FR", "BE", "CH"),
    "es": ("ES",),
    "it": ("IT",),
    "en": ("US", "GB"),
}
_BASE64 = string.ascii_letters + string.digits
_CARD_FORMS: Final = (
    ("4", 16),
    ("4", 16),
    ("51", 16),
    ("53", 16),
    ("55", 16),
    ("2221", 16),
    ("2720", 16),
    ("34", 15),
    ("37", 15),
    ("6011", 16),
    ("65", 16),
    ("36", 14),
    ("3530", 16),
    ("62", 16),
)
_IBAN_FORMS: Final = {
    "DE": "n18",
    "AT": "n16",
    "CH": "n5c12",
    "FR": "n10c11n2",
    "BE": "n12",
    "ES": "n20",
    "IT": "a1n10c12",
    "GB": "a4n14",
    "NL": "a4n10",
    "LU": "n3c13",
    "PL": "n24",
    "PT": "n21",
    "IE": "a4n14",
    "SE": "n20",
    "NO": "n11",
    "DK": "n14",
    "FI": "n14",
    "CZ": "n20",
    "HU": "n24",
    "RO": "a4c16",
    "LI": "n5c12",
    "MT": "a4n5c18",
    "SA": "n2c18",
    "TR": "n5n1c16",
}


@dataclass(frozen=True, slots=True)
class Planted:
    """Personal data at a place of a text."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Text:
    language: str
    text: str
    planted: tuple[Planted, ...]


class Texts:
    """Makes texts; two with the same seed make the same."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._fakers = {locale: Faker(locale) for locales in LOCALES.values() for locale in locales}
        for number, faker in enumerate(self._fakers.values()):
            faker.seed_instance(seed + number)

    def make(self, count: int) -> list[Text]:
        """``count`` texts: of three one is without personal data, but with numbers and codes that look like some."""
        return [self._negative() if number % 3 == 2 else self._positive(number) for number in range(count)]

    def _positive(self, number: int) -> Text:
        language = self._random.choice(list(LOCALES))
        kind = KINDS[number // 3 * 2 % len(KINDS) + number % 3] if self._random.random() < 0.8 else self._any_kind()
        structured = self._random.random() < 0.15
        frame = self._random.choice(STRUCTURED_FRAMES[kind] if structured else POSITIVE_FRAMES[language][kind])
        # The frames for keys come with their own words; all others take any value.
        before, after = frame.split("{}")
        value = self.value(kind, language)
        lead = self._filler(language) if self._random.random() < 0.5 else ""
        tail = self._filler(language) if self._random.random() < 0.5 else ""
        start = len(lead) + len(before)
        text = f"{lead}{before}{value}{after} {tail}".rstrip()
        return Text(language, text, (Planted(kind, start, start + len(value)),))

    def _any_kind(self) -> str:
        return self._random.choice(KINDS)

    def _negative(self) -> Text:
        language = self._random.choice(list(LOCALES))
        what, frame = self._random.choice(NEGATIVE_FRAMES[language])
        lead = self._filler(language) if self._random.random() < 0.5 else ""
        return Text(language, lead + frame.replace("{}", self.negative(what, language)), ())

    def _filler(self, language: str) -> str:
        return self._random.choice(FILLERS[language]) + " "

    # --- personal data --------------------------------------------------------------------------

    def value(self, kind: str, language: str) -> str:
        make: dict[str, Callable[[str], str]] = {
            "email": self._email,
            "phone": self._phone,
            "card": self._card,
            "iban": self._iban,
            "ip": self._ip,
            "key": self._key,
        }
        return make[kind](language)

    def _faker(self, language: str) -> Faker:
        return self._fakers[self._random.choice(LOCALES[language])]

    def _email(self, language: str) -> str:
        faker = self._faker(language)
        made: str = self._random.choice((faker.email, faker.company_email, faker.free_email, faker.safe_email))()
        chance = self._random.random()
        if chance < 0.1:
            made = made.replace("@", f"+{self._random.choice(('news', 'shop', 'x1'))}@")
        elif chance < 0.2:
            made = made.title() if self._random.random() < 0.5 else made.upper()
        elif chance < 0.25:
            made = made.replace("@", "@mail.", 1)
        return made

    def _phone(self, language: str) -> str:
        if self._random.random() < 0.3:
            made: str = self._faker(language).phone_number()
            return made
        region = self._random.choice(PHONE_REGIONS[language])
        number = self._valid_number(region)
        form = self._random.choice(
            (
                PhoneNumberFormat.NATIONAL,
                PhoneNumberFormat.NATIONAL,
                PhoneNumberFormat.INTERNATIONAL,
                PhoneNumberFormat.E164,
            )
        )
        written: str = phonenumbers.format_number(number, form)
        chance = self._random.random()
        if chance < 0.15:
            written = written.replace(" ", "-")
        elif chance < 0.25:
            written = written.replace(" ", ".")
        elif chance < 0.35 and form == PhoneNumberFormat.INTERNATIONAL:
            written = written.replace("+", "00", 1)
        elif chance < 0.45 and form == PhoneNumberFormat.INTERNATIONAL and region in ("DE", "AT", "CH", "GB", "FR"):
            code, _, rest = written.partition(" ")
            written = f"{code} (0){rest}" if self._random.random() < 0.5 else f"{code} (0) {rest}"
        elif chance < 0.5 and region == "DE":
            written = written.replace(" ", "/", 1)
        return written

    def _valid_number(self, region: str) -> phonenumbers.PhoneNumber:
        kind = self._random.choice((PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE))
        example = phonenumbers.example_number_for_type(region, kind)
        national = phonenumbers.national_significant_number(example)
        while True:
            kept = self._random.randint(2, 4)
            digits = national[:kept] + "".join(self._random.choice(string.digits) for _ in national[kept:])
            number = phonenumbers.PhoneNumber(
                country_code=example.country_code,
                national_number=int(digits),
                italian_leading_zero=digits.startswith("0") or None,
            )
            if phonenumbers.is_valid_number(number):
                return number

    def _card(self, language: str) -> str:
        if self._random.random() < 0.25:
            digits: str = self._faker(language).credit_card_number()
        else:
            start, length = self._random.choice(_CARD_FORMS)
            digits = start + "".join(self._random.choice(string.digits) for _ in range(length - len(start) - 1))
            digits += check_digit(digits)
        chance = self._random.random()
        separator = " " if chance < 0.45 else "-" if chance < 0.6 else ""
        if len(digits) == 15 or len(digits) == 14:
            return separator.join((digits[:4], digits[4:10], digits[10:]))
        return separator.join(digits[place : place + 4] for place in range(0, len(digits), 4))

    def _iban(self, language: str) -> str:
        chance = self._random.random()
        number: str
        if chance < 0.3:
            number = self._faker(language).iban()
        else:
            country = self._random.choice(list(_IBAN_FORMS))
            number = self._own_iban(country)
        if self._random.random() < 0.5:
            number = " ".join(number[place : place + 4] for place in range(0, len(number), 4))
        return number.lower() if self._random.random() < 0.05 else number

    def _own_iban(self, country: str) -> str:
        form, body = _IBAN_FORMS[country], ""
        place = 0
        while place < len(form):
            letters = {"n": string.digits, "a": string.ascii_uppercase, "c": string.digits + string.ascii_uppercase}
            kind, end = form[place], place + 1
            while end < len(form) and form[end].isdigit():
                end += 1
            body += "".join(self._random.choice(letters[kind]) for _ in range(int(form[place + 1 : end])))
            place = end
        rest = int("".join(str(int(one, 36)) for one in f"{body}{country}00")) % 97
        return f"{country}{98 - rest:02d}{body}"

    def _ip(self, language: str) -> str:
        faker = self._faker(language)
        if self._random.random() < 0.35:
            made: str = faker.ipv6()
            if self._random.random() < 0.3:
                made = f"2001:db8:{self._random.randrange(1, 65535):x}::{self._random.randrange(1, 65535):x}"
            return made
        while True:
            address: str = self._random.choice((faker.ipv4_public, faker.ipv4_private, faker.ipv4))()
            if not address.startswith(("127.", "0.", "255.")):
                return address

    def _key(self, language: str) -> str:
        def some(size: int, of: str = _BASE64) -> str:
            return "".join(self._random.choice(of) for _ in range(size))

        hexadecimal = "0123456789abcdef"
        return self._random.choice(
            (
                lambda: "AKIA" + some(16, string.ascii_uppercase + string.digits),
                lambda: "ghp_" + some(36),
                lambda: "github_pat_" + some(22) + "_" + some(59),
                lambda: "glpat-" + some(20),
                lambda: f"xoxb-{some(12, string.digits)}-{some(12, string.digits)}-{some(24)}",
                lambda: "sk_live_" + some(24),
                lambda: "sk-proj-" + some(48),
                lambda: "sk-ant-api03-" + some(40),
                lambda: "AIza" + some(35),
                lambda: f"SG.{some(22)}.{some(43)}",
                lambda: "hf_" + some(34),
                lambda: "npm_" + some(36),
                lambda: "dop_v1_" + some(64, hexadecimal),
                lambda: f"eyJhbGciOiJIUzI1NiJ9.eyJ{some(40)}.{some(43)}",
                lambda: f"-----BEGIN RSA PRIVATE KEY-----\n{some(64)}\n{some(64)}\n-----END RSA PRIVATE KEY-----",
                lambda: "shpat_" + some(32, hexadecimal),
                lambda: some(40, _BASE64 + "+/"),
                lambda: some(48),
            )
        )()

    # --- what only looks like it -----------------------------------------------------------------

    def negative(self, what: str, language: str) -> str:
        faker = self._faker(language)
        number = self._digits
        pick = self._random
        make: dict[str, Callable[[], str]] = {
            "order": lambda: pick.choice(
                (
                    number(8),
                    number(10),
                    f"{number(4)}-{number(4)}",
                    f"{number(3)}-{number(7)}-{number(7)}",
                    f"A-{number(6)}",
                    f"2026-{number(5)}",
                    f"{number(3)}.{number(3)}.{number(3)}",
                    number(12),
                    number(16),
                    "00" + number(8),
                )
            ),
            "date": lambda: pick.choice(
                (
                    faker.date("%d.%m.%Y"),
                    faker.date("%Y-%m-%d"),
                    faker.date("%m/%d/%Y"),
                    faker.date("%d-%m-%Y"),
                    faker.date("%Y-%m-%dT%H:%M:%S"),
                    faker.date("%d.%m.%y"),
                    faker.date("%Y%m%d"),
                    faker.date("%d.%m.%Y %H:%M"),
                )
            ),
            "version": lambda: pick.choice(
                (
                    f"{pick.randrange(30)}.{pick.randrange(20)}.{pick.randrange(30)}",
                    f"{pick.randrange(1, 12)}.{pick.randrange(20)}.{pick.randrange(9)}.{pick.randrange(250)}",
                    f"v{pick.randrange(9)}.{pick.randrange(20)}.{pick.randrange(9)}-rc{pick.randrange(9)}",
                    f"10.0.{pick.randrange(10000, 22000)}.{pick.randrange(3000)}",
                )
            ),
            "hash": lambda: pick.choice((faker.sha1, faker.sha256, faker.md5))(),
            "short_hash": lambda: faker.sha1()[: pick.randrange(7, 13)],
            "uuid": lambda: faker.uuid4(),
            "isbn": lambda: pick.choice((faker.isbn13, faker.isbn10))(pick.choice("- ") if pick.random() < 0.8 else ""),
            "ean": lambda: pick.choice((faker.ean13, faker.ean8))(),
            "price": lambda: pick.choice(
                (
                    f"{number(1)}.{number(3)}.{number(3)},{number(2)} €",
                    f"${number(1)},{number(3)},{number(3)}.{number(2)}",
                    f"{number(3)} {number(3)} {number(3)} €",
                    f"{number(4)},{number(2)} EUR",
                    f"CHF {number(2)}'{number(3)}.{number(2)}",
                )
            ),
            "coordinates": lambda: pick.choice(
                (
                    f"{faker.latitude()}, {faker.longitude()}",
                    f"{pick.uniform(40, 60):.4f}, {pick.uniform(0, 20):.4f}",
                    f"{pick.uniform(40, 60):.6f} {pick.uniform(0, 20):.6f}",
                )
            ),
            "mac": lambda: faker.mac_address(),
            "time": lambda: f"{pick.randrange(24):02}:{pick.randrange(60):02}:{pick.randrange(60):02}",
            "count": lambda: pick.choice(
                (f"{number(2)} {number(3)} {number(3)}", f"{number(1)}.{number(3)}.{number(3)}")
            ),
            "timestamp": lambda: f"17{number(8)}",
            "handle": lambda: "@" + faker.user_name(),
            "file": lambda: pick.choice(("logo@2x.png", f"IMG_{number(8)}_{number(6)}.jpg", f"scan-{number(10)}.pdf")),
            "package": lambda: f"{faker.word()}@{pick.randrange(9)}.{pick.randrange(20)}.{pick.randrange(9)}",
            "code": lambda: pick.choice(("std::vector", "a::b", "x[10:20:2]", "0x7ffee4c8a2b0", "#1f2a3c")),
            "tracking": lambda: pick.choice((f"1Z999AA1{number(10)}", f"JJD{number(18)}", f"{number(20)}")),
            "bad_card": lambda: self._bad_card(),
            "bad_iban": lambda: self._bad_iban(),
            "range": lambda: f"{number(3)}-{number(3)}",
        }
        return make[what]()

    def _digits(self, size: int) -> str:
        return self._random.choice("123456789") + "".join(self._random.choice(string.digits) for _ in range(size - 1))

    def _bad_card(self) -> str:
        digits = "4" + self._digits(14)
        wrong = str((int(check_digit(digits)) + self._random.randrange(1, 9)) % 10)
        return digits + wrong

    def _bad_iban(self) -> str:
        number = self._own_iban(self._random.choice(("DE", "AT", "ES")))
        return number[:2] + f"{(int(number[2:4]) + self._random.randrange(1, 90)) % 97:02d}" + number[4:]


def check_digit(digits: str) -> str:
    """The digit that makes a card number of these."""
    total = sum(sum(divmod(int(one) * (1 + (place % 2 == 0)), 10)) for place, one in enumerate(reversed(digits)))
    return str(-total % 10)
