"""The recovery key: 160 random bits as groups to write down, type back, and mistype with a helpful answer.

Eight groups of five characters out of 32 (digits and letters without I, L, O and U, as in Crockford's base 32). The
first four characters of a group are key, the fifth is a check over them and the group's place: a linear code over
GF(32), so that every single wrong character, every exchange of two characters of a group, and every exchange of two
groups that are not equal is seen, and the group that does not fit is named. A ninth group checks the whole.
"""

import hashlib

from btmd.errors import RecoveryKeyMistyped

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
KEY_BYTES = 20
GROUPS = 8

_READ_AS = {"O": "0", "I": "1", "L": "1", "U": "V"}
_FIELD_POLYNOMIAL = 0b100101  # x^5 + x^2 + 1, irreducible over GF(2); x generates all 31 non-zero elements


def write_recovery_key(key: bytes) -> str:
    """The key in words of five characters, joined by ``-``."""
    number = int.from_bytes(key, "big")
    values = [number >> 5 * at & 31 for at in reversed(range(GROUPS * 4))]
    groups = [values[at : at + 4] for at in range(0, GROUPS * 4, 4)] + [_overall(key)]
    return "-".join(_text([*group, _check(group, place)]) for place, group in enumerate(groups, 1))


def read_recovery_key(text: str) -> bytes:
    """The key again; blanks, dashes and case do not matter. Raises RecoveryKeyMistyped, naming the group."""
    typed = "".join(_READ_AS.get(char, char) for char in text.upper() if char.isalnum())
    wanted = (GROUPS + 1) * 5
    groups = [typed[at : at + 5] for at in range(0, len(typed), 5)]
    for place, group in enumerate(groups[: GROUPS + 1], 1):
        values = [ALPHABET.find(char) for char in group]
        if len(group) < 5 or -1 in values or _check(values[:4], place) != values[4]:
            raise _mistyped(f"Group {place} ({group}) does not fit", len(typed), wanted)
    if len(typed) != wanted:
        raise _mistyped(f"{GROUPS + 1} groups of 5 characters were expected", len(typed), wanted)
    number = 0
    for char in "".join(group[:4] for group in groups[:GROUPS]):
        number = number << 5 | ALPHABET.index(char)
    key = number.to_bytes(KEY_BYTES, "big")
    if _text(_overall(key)) != groups[GROUPS][:4]:
        raise _mistyped("Every group fits by itself, but they do not belong together", wanted, wanted)
    return key


def _mistyped(what: str, typed: int, wanted: int) -> RecoveryKeyMistyped:
    count = "" if typed == wanted else f" {typed} characters were typed, the key has {wanted}."
    return RecoveryKeyMistyped(f"{what}.{count}", hint="Compare with what was written down and type it again.")


def _overall(key: bytes) -> list[int]:
    number = int.from_bytes(hashlib.sha256(b"btmd recovery key\n" + key).digest()[:4], "big")
    return [number >> 5 * at & 31 for at in range(4)]


def _check(values: list[int], place: int) -> int:
    """The sum of x^k * value_k and of the group's place, in GF(32): one wrong value, or two exchanged, change it."""
    total, weight = place, 1
    for value in values:
        weight = _times_x(weight)
        total ^= _product(weight, value)
    return total


def _product(left: int, right: int) -> int:
    result = 0
    while right:
        if right & 1:
            result ^= left
        left, right = _times_x(left), right >> 1
    return result


def _times_x(value: int) -> int:
    value <<= 1
    return value ^ _FIELD_POLYNOMIAL if value & 32 else value


def _text(values: list[int]) -> str:
    return "".join(ALPHABET[value] for value in values)
