"""E-mail addresses."""

import re
from collections.abc import Iterator
from typing import Final

from btmd.privacy.finding import EMAIL, Finding

_LABEL = r"[^\W_](?:[\w-]{0,61}[^\W_])?"
_END = r"(?:[^\W\d_]{2,24}|xn--[a-zA-Z0-9-]{2,59})(?![^\W_])"
_ADDRESS: Final = re.compile(rf"(?<![\w+%&-])(?<!\w[.'])_*([^\W_][\w.+%&'-]{{0,63}})@((?:{_LABEL}\.){{1,8}}{_END})")
_AT = r"\s{0,2}[\[({<]\s?(?:at|AT|At|ät|arroba|chez|chiocciola)\s?[\])}>]\s{0,2}"
_DOT = r"(?:\.|\s{0,2}[\[({<]\s?(?:dot|DOT|Dot|punkt|Punkt|punto|point)\s?[\])}>]\s{0,2})"
_SPELLED: Final = re.compile(rf"(?<![\w.+-])([^\W_][\w.+-]{{0,63}}){_AT}((?:{_LABEL}{_DOT}){{1,8}}{_END})")
_DOT_ALONE: Final = re.compile(_DOT)
_IMAGE: Final = re.compile(r"\dx\.(?:png|jpe?g|gif|webp|svg|avif)", re.IGNORECASE)
_VERSION: Final = re.compile(r"[v~^]?\d+\.\d")


def addresses(text: str) -> Iterator[Finding]:
    """Every address, those with ``(at)`` for the sign too; what is written like one but is a file or version is not."""
    if "@" in text:
        for found in _ADDRESS.finditer(text):
            local, domain = found[1], found[2]
            if _IMAGE.match(domain) or _VERSION.match(domain):
                continue
            # git@host:owner/name is the address of a repository.
            if local == "git" and text[found.end() : found.end() + 1] == ":":
                continue
            yield Finding(found.start(1), found.end(), EMAIL, f"{local}@{domain}".lower())
    if spelled_out(text):
        for found in _SPELLED.finditer(text):
            yield Finding(
                found.start(),
                found.end(),
                EMAIL,
                f"{found[1]}@{_DOT_ALONE.sub('.', found[2])}".lower().replace(" ", ""),
            )


def spelled_out(text: str) -> bool:
    """Whether the sign may be written as a word in brackets somewhere: a cheap look beforehand."""
    return ("(" in text or "[" in text or "{" in text or "<" in text) and _AT_ALONE.search(text) is not None


_AT_ALONE: Final = re.compile(r"[\[({<]\s?(?:at|AT|At|ät|arroba|chez|chiocciola)\s?[\])}>]")
