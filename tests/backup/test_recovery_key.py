"""The recovery key as people use it: written down, typed back, mistyped."""

import random

import pytest

from btmd.backup.recovery_key import ALPHABET, KEY_BYTES, read_recovery_key, write_recovery_key
from btmd.errors import RecoveryKeyMistyped

KEYS = [random.Random(seed).randbytes(KEY_BYTES) for seed in range(20)] + [bytes(KEY_BYTES), b"\xff" * KEY_BYTES]


@pytest.mark.parametrize("key", KEYS)
def test_it_comes_back_however_it_is_typed(key: bytes) -> None:
    text = write_recovery_key(key)
    assert [len(group) for group in text.split("-")] == [5] * 9
    loose = text.lower().replace("-", "  ").replace("0", "o").replace("1", "l")
    assert read_recovery_key(text) == read_recovery_key(loose) == key


@pytest.mark.parametrize("key", KEYS[:3])
def test_every_wrong_character_names_its_group(key: bytes) -> None:
    text = write_recovery_key(key)
    for at, right in enumerate(text):
        for wrong in ALPHABET:
            if right not in ("-", wrong):
                with pytest.raises(RecoveryKeyMistyped, match=f"Group {at // 6 + 1} "):
                    read_recovery_key(text[:at] + wrong + text[at + 1 :])


@pytest.mark.parametrize("key", KEYS[:3])
def test_exchanged_characters_and_groups_are_seen(key: bytes) -> None:
    groups = write_recovery_key(key).split("-")
    for place, group in enumerate(groups):
        for at in range(4):
            swapped = group[:at] + group[at + 1] + group[at] + group[at + 2 :]
            if swapped != group:
                with pytest.raises(RecoveryKeyMistyped, match=f"Group {place + 1} "):
                    read_recovery_key("-".join([*groups[:place], swapped, *groups[place + 1 :]]))
    for left in range(8):
        other = groups.copy()
        other[left], other[left + 1] = groups[left + 1], groups[left]
        with pytest.raises(RecoveryKeyMistyped, match=f"Group {left + 1} "):
            read_recovery_key("-".join(other))


def test_a_group_of_another_key_is_seen() -> None:
    mine, foreign = (write_recovery_key(key).split("-") for key in KEYS[:2])
    with pytest.raises(RecoveryKeyMistyped, match="do not belong together"):
        read_recovery_key("-".join([*mine[:3], foreign[3], *mine[4:]]))


def test_a_group_too_few_or_too_many_is_told_with_the_count() -> None:
    groups = write_recovery_key(KEYS[0]).split("-")
    with pytest.raises(RecoveryKeyMistyped, match="40 characters were typed, the key has 45"):
        read_recovery_key("-".join(groups[:8]))
    with pytest.raises(RecoveryKeyMistyped, match="50 characters were typed"):
        read_recovery_key("-".join([*groups, "00000"]))
    with pytest.raises(RecoveryKeyMistyped, match="Group 3 "):
        read_recovery_key("-".join([*groups[:2], *groups[3:]]))
    with pytest.raises(RecoveryKeyMistyped):
        read_recovery_key("")
