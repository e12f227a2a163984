"""Keys, tokens and passwords: known forms, what stands behind the word for one, and what looks random."""

import math
import operator
import re
from collections.abc import Iterator
from typing import Final

from btmd.privacy.finding import KEY, Finding

_PEM: Final = re.compile(
    r"-----BEGIN (?P<what>[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?)-----"
    r"(?:.{0,20000}?-----END (?P=what)-----|[A-Za-z0-9+/=\s\\]*)",
    re.DOTALL,
)
_JWT: Final = re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.eyJ[\w-]{4,}(?:\.[\w-]*)?")
_KNOWN: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:AKIA|ASIA|AGPA|AIDA|AROA|ANPA|ANVA)[A-Z0-9]{16}"  # Amazon
    r"|gh[pousr]_[A-Za-z0-9]{30,255}|github_pat_[A-Za-z0-9_]{22,255}"
    r"|gl(?:pat|dt|rt|cbt|ptt|soat)-[\w-]{20,255}"  # GitLab
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,255}|xapp-\d-[A-Za-z0-9-]{10,255}"  # Slack
    r"|(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{10,255}|whsec_[A-Za-z0-9+/=]{24,255}"  # Stripe
    r"|sk-(?:proj-|ant-|or-|svcacct-|admin-)?[\w-]{20,255}"  # OpenAI, Anthropic and others
    r"|AIza[\w-]{35}|ya29\.[\w-]{20,255}|GOCSPX-[\w-]{20,64}"  # Google
    r"|SG\.[\w-]{16,64}\.[\w-]{16,64}"  # SendGrid
    r"|(?:SK|AC)[0-9a-f]{32}"  # Twilio
    r"|npm_[A-Za-z0-9]{30,64}|pypi-[\w-]{40,255}|hf_[A-Za-z0-9]{30,64}|r8_[A-Za-z0-9]{30,64}"
    r"|do[opr]_v1_[0-9a-f]{40,80}|shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}|key-[0-9a-f]{32}"
    r"|\d{8,10}:AA[\w-]{32,34}"  # Telegram
    r"|lin_api_[A-Za-z0-9]{30,64}|ntn_[A-Za-z0-9]{30,64}|secret_[A-Za-z0-9]{40,64}|glc_[A-Za-z0-9+/=]{30,255}"
    r"|dckr_pat_[\w-]{20,64}|atlasv1\.[\w-]{20,128}|hvs\.[\w-]{20,128}|tfp_[\w-]{20,64}|age-secret-key-1[a-z0-9]{50,}"
    r"|AGE-SECRET-KEY-1[A-Z0-9]{50,}|sq0(?:atp|csp)-[\w-]{20,64}|EAA[A-Za-z0-9]{60,255}"
    r")(?![A-Za-z0-9])"
)
_LONG_RUN: Final = re.compile(r"[A-Za-z0-9_+/=.-]{16}")
_IN_ADDRESS: Final = re.compile(r"(?<=://)[^\s:/@]{1,100}:[^\s/@]{1,200}(?=@)")
_NAMED: Final = re.compile(
    r"(?=[abcejkmpst])"  # Every beginning of what follows: most places of a text are passed over with one look.
    r"(?:(?:api|access|private|secret|account|encryption)[\s_-]?key|pass(?:word|wort|phrase|wd)|\bpwd|secret|token|"
    r"schlüssel|kennwort|mot de passe|contraseña|clave(?: api| secreta| de acceso)?|"
    r"chiave(?: api| segreta| di accesso)?|clé(?: api| secrète| d'accès)?|jeton|bearer|credentials?|authorization|"
    r"parola d'ordine|\bkey)(?:[_-][A-Za-z]{1,20}){0,2}"
    r"(?=[\s\"'`*_:=])[\"'`*_]{0,3}\s{0,3}(?:is|ist|lautet|est|es|è|:|=|=>|:=)?\s{0,3}(?:basic\s|bearer\s|token\s)?"
    r"[\"'`*]{0,3}([^\s\"'`<>,;(){}\[\]&]{6,400})",
    re.IGNORECASE,
)
_ASSIGNED: Final = re.compile(r"(?:[:=]|\b(?:is|ist|lautet|est|es)\b|è)[\s\"'`*]*\Z", re.IGNORECASE)
_RANDOM: Final = re.compile(r"(?<![\w+/=.-])[A-Za-z0-9_+/-]{32,400}={0,2}(?![\w+/=-])")
_HEXADECIMAL: Final = re.compile(r"(?:0x)?[0-9a-fA-F]+")
_UUID: Final = re.compile(r"\{?[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\}?")
_HASH_BEFORE: Final = re.compile(
    r"(?:sha-?\d*|md5|hash|commit|digest|checksum|integrity|prüfsumme|etag|revision|base64,?|fingerprint)[\w\s:=\"'-]{0,12}\Z",
    re.IGNORECASE,
)
_BLOCK_ABOVE: Final = re.compile(r"[A-Za-z0-9+/]{16,}={0,2}[\"'\\n]*\s+[br\"']*\Z")
_BLOCK_BELOW: Final = re.compile(r"[\"'\\n]*\s+[br\"']*[A-Za-z0-9+/]{16,}")
_PASSWORDS: Final = ("pass", "pwd", "kennw", "mot", "contra", "clav", "parola")
_HASH_NAMED: Final = re.compile(r"(?:sha|md)-?\d{1,3}[-:=]", re.IGNORECASE)
_WORD_IN_ONE: Final = re.compile(r"[a-z]{4,}")
_TRAILING: Final = ".:*_|\\"
_KINDS: Final = {code: "0" if chr(code).isdigit() else "a" if chr(code).islower() else "A" for code in range(128)}
_LEAST_BITS, _LEAST_BITS_NAMED = 4.2, 3.0
_LEAST_NAMED, _LEAST_LETTERS, _LEAST_PASSWORD = 16, 30, 6


