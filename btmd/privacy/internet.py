"""IP addresses of both kinds, told from versions, times and names of program code."""

import ipaddress
import re
from collections.abc import Iterator
from typing import Final

from btmd.privacy.finding import IP, Finding
from btmd.privacy.surroundings import ADDRESS_NEAR, VERSION_BEFORE, window_before

_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_OCTET_GOES_ON = r"(?:(?<=2)5[0-5]|(?<=2)[0-4]\d|(?<=1)\d\d|(?<=[1-9])\d|)"
_V4: Final = re.compile(rf"\d(?<![\w.]\d)(?<!\d[,-]\d){_OCTET_GOES_ON}(?:\.{_OCTET}){{3}}(?!\w|\.\d|-[A-Za-z])")
_V6: Final = re.compile(
    r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:|:(?=:))(?:[0-9A-Fa-f]{0,4}:){1,6}"
    rf"(?:[0-9A-Fa-f]{{1,4}}|{_OCTET}(?:\.{_OCTET}){{3}})?(?![\w:]|\.\d)"
)
_SMALL_OCTET: Final = 32
_AFTER: Final = 24
_LEAST_HEX_DIGITS: Final = 5
_LEAST_COLONS: Final = 6
"""In an address of the sixth version that leaves nothing out, the end of which may be one of the fourth."""


def ip_addresses(text: str) -> Iterator[Finding]:
    """Addresses of machines; those every machine has (127.0.0.1, ::1, 0.0.0.0, masks) tell nothing and are left."""
    if "::" in text or text.count(":") >= _LEAST_COLONS:
        for found in _V6.finditer(text):
            if (value := _sixth(text, found)) is not None:
                yield Finding(found.start(), found.end(), IP, value)
    if text.count(".") > 2:
        for found in _V4.finditer(text):
            if _fourth(text, found):
                yield Finding(found.start(), found.end(), IP, found[0])


def _fourth(text: str, found: re.Match[str]) -> bool:
    octets = [int(one) for one in found[0].split(".")]
    if found[0].startswith(("127.0.0.", "127.0.1.", "255.")) or found[0] == "0.0.0.0" or octets[0] == 0:
        return False
    before = text[max(0, found.start() - 2) : found.start()]
    # pkg-1.2.3.4, nginx/1.2.3.4 and ==1.2.3.4 name versions; //1.2.3.4 and ip=1.2.3.4 a machine.
    if len(before) == 2 and (
        (before[1] in "-/~^" and before[0].isalpha()) or (before[1] == "=" and before[0] in "=<>~!")
    ):
        return False
    window = window_before(text, found.start())
    if VERSION_BEFORE.search(window):
        return False
    if octets[0] != 10 and max(octets) < _SMALL_OCTET:
        around = window + " " + text[found.end() : found.end() + _AFTER].lower()
        return ADDRESS_NEAR.search(around) is not None
    return True


def _sixth(text: str, found: re.Match[str]) -> str | None:
    written = found[0]
    try:
        address = ipaddress.IPv6Address(written)
    except ValueError:
        return None
    if address.is_loopback or address.is_unspecified:
        return None
    if "::" in written:
        hexadecimal = sum(one.isalnum() for one in written)
        # a::b is a name in several programming languages.
        short = hexadecimal < _LEAST_HEX_DIGITS or not any(one.isdigit() for one in written)
        if short and ADDRESS_NEAR.search(window_before(text, found.start())) is None:
            return None
    return address.compressed