def keys(text: str) -> Iterator[Finding]:
    """Keys, tokens and passwords; hashes, ids of commits and UUIDs are none."""
    if "-----BEGIN" in text:
        for found in _PEM.finditer(text):
            yield _key(found.start(), found.end(), found[0])
    if "://" in text and "@" in text:
        for found in _IN_ADDRESS.finditer(text):
            yield _key(found.start(), found.end(), found[0])
    if _may_name_a_secret(text.lower()):
        yield from _named(text)
    if "eyJ" in text:
        for found in _JWT.finditer(text):
            yield _key(found.start(), found.end(), found[0])
    if _LONG_RUN.search(text) is None:
        return
    for found in _KNOWN.finditer(text):
        yield _key(found.start(), found.end(), found[0])
    for found in _RANDOM.finditer(text):
        before, after = text[max(0, found.start() - 40) : found.start()], text[found.end() : found.end() + 40]
        if not _looks_random(found[0]) or _HASH_BEFORE.search(before):
            continue
        # Lines of the same kind above or below: a file's contents as text, not a key.
        if not (_BLOCK_ABOVE.search(before) or _BLOCK_BELOW.match(after)):
            yield _key(found.start(), found.end(), found[0])


def _may_name_a_secret(lowered: str) -> bool:
    # Written out: this is asked of every text with a digit, and a loop takes three times as long.
    return (
        "pass" in lowered
        or "key" in lowered
        or "token" in lowered
        or "secret" in lowered
        or "schlüssel" in lowered
        or "kennwort" in lowered
        or "clave" in lowered
        or "contrase" in lowered
        or "chiave" in lowered
        or "parola" in lowered
        or "clé" in lowered
        or "jeton" in lowered
        or "bearer" in lowered
        or "pwd" in lowered
        or "credential" in lowered
        or "authoriz" in lowered
    )


def _named(text: str) -> Iterator[Finding]:
    for found in _NAMED.finditer(text):
        value = found[1].rstrip(_TRAILING)
        name = text[found.start() : found.start(1)].lower()
        if _secret(
            value,
            assigned=_ASSIGNED.search(text, found.start(), found.start(1)) is not None,
            password=name.startswith(_PASSWORDS),
            bearer=name.startswith(("bearer", "authorization")),
        ):
            yield _key(found.start(1), found.start(1) + len(value), value)


def _secret(value: str, *, assigned: bool, password: bool, bearer: bool) -> bool:
    """Whether what stands behind the word is the thing itself and not the sentence going on."""
    if len(value) < _LEAST_PASSWORD or _UUID.fullmatch(value):
        return False
    if not any(map(str.isdigit, value)):
        # Words have no place for chance: only what is long and mixed up can be a key without a digit.
        return assigned and len(value) >= _LEAST_LETTERS and _mixed_up(value)
    if value.isdigit() or "://" in value or value.startswith(("$", "%", "/")):
        # A PIN behind the word password is one all the same.
        return assigned and password and value.isdigit()
    mixed = any(map(str.isalpha, value)) or any(not one.isalnum() for one in value)
    if password:
        return assigned and mixed
    return (
        mixed and (assigned or bearer) and len(value) >= _LEAST_NAMED and bits_per_character(value) >= _LEAST_BITS_NAMED
    )


def _looks_random(value: str) -> bool:
    if _HEXADECIMAL.fullmatch(value) or _UUID.fullmatch(value) or _HASH_NAMED.match(value):
        return False
    has = (any(map(str.isdigit, value)), any(map(str.islower, value)), any(map(str.isupper, value)))
    return all(has) and _mixed_up(value)


def _mixed_up(value: str) -> bool:
    # Paths, names with dashes and words put together hold words, and change their kind of character seldom.
    return (
        value.count("/") + value.count("-") + value.count("_") <= len(value) // 10
        and bits_per_character(value) >= _LEAST_BITS
        and _changes(value) >= len(value) // 3
        and sum(map(len, _WORD_IN_ONE.findall(value))) < len(value) // 3
    )


def bits_per_character(text: str) -> float:
    """Shannon's entropy of the text's characters."""
    counts = [count for count in map(text.count, set(text)) if count > 1]
    repeated: float = sum(map(operator.mul, counts, map(math.log2, counts)))
    return math.log2(len(text)) - repeated / len(text)


def _changes(text: str) -> int:
    kinds = text.translate(_KINDS) if text.isascii() else "".join(map(_kind, text))
    return sum(map(operator.ne, kinds, kinds[1:]))


def _kind(character: str) -> str:
    return "0" if character.isdigit() else "a" if character.islower() else "A"


def _key(start: int, end: int, value: str) -> Finding:
    return Finding(start, end, KEY, value)
